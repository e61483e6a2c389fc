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
            console.print(f"  {visible(result.summary)}")
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
    """Print what was terminated, slots before and after, and whether anything came back."""
    for target, result in step.by_target.items():
        data = result.data
        console.print(f"  {visible(target)}: {visible(result.summary)}", soft_wrap=True)
        for line in _afterwards(data):
            console.print(f"  {line}")


def _afterwards(data: Mapping[str, Any]) -> list[str]:
    watched = data.get("watched_s") or 0.0
    lines = []
    if data.get("verdict") == "stayed_away":
        lines.append(f"none had come back {format_duration(watched)} later")
    elif data.get("verdict") == "not_watched":
        lines.append("whether they come back was not watched")
    for owner, count in (data.get("came_back") or {}).items():
        if count["came_back"]:
            who = visible(str(owner))
            lines.append(f"{who}: {count['terminated']} terminated, {count['came_back']} new since")
    return lines
