"""A watched database, drawn to fit a screen; and as one line, for a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.text import Text

from runbook.findings.comparison import owner_changes
from runbook.model.times import stamp
from runbook.model.units import format_duration
from runbook.rendering.diagnosis_text import sentence, sure
from runbook.rendering.page import plain_ascii
from runbook.rendering.safe import safe
from runbook.rendering.slots import bar, legend
from runbook.rendering.sparkline import chart, over_time
from runbook.rendering.watching import SPAN_S

if TYPE_CHECKING:
    from runbook.model.diagnosis import Diagnosis
    from runbook.rendering.watching import Watched

#: Rows of the line over time, from a screen of 24 rows on; fewer rows leave room for the answer.
_CHART_ROWS = 5
#: Columns beyond which a line over time says nothing more.
_WIDEST = 200
#: Seconds that a look may take before the screen says that what it shows is old; one that waits to
#: look at the server a second time takes 2 s.
_PATIENCE_S = 3.0
#: Owners and events that are shown at most, where there is room.
_OWNERS, _EVENTS = 8, 6


class Sheet:
    """Lines of one screen: each cut to the width, none beyond the height."""

    def __init__(self, width: int, *, unicode: bool) -> None:
        self.width = max(20, width)
        self.unicode = unicode
        self.lines: list[Text] = []

    def add(self, line: Text | str, style: str = "") -> None:
        """Add one line; text from elsewhere must have gone through `clean` or be a Text of ours."""
        text = line if isinstance(line, Text) else Text(line, style=style)
        if text.cell_len > self.width:
            text.truncate(self.width - 3, overflow="crop")
            text.append("...")
        text.rstrip()
        self.lines.append(text)

    def clean(self, text: str) -> str:
        """Return text that came from elsewhere, made safe, in characters that can be written."""
        return safe(text) if self.unicode else plain_ascii(safe(text))


def draw(
    watched: Watched,
    *,
    width: int,
    height: int,
    unicode: bool,
    now: float,
    clock: float,
    ended: bool = False,
) -> list[Text]:
    """Return the lines of a screen; `now` is seconds since the epoch, `clock` as in `Point`.

    The answer is always there; of the rest, what there is room for.
    """
    top, middle, end = (Sheet(width, unicode=unicode) for _ in range(3))
    _answer(top, watched, now)
    _foot(end, watched, now, ended=ended)
    room = height - len(top.lines) - len(end.lines)
    if watched.last is not None:
        _slots(middle, watched, watched.last, rows=min(_CHART_ROWS, max(1, room - 10)), clock=clock)
        _events(middle, watched, most=min(_EVENTS, max(1, (room - len(middle.lines)) // 3)))
        _owners(middle, watched, watched.last, room - len(middle.lines) - 2)
    else:
        _events(middle, watched, most=_EVENTS)
    return [*top.lines, *middle.lines[: max(0, room)], *end.lines][: max(1, height)]


def log_line(watched: Watched, news: tuple[str, ...], at: float) -> str:
    """Return one look as one line: when, slots, cause; then what is new, in brackets."""
    if watched.gone_since is not None or watched.last is None:
        gone = format_duration(max(0.0, at - (watched.gone_since or at)))
        said = f"no answer for {gone}: {watched.why}"
        news = ()
    else:
        slots, finding = watched.last.slots, watched.last.finding
        said = f"{slots.used}/{slots.usable} {slots.percent}% {finding.cause}: {finding.title}"
    return safe(f"{stamp(at)} {said}" + (f" [{'; '.join(news)}]" if news else ""))


def _answer(sheet: Sheet, watched: Watched, now: float) -> None:
    diagnosis = watched.last
    if watched.gone_since is not None:
        gone = format_duration(max(0.0, now - watched.gone_since))
        sheet.add(
            f"No answer from {sheet.clean(watched.target)} since {_clock(watched.gone_since)}"
            f" ({gone}); trying on",
            "bold red",
        )
        for row in _wrapped(sheet, watched.why, 3):
            sheet.add(row)
        if diagnosis is not None:
            sheet.add(f"Before that: {sheet.clean(diagnosis.finding.title)}", "dim")
    elif diagnosis is not None:
        style = "bold green" if diagnosis.healthy else "bold red"
        for row in _wrapped(sheet, sentence(diagnosis.finding.title), 2):
            sheet.add(row, style)
        sheet.add(_subtitle(sheet, diagnosis), "dim")
        waiting_s = now - (watched.looking_since or now)
        if waiting_s > max(_PATIENCE_S, watched.interval_s):
            sheet.add(f"No answer yet after {format_duration(waiting_s)}; this is as of before")
    else:
        sheet.add(f"Looking at {sheet.clean(watched.target)} for the first time ...", "bold")


def _wrapped(sheet: Sheet, words: str, most: int) -> list[str]:
    """Return words in no more than `most` rows; the last one is cut when it is too long."""
    rows: list[str] = [""]
    for word in sheet.clean(words).split():
        fits = len(rows[-1]) + 1 + len(word) <= sheet.width or not rows[-1] or len(rows) == most
        if fits:
            rows[-1] = f"{rows[-1]} {word}".strip()
        else:
            rows.append(word)
    return rows


def _subtitle(sheet: Sheet, diagnosis: Diagnosis) -> str:
    server = diagnosis.server
    standby = ", a standby" if server.in_recovery else ""
    return sheet.clean(
        f"{diagnosis.finding.cause} on {diagnosis.target}, {sure(diagnosis.finding)};"
        f" PostgreSQL {server.version.split(' ')[0]}{standby}, {server.rung} door,"
        f" {server.query_ms:.0f} ms"
    )


def _slots(sheet: Sheet, watched: Watched, last: Diagnosis, *, rows: int, clock: float) -> None:
    slots = last.slots
    line = Text(f"{slots.used} of {slots.usable} slots in use ({slots.percent}%)", style="bold")
    if watched.first is not None:
        grown = slots.used - watched.first.slots.used
        line.append(f"  {grown:+d} since {_clock(watched.started)}", "default")
    sheet.add("")
    sheet.add(line)
    _line_over_time(sheet, watched, last, rows, clock)
    sheet.add(Text("  ").append_text(bar(last, min(sheet.width, 80) - 2, unicode=sheet.unicode)))
    sheet.add(Text("  ").append_text(Text("  ").join(legend(last, unicode=sheet.unicode))))


def _line_over_time(
    sheet: Sheet, watched: Watched, last: Diagnosis, rows: int, clock: float
) -> None:
    """Draw the slots in use against the usable ones, which are the top."""
    scale = len(str(last.slots.usable))
    width = min(_WIDEST, sheet.width - scale - 3)
    step_s = _step(watched, width, clock)
    points = ((point.at, point.used) for point in watched.points)
    values = over_time(points, now=clock, width=width, step_s=step_s)
    drawn = chart(values, last.slots.usable, rows, unicode=sheet.unicode)
    edge = "┤" if sheet.unicode else "|"
    for number, row in enumerate(drawn):
        label = str(last.slots.usable) if number == 0 else "0" if number == rows - 1 else ""
        sheet.add(Text(f"{label:>{scale}} {edge}").append(row, "cyan"))
    ago = f"{format_duration(width * step_s)} ago"
    sheet.add(f"{'':{scale}}  {ago}{'now':>{max(4, width - len(ago))}}", "dim")


def _step(watched: Watched, width: int, clock: float) -> float:
    """Return the seconds of one column: doubled until all that is worth seeing has room."""
    began = watched.points[0].at if watched.points else clock
    step_s = watched.interval_s
    while step_s * width < min(clock - began, SPAN_S):
        step_s *= 2
    return step_s


def _owners(sheet: Sheet, watched: Watched, last: Diagnosis, room: int) -> None:
    """List whose sessions they are, those that changed most since the watch began first."""
    grown = {c.owner: c.grown for c in owner_changes(watched.first or last, last)}
    held, budgets = _held(last)
    names = sorted({**held, **grown}, key=lambda n: (-abs(grown.get(n, 0)), -held.get(n, 0), n))
    shown = [name for name in names if held.get(name) or grown.get(name)][: max(0, room)][:_OWNERS]
    if not shown:
        return
    label = min(max(5, *(len(sheet.clean(name)) + 2 for name in shown)), 50)
    since = f"since {_clock(watched.started)}"
    sheet.add("")
    sheet.add(f"{'Whose':<{label}}  sessions  pool  {since}", "bold")
    for name in shown:
        cut = f"  {sheet.clean(name)}"[:label]
        change = f"{grown[name]:+d}" if name in grown else ""
        sheet.add(
            f"{cut:<{label}}  {held.get(name, ''):>8}  {budgets.get(name, ''):>4}"
            f"  {change:>{len(since)}}"
        )


def _held(last: Diagnosis) -> tuple[dict[str, int], dict[str, str]]:
    """Return how many sessions each owner has, and its declared pool where it is one."""
    held: dict[str, int] = {}
    budgets: dict[str, str] = {}
    for pool in last.pools:
        name = f"{pool.service} on {pool.host}"
        held[name] = held.get(name, 0) + pool.sessions
        budgets[name] = "?" if pool.budget is None else str(pool.budget)
    if not held:
        return {count.name: count.sessions for count in last.by_application}, {}
    everyone = sum(count.sessions for count in last.by_state)
    return {**held, "everyone else": everyone - sum(held.values())}, budgets


def _events(sheet: Sheet, watched: Watched, *, most: int) -> None:
    if not watched.events:
        return
    sheet.add("")
    for event in list(watched.events)[-most:]:
        sheet.add(f"{_clock(event.at)}  {sheet.clean(event.text)}")


def _foot(sheet: Sheet, watched: Watched, now: float, *, ended: bool) -> None:
    command = watched.last.finding.command if watched.last is not None else None
    if command and watched.gone_since is None:
        sheet.add("")
        sheet.add(Text("Next  ", style="bold").append(sheet.clean(command), "bold cyan"))
    if ended:
        took = format_duration(max(0.0, now - watched.started))
        sheet.add(f"Watched for {took}, until {_clock(now)}: {watched.looks} looks", "dim")
    else:
        every = f"{watched.interval_s:g}s"
        sheet.add(f"A look every {every} since {_clock(watched.started)}; Ctrl-C ends it", "dim")


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
