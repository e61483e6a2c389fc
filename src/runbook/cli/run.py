"""`runbook run PLAYBOOK [TARGET]`: any playbook, shipped or one's own."""

from __future__ import annotations

import click

from runbook.cli import options, telling


@click.command("run")
@click.argument("playbook")
@click.argument("target", required=False)
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
    playbook: str,
    target: str | None,
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
    """Run PLAYBOOK: the name of a shipped one, or a path; TARGET is what it is pointed at."""
    from runbook import wiring
    from runbook.cli.running import Request, exit_code, run_playbook
    from runbook.rendering.summary import present

    given = options.parse_parameters(params)
    fleet = wiring.load_fleet(inventory)
    with telling.telling(pd_incident, config) as told:
        request = Request(
            playbook=playbook,
            target=target,
            params=given,
            limit=limit,
            tags=tags,
            skip_tags=skip_tags,
            rehearsal=dry_run,
            yes=yes,
            incident=incident or pd_incident,
            told=told,
            steal_lock=steal_lock,
        )
        outcome = run_playbook(request, fleet)
        present(outcome, output_format)
    return exit_code(outcome)
