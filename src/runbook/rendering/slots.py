"""The slots as a bar: what each is doing, told by shade as well as by colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.model.diagnosis import Diagnosis

#: State -> (shade, the same in ASCII, colour), in the order in which the bar shows them.
_SHADES = {
    "active": ("█", "#", "green"),
    "waiting for a lock": ("▓", "W", "red"),
    "idle in transaction": ("▒", "T", "yellow"),
    "idle": ("░", "=", "blue"),
    "hidden": ("▚", "?", "magenta"),
    "other": ("▞", "+", "magenta"),
    "free": ("·", ".", "dim"),
}


def bar(diagnosis: Diagnosis, width: int, *, unicode: bool) -> Text:
    """Return a bar of `width` cells; whatever is there at all gets at least one."""
    counts = _counts(diagnosis)
    text = Text()
    for state, cells in _cells(counts, width).items():
        shade, plain, colour = _SHADES[state]
        text.append((shade if unicode else plain) * cells, style=colour)
    return text


def legend(diagnosis: Diagnosis, *, unicode: bool) -> Iterator[Text]:
    """Yield `░ 71 idle` for each state that is there."""
    for state, number in _counts(diagnosis).items():
        shade, plain, colour = _SHADES[state]
        yield Text(shade if unicode else plain, style=colour).append(
            f" {number} {state}", "default"
        )


def _counts(diagnosis: Diagnosis) -> dict[str, int]:
    counts = dict.fromkeys(_SHADES, 0)
    for count in diagnosis.by_state:
        state = "idle in transaction" if count.name.startswith("idle in trans") else count.name
        counts[state if state in counts else "other"] += count.sessions
    counts["free"] = diagnosis.slots.free
    return {state: number for state, number in counts.items() if number}


def _cells(counts: dict[str, int], width: int) -> dict[str, int]:
    """Share out the cells by largest remainder, one for each state first."""
    total = max(1, sum(counts.values()))
    spare = max(0, width - len(counts))
    exact = {state: number * spare / total for state, number in counts.items()}
    cells = {state: 1 + int(share) for state, share in exact.items()}
    left = width - sum(cells.values()) if counts else 0
    for state in sorted(exact, key=lambda state: int(exact[state]) - exact[state])[: max(0, left)]:
        cells[state] += 1
    return cells
