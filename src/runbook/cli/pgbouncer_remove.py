"""`runbook pgbouncer remove NAME`: its services back to PostgreSQL itself, and it stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runbook.cli import options
from runbook.cli.pgbouncer_introduce import behind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runbook.model.history import TaskTold
    from runbook.model.ports import Journal, KeptRun

_INTRODUCE = "introduce-pgbouncer"
#: The step of it that leads services there, one item each.
_LEADS = "lead-to-pgbouncer["
#: Runs among which the introduction is looked for.
_LOOKED_THROUGH = 10_000
#: How a host's settings ended where that run has left nothing to put back.
_NOT_OURS = frozenset({"as it was", "there already", "put back"})


@click.command("remove")
@click.argument("name")
@click.option(
    "--service",
    "services",
    multiple=True,
    help="Lead back this service alone, and leave PgBouncer running; may be given several times.",
)
@click.option(
    "--run",
    "run_id",
    metavar="RUN",
    help="The run that introduced it: settings become, to the byte, what they were before it."
    " The last one of it, when left out; connection strings are led to the server behind it where"
    " there is none, or with -p run=.",
)
@click.option("--keep", is_flag=True, help="Leave PgBouncer running.")
@click.option("--purge", is_flag=True, help="Take package, files, role and function away, too.")
@options.inventory
@options.parameters
@options.limit
@options.dry_run
@options.yes
@options.incident
@options.steal_lock
@options.output("text", "json")
def command(
    name: str,
    services: tuple[str, ...],
    run_id: str | None,
    keep: bool,
    purge: bool,
    inventory: str | None,
    params: tuple[str, ...],
    limit: str | None,
    dry_run: bool,
    yes: bool,
    incident: str | None,
    steal_lock: bool,
    output_format: str,
) -> int:
    """Lead services back from the PgBouncer NAME, gated; then stop and disable it.

    It is stopped once its last client has left. Package and files stay, unless --purge is given.
    """
    from runbook import wiring
    from runbook.cli.running import Request, exit_code, run_playbook
    from runbook.rendering.summary import present

    if keep and purge:
        raise click.UsageError("--keep leaves it running, and --purge takes it away: choose one")
    fleet = wiring.load_fleet(inventory)
    every = behind(fleet, name)
    some = bool(services) and set(services) != set(every)
    if some and purge:
        raise click.UsageError("--purge takes it away from every service: leave --service out")
    given: dict[str, Any] = {
        "pgbouncer": name,
        "services": ",".join(services or every),
        "keep": keep or some or limit is not None,
        "purge": purge,
        **({"run": run_id} if run_id else {}),
        **options.parse_parameters(params),
    }
    if "run" not in given:
        given.update(_found(name, services or every))
    outcome = run_playbook(
        Request(
            playbook="remove-pgbouncer",
            target=fleet.pgbouncer(name).database,
            params=given,
            limit=limit,
            rehearsal=dry_run,
            yes=yes,
            incident=incident,
            steal_lock=steal_lock,
        ),
        fleet,
    )
    present(outcome, output_format)
    return exit_code(outcome)


def _found(name: str, services: Sequence[str]) -> dict[str, str]:
    """Return the run that led these services to a PgBouncer, as a parameter, and say which."""
    from runbook import wiring
    from runbook.rendering.consoles import notes

    journal = wiring.open_journal()
    try:
        runs = list(introductions(journal, name, services))
    finally:
        journal.close()
    if not runs:
        told = f"No run of {_INTRODUCE} is known that led them to {name}: their connection strings"
        notes().print(f"{told} are led to the server behind it.", soft_wrap=True)
        return {}
    notes().print(
        f"Settings are put back as they were before run {runs[0]}, which led them to {name};"
        " -p run= leads connection strings to the server behind it instead.",
        soft_wrap=True,
    )
    if runs[1:]:
        earlier = ", ".join(runs[1:4])
        notes().print(f"Earlier runs led hosts there, too: {earlier} (--run).", soft_wrap=True)
    return {"run": runs[0]}


def introductions(journal: Journal, name: str, services: Sequence[str]) -> Iterator[str]:
    """Yield the runs that led one of these services to a PgBouncer, newest first."""
    from runbook.cli.runs_find import damage_told
    from runbook.engine.names import item_slug

    wanted = {item_slug(service) for service in services}
    for record in journal.runs(_LOOKED_THROUGH):
        if record.playbook != _INTRODUCE or record.rehearsal:
            continue
        kept = journal.run(record.run_id)
        if kept is None:
            continue
        with damage_told(journal, kept):
            moved = _moved(kept, name)
        if moved & wanted:
            yield record.run_id


def _moved(kept: KeptRun, name: str) -> set[str]:
    """Return the services of which a run has, or may have, put new settings on a host, as keys."""
    from runbook.engine.history import history_of

    history = history_of(kept)
    if history.params.get("pgbouncer") != name:
        return set()
    return {
        task.node.removeprefix(_LEADS).removesuffix("]")
        for task in history.tasks
        if task.phase == "restart" and task.node.startswith(_LEADS) and _put(task)
    }


def _put(task: TaskTold) -> bool:
    settings = task.result.data.get("settings") if task.result is not None else None
    state = settings.get("state") if isinstance(settings, dict) else None
    return state not in _NOT_OURS
