"""Geometry of what a run page draws: slots in use over time, and who was at what and when.

Numbers alone: the templates make SVG of them, without a style of their own, as the policy wants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook.rendering.report_html import stage_colours
from runbook.rendering.report_sections import timeline

if TYPE_CHECKING:
    from runbook.model.history import History

#: The chart's own units; a browser stretches them.
WIDTH, HEIGHT = 1000.0, 100.0
#: Targets of the timeline on a page; the report has more.
_ROWS = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotChart:
    """Slots in use; between two counts nobody looked, so the last one stands until the next."""

    line: str
    area: str
    #: Where the usable slots end.
    limit: float
    points: tuple[tuple[float, float], ...]
    usable: int
    first: int
    most: int
    last: int
    start: float
    end: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """One stretch of a row, in units of the chart's width."""

    colour: int
    x: float
    width: float
    bad: bool
    said: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """The timeline."""

    rows: tuple[tuple[str, tuple[Drawn, ...]], ...]
    legend: tuple[tuple[str, int], ...]
    seconds: float
    left_out: int


def slot_chart(history: History) -> SlotChart | None:
    """Return the chart of a run's slots, or None when they were counted less than twice."""
    slots = history.slots
    if len(slots) < 2:
        return None
    start, end = slots[0].at, max(slots[-1].at, slots[0].at + 0.001)
    usable = max(each.usable for each in slots)
    top = max(1, usable, *(each.used for each in slots)) * 1.08

    def place(at: float, used: int) -> tuple[float, float]:
        return (at - start) / (end - start) * WIDTH, HEIGHT - used / top * HEIGHT

    points = [place(each.at, each.used) for each in slots]
    steps: list[tuple[float, float]] = []
    for x, y in points:
        if steps:
            steps.append((x, steps[-1][1]))
        steps.append((x, y))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in steps)
    return SlotChart(
        line=line,
        area=f"{steps[0][0]:.1f},{HEIGHT:g} {line} {steps[-1][0]:.1f},{HEIGHT:g}",
        limit=round(HEIGHT - usable / top * HEIGHT, 1),
        points=tuple(points),
        usable=usable,
        first=slots[0].used,
        most=max(each.used for each in slots),
        last=slots[-1].used,
        start=start,
        end=end,
    )


def timeline_rows(history: History) -> Rows | None:
    """Return the timeline of a run, or None where nothing took time yet."""
    for drawn in timeline(history, most=_ROWS):
        colours = stage_colours(drawn)
        rows = tuple(
            (
                name,
                tuple(
                    Drawn(
                        colour=colours[bar.name],
                        x=round(bar.start * WIDTH, 1),
                        width=round(max(4.0, (bar.end - bar.start) * WIDTH), 1),
                        bad=bar.bad and history.record.ended_at is not None,
                        said=bar.said,
                    )
                    for bar in bars
                ),
            )
            for name, bars in drawn.rows
        )
        legend = tuple((name.replace("_", " "), number) for name, number in colours.items())
        return Rows(rows=rows, legend=legend, seconds=drawn.seconds, left_out=drawn.left_out)
    return None
