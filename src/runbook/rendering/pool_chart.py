"""Use and sums against the limit, as bars: what is past the limit is told by shade and number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from runbook.rendering.page import plain_ascii
from runbook.rendering.safe import safe

if TYPE_CHECKING:
    from runbook.model.pool_plan import PoolPlan

#: Deploys and autoscalings that get a bar, the largest first.
GROWTH_SHOWN = 5
#: The chart is at most so many times the limit wide: bars beyond end in an arrow.
_WIDEST = 2.5

#: (within the limit, past it, the limit, cut off), with block characters and without.
_SIGNS = (("█", "▒", "│", "▶"), ("#", "!", "|", ">"))


@dataclass(frozen=True, slots=True)
class Bar:
    """A named number."""

    label: str
    connections: int


def chart_lines(plan: PoolPlan, width: int, *, unicode: bool) -> Iterator[Text]:
    """Yield a line a bar, and the limit's own line last; none is wider than `width`."""
    bars = list(_bars(plan))
    usable = plan.slots.usable
    label = min(max(cell_len(safe(bar.label)) for bar in bars), max(10, width // 2 - 4))
    number = max(len(str(bar.connections)) for bar in bars)
    cells = max(8, width - label - number - 6)
    top = max(1, min(int(usable * _WIDEST), max(usable, *(bar.connections for bar in bars))))
    for bar in bars:
        text = Text(
            f"  {_fitted(bar.label, label, unicode=unicode)}  {bar.connections:>{number}}  "
        )
        yield text.append_text(_drawn(bar.connections, usable, top, cells, unicode=unicode))
    at = _cells(usable, top, cells - 1)
    legend = f"{usable} usable"
    before = 2 + label + 2 + number + 2
    mark = "^ " + legend
    left = before + at
    if left + len(mark) > width:
        mark, left = f"{legend} ^", left - len(legend) - 1
    yield Text(" " * left + mark, style="dim")


def _bars(plan: PoolPlan) -> Iterator[Bar]:
    yield Bar("in use now", plan.slots.used)
    yield Bar("peak seen", plan.slots.peak)
    yield Bar("may be opened", plan.together)
    declared = [one for one in plan.growth if not one.worst_case][:GROWTH_SHOWN]
    worst = [one for one in plan.growth if one.worst_case]
    for one in (*declared, *worst):
        yield Bar(one.label + (", worst case" if one.worst_case else ""), one.connections)
    if any(service.changed for service in plan.services) and plan.proposal.fits:
        yield Bar("proposed", plan.proposal.together)
        for one in (*declared, *worst):
            if one.proposed is not None:
                yield Bar(f"- with {one.label}", one.proposed)


def _drawn(connections: int, usable: int, top: int, cells: int, *, unicode: bool) -> Text:
    within, past, limit, cut = _SIGNS[0 if unicode else 1]
    at = _cells(usable, top, cells - 1)
    filled = _cells(min(connections, top), top, cells - 1)
    text = Text(within * min(filled, at), style="green" if connections <= usable else "red")
    text.append(" " * (at - min(filled, at))).append(limit, style="bold")
    text.append(past * max(0 if connections <= usable else 1, filled - at), style="red")
    if connections > top:
        text.right_crop(1)
        text.append(cut, style="red")
    text.rstrip()
    return text


def _cells(value: int, top: int, cells: int) -> int:
    """Return how many cells a value takes; whatever is there at all gets one."""
    return min(cells, max(1, value * cells // top)) if value > 0 else 0


def _fitted(label: str, width: int, *, unicode: bool) -> str:
    shown = safe(label) if unicode else plain_ascii(safe(label))
    if cell_len(shown) > width:
        shown = set_cell_size(shown, width - 1) + ("…" if unicode else "~")
    return set_cell_size(shown, width)
