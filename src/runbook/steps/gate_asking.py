"""Asks again and again until so many answers in a row were good, or the deadline has come.

One bad answer starts the count anew. A good answer after the deadline comes too late. While
answers are bad the pause starts short and grows to the interval: a host that is up in half a
second must not cost two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from runbook.model.effects import Drive, Now, Say, Sleep, ask

StopT = TypeVar("StopT")

#: The first pause after a bad answer, where the interval is not shorter still.
FIRST_PAUSE_S = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How often, and for how long. Times in seconds."""

    successes: int
    interval: float
    #: None does not wait: the first bad answer is the last.
    deadline: float | None
    #: How long answers must have been good without a break.
    settle: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample(Generic[StopT]):
    """One asking."""

    problem: str | None
    #: Something that ends it at once: no further answer could be good.
    stop: StopT | None = None


@dataclass(kw_only=True, slots=True)
class Asked(Generic[StopT]):
    """What came of it."""

    passed: bool = False
    #: The deadline came first.
    late: bool = False
    #: Good answers in a row at the end, and since when on the clock that was read.
    good: int = 0
    since: float = 0.0
    attempts: int = 0
    seconds: float = 0.0
    problem: str | None = None
    stop: StopT | None = None


def read_clock() -> Drive[float]:
    """Read the clock."""
    return (yield from ask(Now()))


def until_good(
    patience: Patience,
    sample: Callable[[float | None], Drive[Sample[StopT]]],
    *,
    stage: str,
    clock: Callable[[], Drive[float]] = read_clock,
) -> Drive[Asked[StopT]]:
    """Ask until it is passed, is stopped, or comes too late.

    Args:
        patience: how often, and for how long.
        sample: asks once; it is given the seconds that are left, None without a deadline.
        stage: the word under which progress is told.
        clock: reads the monotonic clock.
    """
    began = yield from clock()
    ends = None if patience.deadline is None else began + patience.deadline
    asked: Asked[StopT] = Asked()
    pause = min(FIRST_PAUSE_S, patience.interval)
    while True:
        now = yield from clock()
        taken = yield from sample(None if ends is None else ends - now)
        now = yield from clock()
        _count(asked, taken, now)
        asked.seconds = now - began
        if asked.stop is not None or (ends is None and asked.problem is not None):
            return asked
        if ends is not None and now >= ends:
            asked.late = True
            return asked
        yield from ask(Say(stage=stage, text=_progress(asked, patience)))
        if asked.good >= patience.successes and now - asked.since >= patience.settle:
            asked.passed = True
            return asked
        wait = patience.interval if asked.good else pause
        yield from ask(Sleep(seconds=wait if ends is None else min(wait, ends - now)))
        pause = min(patience.interval, pause * 2) if asked.problem else pause


def _count(asked: Asked[StopT], taken: Sample[StopT], now: float) -> None:
    asked.attempts += 1
    asked.problem, asked.stop = taken.problem, taken.stop
    if taken.problem is not None:
        asked.good = 0
        return
    asked.since = asked.since if asked.good else now
    asked.good += 1


def _progress(asked: Asked[StopT], patience: Patience) -> str:
    if asked.problem is not None:
        return asked.problem
    return f"{min(asked.good, patience.successes)} of {patience.successes} good"
