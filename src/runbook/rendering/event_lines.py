"""Events of a run as lines of a log; the text in them is raw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from runbook.model.units import format_duration

if TYPE_CHECKING:
    from runbook.model.events import Event


def line_of(event: Event) -> str | None:
    """Return what an event says to a person who reads along; None: nothing."""
    if event.kind == "noted" and event.task is None:
        return f"{event.data.get('what')}, says {event.data.get('by')}"
    told = _LINES.get(event.kind)
    return None if told is None else told(event.data)


#: Event -> its line, from its data; kinds that are not here have none.
_LINES: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "said": lambda d: f"{d['stage']} {d['text']}".strip(),
    "intended": lambda d: f"about to: {d['sentence']}",
    "changed": lambda d: f"done: {d['sentence']} ({d['seconds']}s)",
    "assumed": lambda d: f"would: {d['sentence']}",
    "task_finished": lambda d: f"{d['result']['status']}: {d['result']['summary']}",
    "asked": lambda d: (
        f"asked: {d.get('prompt') or 'confirm'} {len(d['touches'])} changes"
        f" (confirmation {d['hash']})"
        + (f", of {' or '.join(d['by'])}" if d.get("by") else "")
        + (f", for {format_duration(d['expires_s'])}" if d.get("expires_s") is not None else "")
    ),
    "answered": lambda d: (
        f"{'yes' if d['yes'] else 'no'}, by {d['by']} {d.get('comment', '')}".strip()
    ),
    "owed": lambda d: f"owed from here on: {d['what']}",
    "paid": lambda d: f"owed no longer: {d['key']}",
    "interrupted": lambda d: f"asked to stop, by {d['by']}",
    "resumed": lambda d: f"taken up again, by {d['by']} (process {d['pid']})",
    "locked": lambda d: f"lock {d['lock']}: {d['how']}",
    "finished": lambda d: f"{d['status']} {d['reason']}".strip(),
}
