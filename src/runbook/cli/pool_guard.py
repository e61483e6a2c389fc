"""`runbook pool guard TARGET`: timeouts and limits of roles, proposed, set, taken back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from runbook.cli import options

if TYPE_CHECKING:
    from runbook.cli.running import Request
    from runbook.model.fleet import Fleet
    from runbook.model.ports import KeptRun
    from runbook.model.role_settings import RoleSetting

_PLAYBOOK = "guard-roles"


@click.command("guard")
@click.argument("target")
@click.option("--service", metavar="NAME", help="Only the role of this service.")
@click.option(
    "--idle-in-transaction",
    metavar="DURATION",
    help="What is proposed for a session that is silent in a transaction; 5m if left out.",
)
@click.option(
    "--transaction-timeout",
    metavar="DURATION",
    help="Propose this too (PostgreSQL 17 and later); it ends work that is under way.",
)
@click.option(
    "--set",
    "given",
    metavar="ROLE.NAME=VALUE",
    multiple=True,
    help="Set this instead of, or beside, what is proposed; may be given several times.",
)
@click.option(
    "--without",
    metavar="NAME",
    multiple=True,
    help="Leave out what is proposed for this parameter, as in connection_limit.",
)
@click.option("--apply", "apply_", is_flag=True, help="Set what is proposed, once confirmed.")
@click.option("--undo", metavar="RUN", help="Put back what that run of --apply has changed.")
@options.inventory
@options.dry_run
@options.yes
@options.incident
@options.steal_lock
@options.output("text", "json")
def command(
    target: str,
    service: str | None,
    idle_in_transaction: str | None,
    transaction_timeout: str | None,
    given: tuple[str, ...],
    without: tuple[str, ...],
    apply_: bool,
    undo: str | None,
    inventory: str | None,
    dry_run: bool,
    yes: bool,
    incident: str | None,
    steal_lock: bool,
    output_format: str,
) -> int:
    """Guard the database TARGET against the next leak: timeouts and limits of its services' roles.

    Proposes, with the side effects, and changes nothing; --apply sets it by ALTER ROLE.
    """
    from runbook import wiring
    from runbook.cli.running import Request

    if undo is not None and (apply_ or given or without or service):
        raise click.UsageError("--undo RUN puts back what that run changed: it takes nothing else")
    fleet = wiring.load_fleet(inventory)
    request = Request(
        playbook=_PLAYBOOK,
        target=target,
        rehearsal=dry_run,
        yes=yes,
        incident=incident,
        steal_lock=steal_lock,
    )
    if undo is not None:
        return _run(replace(request, params=_undoing(undo, target)), fleet, output_format)
    said = _lines(given)
    _check_names(without)
    proposal = _propose(
        fleet,
        target,
        {
            "service": service,
            "idle_in_transaction": idle_in_transaction,
            "transaction_timeout": transaction_timeout,
        },
    )
    settings = _chosen(proposal, said, without)
    proposal = {**proposal, "settings": [setting.line for setting in settings]}
    if not (apply_ or dry_run):
        _show(proposal, output_format, target)
        return 0
    if not settings:
        _show(proposal, output_format, target)
        return 0
    params = {"settings": proposal["settings"]}
    return _run(replace(request, params=params), fleet, output_format)


def _run(request: Request, fleet: Fleet, output_format: str) -> int:
    from runbook.cli.running import exit_code, run_playbook
    from runbook.rendering.summary import present

    outcome = run_playbook(request, fleet)
    present(outcome, output_format)
    if output_format == "text" and outcome.finish.status == "done" and "settings" in request.params:
        from runbook.rendering.consoles import notes

        undo = f"runbook pool guard {request.target} --undo {outcome.run_id}"
        notes().print(f"To take it back: `{undo}`", soft_wrap=True)
    return exit_code(outcome)


def _propose(fleet: Fleet, target: str, params: dict[str, str | None]) -> dict[str, Any]:
    """Run the playbook that looks, and return what it proposes.

    Raises:
        RunbookError: when it did not come to its end.
    """
    from runbook.cli.running import Request, run_playbook
    from runbook.model.errors import Interrupted, StepFailed

    said = {name: value for name, value in params.items() if value is not None}
    request = Request(
        playbook="propose-guards", target=target, params=said, quiet=True, journal=False
    )
    outcome = run_playbook(request, fleet)
    result = outcome.steps[0].result
    if outcome.stop_asked:
        raise Interrupted("interrupted: nothing was changed")
    if result is not None and "guards" in result.data:
        return result.data
    why = outcome.finish.reason if result is None else result.summary
    raise StepFailed(why, hint=result.hint if result else None)


def _lines(given: tuple[str, ...]) -> list[RoleSetting]:
    from runbook.model.role_settings import parse_line

    try:
        return [parse_line(line) for line in given]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--set") from None


def _check_names(without: tuple[str, ...]) -> None:
    from runbook.model.document import nearest
    from runbook.model.role_settings import NAMES

    for name in without:
        if name not in NAMES:
            near = nearest(name, NAMES)
            meant = f"did you mean {near}?" if near else f"there are: {', '.join(NAMES)}"
            raise click.BadParameter(f"{name!r} is no parameter: {meant}", param_hint="--without")


def _chosen(
    proposal: dict[str, Any], given: list[RoleSetting], without: tuple[str, ...]
) -> list[RoleSetting]:
    """What is proposed, with what the user says in its place or beside it."""
    from runbook.model.role_settings import parse_line

    proposed = (parse_line(line, exactly=True) for line in proposal["settings"])
    chosen = {setting.key: setting for setting in proposed if setting.name not in without}
    chosen |= {setting.key: setting for setting in given}
    return list(chosen.values())


def _show(proposal: dict[str, Any], output_format: str, target: str) -> None:
    if output_format == "json":
        import json

        click.echo(json.dumps({"schema_version": 1, **proposal}, indent=2))
        return
    from runbook.rendering.consoles import results
    from runbook.rendering.roles import show_proposal

    show_proposal(proposal, _next(target), results())


def _next(target: str) -> str:
    """The command that does what was shown: the same words, and `--apply`."""
    import shlex
    import sys

    words = sys.argv[1:] if sys.argv[1:3] == ["pool", "guard"] else ["pool", "guard", target]
    return shlex.join(["runbook", *words, "--apply"])


# ---- undo ----------------------------------------------------------------------------------


def _undoing(given: str, target: str) -> dict[str, Any]:
    """Return the parameters that put back what a run has changed.

    Raises:
        UsageError: for a run that changed no role, or another database's.
    """
    from runbook import wiring
    from runbook.cli.runs_find import damage_told, find_run

    journal = wiring.open_journal()
    try:
        kept = find_run(journal, given)
        with damage_told(journal, kept):
            return _before(kept, target)
    finally:
        journal.close()


def _before(kept: KeptRun, target: str) -> dict[str, Any]:
    from runbook.engine.history import history_of
    from runbook.model.errors import UsageError
    from runbook.model.role_settings import RoleSetting

    record = kept.record
    if record.playbook != _PLAYBOOK or record.rehearsal:
        what = "a rehearsal" if record.rehearsal else f"a run of {record.playbook}"
        raise UsageError(
            f"run {record.run_id} is {what}: there is nothing of it to take back here",
            hint="`runbook runs list` shows the runs of guard-roles",
        )
    if record.target != target:
        raise UsageError(
            f"run {record.run_id} was on {record.target}, not on {target}",
            hint=f"runbook pool guard {record.target} --undo {record.run_id}",
        )
    looked = [t.result.data for t in history_of(kept).tasks if t.phase == "prepare" and t.result]
    lines = [line for data in looked for line in data.get("lines", ()) if line["changes"]]
    if not lines:
        raise UsageError(f"run {record.run_id} changed nothing: there is nothing to put back")

    def written(when: str) -> list[str]:
        return [RoleSetting(role=x["role"], name=x["name"], value=x[when]).line for x in lines]

    params: dict[str, Any] = {"restore": written("before"), "expected": written("after")}
    if looked[0].get("in_database"):
        params["in_database"] = looked[0]["in_database"]
    return params
