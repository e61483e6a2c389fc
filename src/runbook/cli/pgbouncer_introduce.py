"""`runbook pgbouncer introduce NAME`: a PgBouncer before a database, and its services behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runbook.cli import options

if TYPE_CHECKING:
    from runbook.model.fleet import Fleet


@click.command("introduce")
@click.argument("name")
@click.option(
    "--service",
    "services",
    multiple=True,
    help="A service that is led to it; may be given several times. All of its database's, if none.",
)
@click.option(
    "--mode",
    type=click.Choice(["session", "transaction", "statement"]),
    help="How it pools; the inventory's pool.mode, else what is proposed from what is seen.",
)
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
    mode: str | None,
    inventory: str | None,
    params: tuple[str, ...],
    limit: str | None,
    dry_run: bool,
    yes: bool,
    incident: str | None,
    steal_lock: bool,
    output_format: str,
) -> int:
    """Set up the PgBouncer NAME of the inventory, and lead services to it, canary first.

    It installs the distribution's package, makes its configuration from the pool budget, starts and
    proves it. Then it changes the connection string on each app server, restarts it, and sees it
    healthy before the next. `runbook pgbouncer remove NAME` is the way back, at any point.
    """
    from runbook import wiring
    from runbook.cli.running import Request, exit_code, run_playbook
    from runbook.rendering.summary import present

    fleet = wiring.load_fleet(inventory)
    database = fleet.pgbouncer(name).database
    said = options.parse_parameters(params)
    if not services and "services" not in said:
        _check_apart(name, behind(fleet, name), fleet)
    given: dict[str, Any] = {
        "pgbouncer": name,
        "services": ",".join(services or behind(fleet, name)),
        **({"mode": mode} if mode else {}),
        **said,
    }
    outcome = run_playbook(
        Request(
            playbook="introduce-pgbouncer",
            target=database,
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


def _check_apart(name: str, services: tuple[str, ...], fleet: Fleet) -> None:
    """See to it that no two services' connection strings are different values of one file.

    The first would change it under the second, which would stop there, with the first done. Who
    names the services has done the first already, or is told when the second's turn comes.

    Raises:
        Refused: when two services' are.
    """
    from runbook.model.errors import Refused
    from runbook.steps.rolling_args import RollingArgs, shared_file

    each = [
        RollingArgs.model_validate({"service": service, "url": {"pgbouncer": name}})
        for service in services
    ]
    shared = shared_file(each, fleet)
    if shared is not None:
        again = " ".join(f"--service {service}" for service in services)
        raise Refused(
            f"{shared}: no run can change both",
            hint=f"do one at a time: runbook pgbouncer introduce {name} --service {services[0]},"
            f" then with one more in each run, up to {again}: what is led there already is not"
            " written again",
        )


def behind(fleet: Fleet, name: str) -> tuple[str, ...]:
    """Return the services that use the database behind a PgBouncer.

    Raises:
        UsageError: when there is none.
    """
    from runbook.model.errors import UsageError

    database = fleet.pgbouncer(name).database
    services = tuple(fleet.services_of(database))
    if not services:
        raise UsageError(
            f"{fleet.source} has no service that uses {database!r}",
            hint=f"declare one, with `database: {database}` and settings.url",
        )
    return services
