"""`runbook doctor [TARGET]`: on a quiet day, would every door open?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runbook.cli import options

if TYPE_CHECKING:
    from runbook.model.doctor import DoctorReport
    from runbook.model.fleet import Fleet


@click.command("doctor")
@click.argument("target", required=False)
@options.inventory
@options.output("text", "json")
@click.option("-v", "--all", "show_all", is_flag=True, help="Show each check that is fine as well.")
def command(target: str | None, inventory: str | None, output_format: str, show_all: bool) -> int:
    """Look whether every door would open tonight, and print what mends those that would not.

    TARGET is a database, with all that belongs to it: its host, its services, their hosts, its
    PgBouncers. Without it, everything in the inventory. It changes nothing.

    Exit code 0: every door would open, warnings or not. 1: something is missing.
    """
    from runbook import wiring

    report = examine(wiring.load_fleet(inventory), target)
    if output_format == "json":
        click.echo(report.model_dump_json(indent=2))
    else:
        from runbook.rendering.consoles import results
        from runbook.rendering.doctor import render

        render(report, results(), show_all=show_all)
    return 0 if report.well else 1


def examine(fleet: Fleet, target: str | None) -> DoctorReport:
    """Run the shipped playbook and return its report.

    Raises:
        RunbookError: when the target is no database, or the looks did not come to an end.
    """
    from runbook.cli.running import EXIT_CODES, Request, run_playbook
    from runbook.model.doctor import DoctorReport
    from runbook.model.errors import ExitCode, Interrupted, StepFailed

    request = Request(playbook="doctor", target=None, params=_params(target), quiet=True)
    outcome = run_playbook(request, fleet)
    result = outcome.steps[0].result
    if result is not None and "report" in result.data:
        return DoctorReport.model_validate(result.data["report"])
    if EXIT_CODES[outcome.finish.status] == ExitCode.INTERRUPTED:
        raise Interrupted("interrupted: not everything was looked at")
    why = outcome.finish.reason if result is None else result.summary
    raise StepFailed(
        f"the doctor did not come to its end: {why}", hint=result.hint if result else None
    )


def _params(target: str | None) -> dict[str, str]:
    return {} if target is None else {"database": target}
