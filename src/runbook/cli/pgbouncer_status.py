"""`runbook pgbouncer status [TARGET]`: who waits at which PgBouncer, and for what?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runbook.cli import options

if TYPE_CHECKING:
    from runbook.model.bouncer_status import BouncersReport
    from runbook.model.fleet import Fleet


@click.command("status")
@click.argument("target", required=False)
@options.inventory
@options.output("text", "json")
def command(target: str | None, inventory: str | None, output_format: str) -> int:
    """Show the pools of PgBouncers: who waits, for how long, and which limit binds.

    TARGET is a PgBouncer, or a database with those in front of it. Without it, every PgBouncer of
    the inventory. It changes nothing.

    Exit code 0: nobody waits. 1: clients wait or are refused, something is paused or disabled, or a
    console does not answer.
    """
    from runbook import wiring

    report = examine(wiring.load_fleet(inventory), target)
    if output_format == "json":
        click.echo(report.model_dump_json(indent=2))
    else:
        from runbook.rendering.bouncers import render
        from runbook.rendering.consoles import results

        render(report, results())
    return 0 if report.well else 1


def examine(fleet: Fleet, target: str | None) -> BouncersReport:
    """Run the shipped playbook and return its report.

    Raises:
        RunbookError: when there is no such PgBouncer, or the looks did not come to an end.
    """
    from runbook.cli.running import EXIT_CODES, Request, run_playbook
    from runbook.model.bouncer_status import BouncersReport
    from runbook.model.errors import ExitCode, Interrupted, StepFailed

    params = {} if target is None else {"of": target}
    request = Request(playbook="pgbouncer-status", target=None, params=params, quiet=True)
    outcome = run_playbook(request, fleet)
    result = outcome.steps[0].result
    if result is not None and "report" in result.data:
        return BouncersReport.model_validate(result.data["report"])
    if EXIT_CODES[outcome.finish.status] == ExitCode.INTERRUPTED:
        raise Interrupted("interrupted: not every PgBouncer was looked at")
    why = outcome.finish.reason if result is None else result.summary
    hint = result.hint if result else None
    raise StepFailed(f"the look did not come to its end: {why}", hint=hint)
