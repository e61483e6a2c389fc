"""`runbook runs`: what was run on this machine, by whom, and what came of it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from runbook.cli import options
from runbook.cli.runs_answer import approve, cancel
from runbook.cli.runs_filter import Filter
from runbook.cli.runs_find import damage_told, find_run, standing
from runbook.cli.runs_keep import prune, verify
from runbook.cli.runs_report import report
from runbook.cli.runs_resume import resume, work
from runbook.model.document import visible
from runbook.rendering.event_lines import line_of

if TYPE_CHECKING:
    from runbook.model.ports import KeptRun


@click.group("runs")
def command() -> None:
    """List and show what was run on this machine, and go on with it."""


#: Commands that have a file of their own.
for _command in (resume, approve, cancel, report, verify, prune, work):
    command.add_command(_command)


@command.command("list")
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--target", metavar="NAME", help="Only runs on it.")
@click.option("--playbook", metavar="NAME", help="Only runs of it.")
@click.option("--incident", metavar="ID", help="Only runs for it.")
@click.option("--since", metavar="AGE", help="Only runs that began since: 24h, 7d, 2026-11-23.")
@click.option(
    "--open",
    "only_open",
    is_flag=True,
    help="Only runs without an end, or that still owe something.",
)
@options.output("text", "json")
def list_(limit: int, output_format: str, **wanted: Any) -> None:
    """List the newest runs first."""
    from runbook import wiring

    chosen = Filter.of(**wanted)
    journal = wiring.open_journal()
    records = chosen.of_journal(journal, limit)
    owing = journal.owing([record.run_id for record in records])
    if output_format == "json":
        click.echo(json.dumps([asdict(record) for record in records], indent=2))
        return
    if not records:
        click.echo("no such runs" if chosen.narrows else "no runs yet")
    for record in records:
        kind = f"{record.playbook} {record.target or ''}".strip()
        dry = " (rehearsal)" if record.rehearsal else ""
        click.echo(
            f"{record.run_id}  {_date(record.started_at)}  {standing(record):<16} {kind}{dry}"
            f"  by {record.who}"
            + (f", and OWES: runbook runs resume {record.run_id}" if record.run_id in owing else "")
            + (f" for {visible(record.incident)}" if record.incident else "")
        )


@command.command("show")
@click.argument("run_id")
@options.output("text", "json")
def show(run_id: str, output_format: str) -> None:
    """Show one run: who, why, what was seen, what was done, what came of it.

    RUN_ID may be cut short, as long as it is unambiguous; `last` is the newest.
    """
    from runbook import wiring

    journal = wiring.open_journal()
    found = find_run(journal, run_id)
    if output_format == "json":
        events = [asdict(event) for event in found.events]
        whole = {"run": asdict(found.record), "plan": found.plan, "events": events}
        click.echo(json.dumps(whole, indent=2))
        return
    with damage_told(journal, found):
        _text(found)


def _text(kept: KeptRun) -> None:
    record = kept.record
    click.echo(f"run       {record.run_id}{'  (rehearsal)' if record.rehearsal else ''}")
    click.echo(f"playbook  {record.playbook} {record.target or ''}".rstrip())
    click.echo(
        f"by        {record.who}" + (f", for {visible(record.incident)}" if record.incident else "")
    )
    click.echo(f"status    {standing(record)}")
    click.echo(f"plan      {record.plan_hash}\n")
    _timeline(kept)
    for event in kept.events:
        line = line_of(event)
        if line is not None:
            at = time.strftime("%H:%M:%S", time.localtime(event.at))
            click.echo(f"{at}  {visible(event.task or ''):<32} {visible(line)}".rstrip())


def _timeline(kept: KeptRun) -> None:
    """Show who was at what and when, one line a target, where there is more than one."""
    from runbook.engine.history import history_of
    from runbook.rendering.report_markdown import timeline_rows
    from runbook.rendering.report_sections import timeline

    for drawn in timeline(history_of(kept), most=_DRAWN):
        if len(drawn.rows) > 1:
            click.echo("\n".join((*timeline_rows(drawn), "")))


#: Targets of the timeline on a screen; a report has more.
_DRAWN = 20


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
