"""A termination on the screen: the very sessions before, the comparison after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runbook.model.document import visible
from runbook.model.units import format_duration

if TYPE_CHECKING:
    from rich.console import Console

    from runbook.engine.outcomes import StepOutcome
    from runbook.model.plan import Node, Result

#: Sessions listed one by one; more than a screenful is summed up by owner (the journal has all).
_LISTED = 20


def show_intention(node: Node, looked: Mapping[str, Result], console: Console) -> None:  # noqa: ARG001
    """Print the sessions with the proof against each, and what is spared and why."""
    for result in looked.values():
        data = result.data
        sessions = data.get("sessions", [])
        if not sessions:
            console.print(f"  nothing: {visible(result.summary)}")
        else:
            _sessions(sessions, console)
        _spared(data, console)


def _sessions(sessions: list[dict[str, Any]], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2), show_edge=False)
    for column in ("pid", "whose", "idle for", "why it counts as leaked"):
        table.add_column(column, overflow="fold")
    for session in sessions[:_LISTED]:
        idle = session.get("state_age_s")
        table.add_row(
            Text(str(session["pid"])),
            Text(visible(str(session["owner"]))),
            Text(format_duration(idle) if idle is not None else "?"),
            Text(visible(str(session["proof"]))),
        )
    console.print(table)
    more = len(sessions) - _LISTED
    if more > 0:
        owners = {s["owner"] for s in sessions[_LISTED:]}
        names = ", ".join(visible(str(owner)) for owner in sorted(owners))
        console.print(f"  … and {more} more of {names}; --format json lists every one")


def _spared(data: Mapping[str, Any], console: Console) -> None:
    for group in data.get("spared", []):
        pids = ", ".join(str(pid) for pid in group["pids"][:8])
        more = f" and {len(group['pids']) - 8} more" if len(group["pids"]) > 8 else ""
        console.print(f"  left alone: {visible(str(group['reason']))} ({pids}{more})", style="dim")


def show_outcome(step: StepOutcome, results: Mapping[str, Any], console: Console) -> None:  # noqa: ARG001
    """Print slots before and after, what was terminated, what moved, what came back."""
    for result in step.by_target.values():
        data = result.data
        before, after = data.get("before"), data.get("after")
        console.print(f"  {visible(result.summary)}")
        if before and after:
            console.print(
                f"  slots in use: {before['used']} of {before['usable']} before,"
                f" {after['used']} of {after['usable']} after"
            )
        if data.get("advice"):
            console.print(f"  {visible(str(data['advice']))}", style="bold")
