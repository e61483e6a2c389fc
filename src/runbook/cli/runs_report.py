"""`runbook runs report ID`: one run, written up for a postmortem, a colleague or CI."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runbook.cli import options
from runbook.cli.runs_find import find_run, standing

if TYPE_CHECKING:
    from runbook.model.history import History


@click.command("report")
@click.argument("run_id")
@options.output("markdown", "html", "json", "junit")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write it there; else to stdout.",
)
def report(run_id: str, output_format: str, output: Path | None) -> None:
    """Write up one run: who, why, what was seen and done, when, and what came of it.

    RUN_ID may be cut short; `last` is the newest.
    """
    from runbook import wiring
    from runbook.engine.history import history_of

    kept = find_run(wiring.open_journal(), run_id)
    history = history_of(kept)
    if history.status == "no end":
        history = replace(history, status=standing(kept.record))
    written = _rendered(history, output_format)
    if output is None:
        click.echo(written, nl=False)
        return
    wiring.write_report(output, written)
    click.echo(f"Written to {output}", err=True)


def _rendered(history: History, output_format: str) -> str:
    from runbook.rendering import report_html, report_junit, report_markdown

    match output_format:
        case "html":
            return report_html.render(history)
        case "junit":
            return report_junit.render(history)
        case "json":
            return json.dumps({"schema_version": 1, **asdict(history)}, indent=2) + "\n"
        case _:
            return report_markdown.render(history)
