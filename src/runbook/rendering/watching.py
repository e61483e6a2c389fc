"""What a watch has seen so far: bounded, however long it goes on."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook.findings.comparison import server_changes
from runbook.model.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.model.diagnosis import Diagnosis

#: Seconds of the past that are drawn: how a saturation began is seen within a quarter of an hour.
SPAN_S = 900.0
#: Looks that are kept at least, for long intervals: more columns than most terminals have.
_LOOKS_AT_LEAST = 240
#: Events that are kept: more than any screen shows.
_EVENTS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One look: how many slots were in use when it began; None when there was no answer."""

    #: Seconds of a clock that never goes back.
    at: float
    used: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Happened:
    """Something worth remembering; `at` is seconds since the epoch."""

    at: float
    text: str


class Watched:
    """The looks of one watch, the newest in full."""

    def __init__(self, target: str, interval_s: float, started: float) -> None:
        self.target = target
        self.interval_s = interval_s
        #: When it began, in seconds since the epoch.
        self.started = started
        looks = max(_LOOKS_AT_LEAST, round(SPAN_S / interval_s))
        self.points: deque[Point] = deque(maxlen=looks)
        self.events: deque[Happened] = deque(maxlen=_EVENTS)
        self.looks = 0
        self.first: Diagnosis | None = None
        self.last: Diagnosis | None = None
        #: Since when there has been no answer, in seconds since the epoch, and why.
        self.gone_since: float | None = None
        self.why = ""
        #: Since when a look has been waiting for its answer, in seconds since the epoch.
        self.looking_since: float | None = None

    def saw(self, diagnosis: Diagnosis, *, began: float, at: float) -> tuple[str, ...]:
        """Take down a look that was answered; return what is new, in words.

        `began` is by the clock that never goes back, `at` is seconds since the epoch.
        """
        news = tuple(self._news(diagnosis, at))
        self._note(news, at)
        self.points.append(Point(at=began, used=diagnosis.slots.used))
        self.first = self.first or diagnosis
        self.last = diagnosis
        self.gone_since, self.why = None, ""
        return news

    def missed(self, why: str, *, began: float, at: float) -> tuple[str, ...]:
        """Take down a look that was not answered; return what is new, in words."""
        news: tuple[str, ...] = ()
        if self.gone_since is None:
            self.gone_since = at
            news = (f"no answer: {why}",)
        elif why != self.why:
            news = (f"still no answer: {why}",)
        self._note(news, at)
        self.why = why
        self.points.append(Point(at=began, used=None))
        return news

    def _note(self, news: tuple[str, ...], at: float) -> None:
        self.looks += 1
        self.events.extend(Happened(at=at, text=text) for text in news)

    def _news(self, now: Diagnosis, at: float) -> Iterator[str]:
        if self.gone_since is not None:
            yield f"answers again, after {format_duration(max(0.0, at - self.gone_since))}"
        if self.last is None:
            return
        yield from server_changes(self.last, now)
        if self.last.server.rung != now.server.rung:
            yield f"through the {now.server.rung} door, no longer {self.last.server.rung}"
        if self.last.finding.cause != now.finding.cause:
            yield f"{self.last.finding.cause} -> {now.finding.cause}: {now.finding.title}"
