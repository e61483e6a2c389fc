"""`runbook pgbouncer remove NAME`: its services back to PostgreSQL itself, and it stopped."""

from __future__ import annotations

from typing import Any

import click

from runbook.cli import options
from runbook.cli.pgbouncer_introduce import behind


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
    " Otherwise the connection strings are led to the server behind it.",
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
    from runbook.cli.rendering.summary import present
    from runbook.cli.running import Request, exit_code, run_playbook

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
