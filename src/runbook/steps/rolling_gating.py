"""The gates of one host after its restart: health, then the database; so many times in a row."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from runbook.model.effects import Drive, Observe, Together, ask
from runbook.model.errors import DoorError
from runbook.model.systemd import Standing
from runbook.model.units import format_duration
from runbook.steps.database_gate import database_problem, row_of
from runbook.steps.gate_asking import Asked, Patience, Sample, until_good
from runbook.steps.rolling_journey import Journey, Trouble, judged, moved, now


def gating(journey: Journey) -> Drive[Trouble | None]:
    """Ask the service's health gates until they are passed, or their deadline is."""
    gates = journey.subject.gates
    if not gates:
        return None
    return (yield from _consecutive(journey, "gating", gates.looks, gates.problem))


def database_gating(journey: Journey) -> Drive[Trouble | None]:
    """Ask the database until this host's old backends are gone and there is room."""
    sessions = journey.sessions
    if sessions is None:
        return None

    def looks(_left_s: float | None) -> tuple[Observe[Any], ...]:
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
    looks: Callable[[float | None], tuple[Observe[Any], ...]],
    judge: Callable[[tuple[Any, ...]], str | None],
) -> Drive[Trouble | None]:
    """Ask until so many answers in a row were good; the process is looked at with each."""

    def sample(left_s: float | None) -> Drive[Sample[Trouble]]:
        look = journey.subject.manager.look()
        seen, *answers = yield from ask(Together(effects=(look, *looks(left_s))))
        standing = judged(journey, seen)
        trouble = moved(journey, standing) if isinstance(standing, Standing) else None
        problem = None if trouble else judge(tuple(answers))
        if isinstance(standing, DoorError):
            problem = problem or standing.message
        return Sample(problem=problem, stop=trouble)

    timing = journey.subject.settings.gate
    patience = Patience(
        successes=timing.successes, interval=timing.interval, deadline=timing.deadline
    )
    asked = yield from until_good(patience, sample, stage=stage, clock=partial(now, journey))
    if asked.passed:
        return None
    return asked.stop or _too_late(stage, timing.deadline, asked)


def _too_late(stage: str, deadline_s: float, asked: Asked[Trouble]) -> Trouble:
    what = {"gating": "the health gate", "db_gating": "the database gate"}[stage]
    last = asked.problem or f"only {asked.good} good answers in a row by then"
    why = f"{what} did not pass within {format_duration(deadline_s)}: {last}"
    return Trouble(status="failed", why=why)
