"""The gates of one host after its restart: health, then the database; so many times in a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runbook.model.effects import Drive, Observe, Say, Sleep, Together, ask
from runbook.model.errors import DoorError
from runbook.model.systemd import Standing
from runbook.model.units import format_duration
from runbook.steps.database_gate import database_problem, row_of
from runbook.steps.gates import gate_problem
from runbook.steps.rolling_journey import LOOK_S, Journey, Trouble, judged, moved, now
from runbook.steps.rolling_subject import http_replies


def gating(journey: Journey) -> Drive[Trouble | None]:
    """Ask the service's health gates until they are passed, or their deadline is."""
    subject = journey.subject
    if not subject.service.gates:
        return None

    def looks(left_s: float) -> tuple[Observe[Any], ...]:
        return subject.gates(at_most_s=left_s)

    def judge(outcomes: tuple[Any, ...]) -> str | None:
        failed = next((each for each in outcomes if isinstance(each, DoorError)), None)
        if failed is not None:
            return failed.message
        return gate_problem(subject.service, subject.gates(), http_replies(outcomes))

    return (yield from _consecutive(journey, "gating", looks, judge))


def database_gating(journey: Journey) -> Drive[Trouble | None]:
    """Ask the database until this host's old backends are gone and there is room."""
    sessions = journey.sessions
    if sessions is None:
        return None

    def looks(_left_s: float) -> tuple[Observe[Any], ...]:
        return (sessions.look(journey.since),)

    def judge(outcomes: tuple[Any, ...]) -> str | None:
        if isinstance(outcomes[0], DoorError):
            return outcomes[0].message
        journey.last_row = row_of(outcomes[0])
        return database_problem(journey.last_row, journey.subject.settings.headroom)

    return (yield from _consecutive(journey, "db_gating", looks, judge))


def _consecutive(
    journey: Journey,
    stage: str,
    looks: Callable[[float], tuple[Observe[Any], ...]],
    judge: Callable[[tuple[Any, ...]], str | None],
) -> Drive[Trouble | None]:
    """Ask until so many answers in a row were good; the process is looked at with each.

    One bad answer starts the count anew. A good answer after the deadline comes too late. While
    answers are bad the pause starts short and grows to the interval: a host that is up in half a
    second must not cost two.
    """
    timing = journey.subject.settings.gate
    deadline = (yield from now(journey)) + timing.deadline
    good, pause = 0, min(LOOK_S, timing.interval)
    while True:
        left = deadline - (yield from now(journey))
        look = journey.subject.manager.look()
        seen, *answers = yield from ask(Together(effects=(look, *looks(left))))
        standing = judged(journey, seen)
        trouble = moved(journey, standing) if isinstance(standing, Standing) else None
        if trouble is not None:
            return trouble
        problem = judge(tuple(answers))
        if isinstance(standing, DoorError):
            problem = problem or standing.message
        good = good + 1 if problem is None else 0
        left = deadline - (yield from now(journey))
        if left <= 0:
            return _too_late(stage, timing.deadline, problem, good)
        yield from ask(Say(stage=stage, text=problem or f"{good} of {timing.successes} good"))
        if good >= timing.successes:
            return None
        yield from ask(Sleep(seconds=min(timing.interval if good else pause, left)))
        pause = min(timing.interval, pause * 2) if problem else pause


def _too_late(stage: str, deadline_s: float, problem: str | None, good: int) -> Trouble:
    what = {"gating": "the health gate", "db_gating": "the database gate"}[stage]
    last = problem or f"only {good} good answers in a row by then"
    why = f"{what} did not pass within {format_duration(deadline_s)}: {last}"
    return Trouble(status="failed", why=why)
