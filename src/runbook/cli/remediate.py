"""`runbook remediate [TARGET]`: the smallest safe thing, shown before it is done."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from runbook.cli import options, telling

if TYPE_CHECKING:
    from runbook.cli.running import Request
    from runbook.model.fleet import Fleet

#: The flags of this command that a diagnosis may name as its next command, and their playbooks.
#: A finding that names none has no remedy that is safe without a person's judgement.
REMEDIES = {
    "--terminate-idle": "terminate-idle",
    "--terminate-blocker": "terminate-blocker",
    "--rolling-restart": "rolling-restart",
}


@click.command("remediate")
@click.argument("target", required=False)
@click.option("--terminate-idle", is_flag=True, help="Terminate leaked idle sessions, guarded.")
@click.option(
    "--terminate-blocker", is_flag=True, help="Terminate the idle root of a lock pile-up."
)
@click.option("--rolling-restart", is_flag=True, help="Restart app servers in gated batches.")
@click.option("--service", help="--rolling-restart: which service, when TARGET has several.")
@options.inventory
@options.parameters
@options.limit
@options.tags
@options.skip_tags
@options.dry_run
@options.yes
@options.incident
@telling.options
@options.steal_lock
@options.output("text", "json")
def command(
    target: str | None,
    terminate_idle: bool,
    terminate_blocker: bool,
    rolling_restart: bool,
    service: str | None,
    inventory: str | None,
    params: tuple[str, ...],
    limit: str | None,
    tags: tuple[str, ...],
    skip_tags: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    incident: str | None,
    pd_incident: str | None,
    config: str | None,
    steal_lock: bool,
    output_format: str,
) -> int:
    """Relieve the database TARGET: show the exact sessions or units, ask, do it, prove it.

    Without a flag: diagnose, and propose the smallest fitting remedy.
    """
    from runbook import wiring
    from runbook.cli.running import Request

    chosen = [terminate_idle, terminate_blocker, rolling_restart]
    if sum(chosen) > 1:
        raise click.UsageError(
            "choose one of --terminate-idle, --terminate-blocker, --rolling-restart"
        )
    if service and not rolling_restart:
        raise click.UsageError("--service goes with --rolling-restart")
    if target is None and not rolling_restart:
        raise click.UsageError("name the database: runbook remediate TARGET")
    fleet = wiring.load_fleet(inventory)
    with telling.telling(pd_incident, config) as told:
        request = Request(
            playbook="",
            target=target,
            params=options.parse_parameters(params),
            limit=limit,
            tags=tags,
            skip_tags=skip_tags,
            rehearsal=dry_run,
            yes=yes,
            incident=incident or pd_incident,
            told=told,
            steal_lock=steal_lock,
        )
        if rolling_restart:
            of = _service(fleet, target, service)
            return _run(request, fleet, "rolling-restart", of, output_format)
        if terminate_idle or terminate_blocker:
            name = "terminate-idle" if terminate_idle else "terminate-blocker"
            return _run(request, fleet, name, str(target), output_format)
        return _propose(request, fleet, str(target), output_format)


def _run(request: Request, fleet: Fleet, playbook: str, target: str, output_format: str) -> int:
    from dataclasses import replace

    from runbook.cli.running import exit_code, run_playbook
    from runbook.rendering.summary import present

    outcome = run_playbook(replace(request, playbook=playbook, target=target), fleet)
    present(outcome, output_format)
    return exit_code(outcome)


def _propose(request: Request, fleet: Fleet, target: str, output_format: str) -> int:
    """Diagnose, and do the very command that the diagnosis names next."""
    from runbook.cli.diagnose import diagnose
    from runbook.rendering.consoles import notes
    from runbook.rendering.diagnosis_text import render

    diagnosis = diagnose(fleet, target, request.incident, told=request.told)
    render(diagnosis, notes())
    remedies = (remedy_of(f.command) for f in (diagnosis.finding, *diagnosis.also))
    remedy = next((remedy for remedy in remedies if remedy is not None), None)
    if remedy is None:
        notes().print(_no_remedy(diagnosis))
        return 0
    playbook, pointed_at = remedy
    notes().print(f"\nThe smallest remedy that fits: {playbook} of {pointed_at}.", style="bold")
    return _run(request, fleet, playbook, pointed_at, output_format)


def remedy_of(command: str | None) -> tuple[str, str] | None:
    """Return the playbook and its target that a diagnosis' next command stands for, or None."""
    words = shlex.split(command or "")
    if words[:2] != ["runbook", "remediate"]:
        return None
    flag = next((word for word in words if word in REMEDIES), None)
    if flag is None:
        return None
    target = words[words.index("--service") + 1] if "--service" in words else words[2]
    return REMEDIES[flag], target


def _no_remedy(diagnosis: Any) -> str:
    if diagnosis.healthy:
        return "\nNothing to remedy: nothing was changed."
    return (
        f"\nNothing here that runbook would do by itself about {diagnosis.finding.cause}:"
        " nothing was changed. What to do is said above."
    )


def _service(fleet: Fleet, target: str | None, service: str | None) -> str:
    """Return the one service that is meant.

    Raises:
        UsageError: when there is none, or more than one.
    """
    from runbook.model.errors import UsageError

    if service is not None:
        database = fleet.service(service).database
        if target is not None and database != target:
            raise UsageError(
                f"service {service!r} uses database {database!r}, not {target!r}",
                hint=f"runbook remediate {database} --rolling-restart --service {service}"
                if database
                else f"runbook remediate --rolling-restart --service {service}",
            )
        return service
    candidates = fleet.inventory.services
    if target is not None:
        fleet.database(target)
        candidates = fleet.services_of(target)
    if len(candidates) == 1:
        return next(iter(candidates))
    of = f" that use {target}" if target else ""
    raise UsageError(
        f"there are {len(candidates)} services{of}: {', '.join(candidates) or 'none'}",
        hint="name one with --service NAME" if candidates else "add one to the inventory",
    )
