"""`runbook diagnose TARGET`: why is this database saturated, and whose connections are those?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runbook.cli import options

if TYPE_CHECKING:
    from runbook.model.diagnosis import Diagnosis
    from runbook.model.errors import RunbookError
    from runbook.model.fleet import Fleet
    from runbook.model.plan import Result


@click.command("diagnose")
@click.argument("target")
@options.inventory
@options.output("text", "json", "markdown")
@click.option("--check", is_flag=True, help="Answer as a monitoring plugin: one line, exit 0 to 3.")
@click.option("--warning", default=80, show_default=True, help="--check: warn at this % of slots.")
@click.option("--critical", default=90, show_default=True, help="--check: critical at this %.")
@options.incident
def command(
    target: str,
    inventory: str | None,
    output_format: str,
    check: bool,
    warning: int,
    critical: int,
    incident: str | None,
) -> int:
    """Say why the database TARGET is out of connections: the cause, the owners, the evidence.

    It opens one connection for a moment, and changes nothing.
    """
    from runbook.cli.rendering.monitoring import check as plugin
    from runbook.cli.rendering.monitoring import from_error
    from runbook.model.errors import RunbookError

    if not 0 < warning <= critical <= 100:
        raise click.BadParameter("0 < --warning <= --critical <= 100", param_hint="--warning")
    try:
        diagnosis = _diagnose(target, inventory, incident, journal=not check)
    except RunbookError as error:
        if not check:
            raise
        line, code = from_error(target, error)
        click.echo(line)
        return code
    if check:
        line, code = plugin(diagnosis, warning=warning, critical=critical)
        click.echo(line)
        return code
    show(diagnosis, output_format)
    return 0


def _diagnose(
    target: str, inventory: str | None, incident: str | None, *, journal: bool
) -> Diagnosis:
    from runbook import wiring

    return diagnose(wiring.load_fleet(inventory), target, incident, journal=journal)


def diagnose(fleet: Fleet, target: str, incident: str | None, *, journal: bool = True) -> Diagnosis:
    """Run the shipped playbook and return its diagnosis.

    Raises:
        RunbookError: when no door of the database opens, or the target is none.
    """
    from runbook.cli.running import Request, run_playbook
    from runbook.model.diagnosis import Diagnosis

    request = Request(
        playbook="diagnose-saturation",
        target=target,
        incident=incident,
        quiet=True,
        journal=journal,
    )
    outcome = run_playbook(request, fleet)
    result = outcome.steps[0].result
    if result is None or not result.good:
        raise _failure(result, outcome.finish.reason)
    return Diagnosis.model_validate(result.data["diagnosis"])


def _failure(result: Result | None, reason: str) -> RunbookError:
    """Return what went wrong as an error; a monitoring check tells a full server from others."""
    from runbook.model.errors import SlotRefused, StepFailed

    if result is None:
        return StepFailed("the diagnosis did not come to its end", hint=reason)
    kind = SlotRefused if result.data.get("error") == SlotRefused.__name__ else StepFailed
    return kind(result.summary, hint=result.hint or None)


def show(diagnosis: Diagnosis, output_format: str) -> None:
    """Write a diagnosis to stdout."""
    if output_format == "json":
        click.echo(diagnosis.model_dump_json(indent=2))
    elif output_format == "markdown":
        from runbook.cli.rendering.diagnosis_markdown import render as markdown

        click.echo(markdown(diagnosis))
    else:
        from runbook.cli.rendering.consoles import results
        from runbook.cli.rendering.diagnosis_text import render as text

        text(diagnosis, results())
