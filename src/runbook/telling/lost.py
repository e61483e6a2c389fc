"""What people are told of a run that lost its process half-way: once, and what to do about it.

It has begun to change something, so nothing goes on by itself: a person looks first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from runbook.model.history import History
from runbook.model.intake import Told
from runbook.model.times import utc
from runbook.telling import result
from runbook.telling.case import Case
from runbook.telling.text import cut, listing, plain
from runbook.telling.words import HEADLINE, how_far, what

_PREFIX = "lost/"
#: Lines of a list: what is in flight and what is owed is mostly one host.
_LINES = 6


def is_left(history: History) -> bool:
    """Whether a run that has no process is left to a person: one that changed nothing is not."""
    record = history.record
    changing = any(made.state != "assumed" for _, made in history.changes)
    return record.ended_at is None and record.status != "waiting" and changing


def news(case: Case, content: Callable[[str, list[str]], Mapping[str, Any]]) -> Iterator[Told]:
    """Yield what is to be told of a loss: each process is lost once at most."""
    key = f"{_PREFIX}{case.history.begun}" if case.lost else ""
    if case.lost:
        yield from case.want(key, content(key, lines(case)))
    yield from case.drop_others(_PREFIX, key, "it was taken up before it could be told")


def lines(case: Case) -> list[str]:
    """Return the lines: what was in flight, what was done, what is owed, which command is next."""
    history = case.history
    run_id = case.run_id
    return [
        cut(f"LOST ITS PROCESS, a person must look: {what(history)}", HEADLINE),
        f"Nobody works on it since {utc(history.end)}, and nothing goes on by itself.",
        *_in_flight(history),
        *_done(history),
        *_owed(history),
        # The journal is on one machine, and is one user's.
        f"Next, as {plain(history.record.who, 80)}: runbook runs resume {run_id} --show",
        f"Then: runbook runs resume {run_id}",
        *([f"Or in the browser: {case.link}"] if case.link else []),
    ]


def _in_flight(history: History) -> list[str]:
    open_ = [f"{task.target}: {how_far(task)}" for task in history.tasks if task.result is None]
    unseen = [plain(made.sentence) for _, made in history.changes if made.state == "unseen"]
    return [
        *(["In flight:"] if open_ else []),
        *listing([plain(line) for line in open_], _LINES),
        *(["Asked for, and nobody saw what came of it:"] if unseen else []),
        *listing(unseen, _LINES),
    ]


def _done(history: History) -> list[str]:
    made = [plain(made.sentence) for _, made in history.changes if made.state == "made"]
    return ["What was done:", *listing(made, _LINES)] if made else []


def _owed(history: History) -> list[str]:
    debts = [f"STILL OWED: {plain(debt.what)}" for debt in history.owed]
    by_hand = [line for debt in history.owed for line in debt.by_hand]
    return [*debts, *(f"By hand: {plain(line)}" for line in by_hand[: result.BY_HAND])]
