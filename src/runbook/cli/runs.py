"""`runbook runs`: what was run on this machine, by whom, and what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from runbook.cli import options
from runbook.model.document import visible

if TYPE_CHECKING:
    from runbook.model.events import Event
    from runbook.model.ports import RunRecord


@click.group("runs")
def command() -> None:
    """List and show what was run on this machine."""


@command.command("list")
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
@options.output("text", "json")
def list_(limit: int, output_format: str) -> None:
    """List the newest runs first."""
    from runbook import wiring

    records = wiring.open_journal().runs(limit)
    if output_format == "json":
        click.echo(json.dumps([asdict(record) for record in records], indent=2))
        return
    if not records:
        click.echo("no runs yet")
    for record in records:
        kind = f"{record.playbook} {record.target or ''}".strip()
        dry = " (rehearsal)" if record.rehearsal else ""
        click.echo(
            f"{record.run_id}  {_date(record.started_at)}  {_status(record):<12} {kind}{dry}"
            f"  by {record.who}" + (f" for {visible(record.incident)}" if record.incident else "")
        )


@command.command("show")
@click.argument("run_id")
@options.output("text", "json")
def show(run_id: str, output_format: str) -> None:
    """Show one run: who, why, what was seen, what was done, what came of it.

    RUN_ID may be cut short, as long as it is unambiguous; `last` is the newest.
    """
    from runbook import wiring
    from runbook.model.errors import UsageError

    journal = wiring.open_journal()
    found = journal.run(_whole_id(run_id, journal.runs(10_000)))
    if found is None:
        raise UsageError(f"there is no run {run_id!r}", hint="`runbook runs list` shows them")
    record, plan, events = found
    if output_format == "json":
        whole = {"run": asdict(record), "plan": plan, "events": [asdict(e) for e in events]}
        click.echo(json.dumps(whole, indent=2))
        return
    _text(record, events)


def _whole_id(given: str, records: Sequence[RunRecord]) -> str:
    from runbook.model.errors import UsageError

    if given == "last" and records:
        return records[0].run_id
    matches = [record.run_id for record in records if record.run_id.startswith(given)]
    if len(matches) > 1 and given not in matches:
        raise UsageError(f"{given!r} fits {len(matches)} runs", hint=f"such as {matches[0]}")
    return given if given in matches or not matches else matches[0]


def _text(record: RunRecord, events: Sequence[Event]) -> None:
    click.echo(f"run       {record.run_id}{'  (rehearsal)' if record.rehearsal else ''}")
    click.echo(f"playbook  {record.playbook} {record.target or ''}".rstrip())
    click.echo(
        f"by        {record.who}" + (f", for {visible(record.incident)}" if record.incident else "")
    )
    click.echo(f"status    {_status(record)}")
    click.echo(f"plan      {record.plan_hash}\n")
    for event in events:
        if event.kind in _LINES:
            line = _LINES[event.kind](event.data)
            at = time.strftime("%H:%M:%S", time.localtime(event.at))
            click.echo(f"{at}  {visible(event.task or ''):<32} {visible(line)}".rstrip())


#: Event -> its line, from its data; kinds that are not here have none.
_LINES: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "said": lambda d: f"{d['stage']} {d['text']}".strip(),
    "intended": lambda d: f"about to: {d['sentence']}",
    "changed": lambda d: f"done: {d['sentence']} ({d['seconds']}s)",
    "assumed": lambda d: f"would: {d['sentence']}",
    "task_finished": lambda d: f"{d['result']['status']}: {d['result']['summary']}",
    "asked": lambda d: f"asked to confirm {len(d['touches'])} changes (confirmation {d['hash']})",
    "answered": lambda d: f"{'yes' if d['yes'] else 'no'}, by {d['by']}",
    "finished": lambda d: f"{d['status']} {d['reason']}".strip(),
}


def _status(record: RunRecord) -> str:
    """A run without an end lost its process, or is still going on."""
    return "no end yet" if record.ended_at is None else record.status


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
