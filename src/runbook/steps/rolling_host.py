"""One host of a rolling restart: restarted, proved restarted, watched, gated.

    restarting -> stabilising -> gating -> db_gating -> ok

The restart is asked for once. When its answer is lost, the host is looked at, never asked again:
the identity (systemd's InvocationID, or what the status command prints) tells what happened.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from runbook.model.document import visible
from runbook.model.effects import (
    CommandOutcome,
    Drive,
    Effect,
    Now,
    Observe,
    Say,
    Sleep,
    Together,
    ask,
)
from runbook.model.errors import (
    CommandFailed,
    ConnectionLost,
    DoorError,
    NotStarted,
    StepFailed,
    Unreachable,
)
from runbook.model.plan import Result, Status
from runbook.model.step import StepContext
from runbook.model.systemd import Standing, Unfit
from runbook.model.units import format_duration
from runbook.steps.database_gate import Sessions, database_problem, row_of
from runbook.steps.gates import gate_problem
from runbook.steps.rolling_args import RollingArgs
from runbook.steps.rolling_subject import Subject, http_replies, subject_of

#: Between two looks while something is awaited; each costs the host a few milliseconds.
_LOOK_S = 0.25
#: Between two looks in the settle window. InvocationID and NRestarts only ever move on, so a
#: crash between two looks is still seen by the next.
_SETTLE_LOOK_S = 0.5
#: Looks that must agree before a restart whose answer was lost counts as never made.
_UNCHANGED_LOOKS = 3
_LONGEST_SAYING = 300


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why the host does not go on to the next stage."""

    status: Status
    why: str
    hint: str = ""


@dataclass(kw_only=True)
class _Journey:
    """What is known of one host on its way through the stages."""

    subject: Subject
    timeout_s: float
    sessions: Sessions | None
    before: str = ""
    after: str = ""
    #: The server's clock from before the restart, in its own words.
    since: str | None = None
    #: The last look that could be taken.
    seen: Any = None
    stages: list[dict[str, Any]] = field(default_factory=list)
    #: The clock, as it was last read; and at the beginning.
    now: float = 0.0
    began: float = 0.0
    #: The restart was asked for; its answer was lost; nothing has told yet what came of it.
    asked: bool = False
    answer_lost: bool = False
    in_doubt: bool = False
    #: The new process stayed up.
    stable: bool = False
    #: The last look in words, one that failed included.
    last_seen: str = ""
    #: The database gate's answers: before the restart, and the last one.
    first_row: dict[str, Any] = field(default_factory=dict)
    last_row: dict[str, Any] = field(default_factory=dict)


_Stage = Callable[[_Journey], Drive[Trouble | None]]


def restart(args: RollingArgs, ctx: StepContext) -> Drive[Result]:
    """Take one host through every stage and say how it ended."""
    subject = subject_of(args, ctx.fleet, ctx.target)
    sessions = subject.sessions()
    if isinstance(sessions, Unfit):
        why = f"nothing was restarted: {sessions.problem}"
        return Result(status="failed", summary=why, hint=sessions.hint)
    prepared = ctx.given["prepared"]
    timeout_s = float(prepared["timeouts"]["restart_s"])
    journey = _Journey(subject=subject, timeout_s=timeout_s, sessions=sessions)
    yield from _read_clock(journey)
    journey.began = journey.now
    for name, stage in _STAGES:
        trouble = yield from _pass(journey, name, stage)
        if trouble is not None:
            return _ended(journey, trouble, name)
    return _ended(journey, None, "")


def _pass(journey: _Journey, name: str, stage: _Stage) -> Drive[Trouble | None]:
    """Go through one stage, and note how long it took; what it was at is kept out of time, too."""
    started = journey.now
    try:
        trouble = yield from stage(journey)
    except StepFailed as error:
        trouble = _cut_short(journey, name, error)
    yield from _read_clock(journey)
    seconds = round(journey.now - started, 3)
    journey.stages.append({"stage": name, "seconds": seconds})
    return trouble


def _read_clock(journey: _Journey) -> Drive[None]:
    """Read the clock for the record; past the step's time limit its last reading stands."""
    with suppress(StepFailed):
        yield from _now(journey)


def _now(journey: _Journey) -> Drive[float]:
    journey.now = yield from ask(Now())
    return journey.now


def _cut_short(journey: _Journey, stage: str, error: StepFailed) -> Trouble:
    """The step's own time limit has come: no further look is possible, so the last one counts."""
    hint = "let the step's `timeout` be longer: every stage has a deadline of its own"
    if not journey.asked:
        return Trouble(status="failed", why=f"nothing was restarted: {error.message}", hint=hint)
    if journey.in_doubt:
        why = f"{error.message}; the restart was asked for, and what came of it was not seen"
        return Trouble(status="unknown", why=why, hint=hint)
    why = f"{error.message}, in the stage {stage}; {journey.last_seen}"
    return Trouble(status="failed", why=why, hint=hint)


# ---- stages --------------------------------------------------------------------------------


def _restarting(journey: _Journey) -> Drive[Trouble | None]:
    trouble = yield from _note_before(journey)
    if trouble is not None:
        return trouble
    change = journey.subject.manager.restart(journey.timeout_s)
    yield from ask(Say(stage="restarting", text=change.sentence()))
    try:
        outcome = yield from ask(change)
    except (Unreachable, NotStarted) as error:
        return _untouched(error)
    except (ConnectionLost, CommandFailed) as error:
        return (yield from _find_out(journey, error.message))
    journey.asked = journey.in_doubt = True
    if outcome.ok:
        return None
    if outcome.exit_code < 0:
        return (yield from _find_out(journey, "the restart command was killed by a signal"))
    return (yield from _explain(journey, outcome))


def _stabilising(journey: _Journey) -> Drive[Trouble | None]:
    """Wait for the new process; then watch it for the settle window."""
    yield from ask(Say(stage="stabilising", text="waiting for the new process"))
    trouble = yield from _await_up(journey)
    if trouble is not None:
        return trouble
    settle = journey.subject.settings.settle
    until = (yield from _now(journey)) + settle
    if settle:
        text = f"{journey.after[:12]} runs; watching it for {format_duration(settle)}"
        yield from ask(Say(stage="stabilising", text=text))
    while (left := until - (yield from _now(journey))) > 0:
        yield from ask(Sleep(seconds=min(_SETTLE_LOOK_S, left)))
        standing = yield from _look(journey)
        trouble = _moved(journey, standing) if isinstance(standing, Standing) else None
        if trouble is not None:
            return trouble
    # The window must end with a look that succeeded.
    trouble = (yield from _await_still(journey)) if settle else None
    journey.stable = trouble is None
    return trouble


def _gating(journey: _Journey) -> Drive[Trouble | None]:
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


def _database_gating(journey: _Journey) -> Drive[Trouble | None]:
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


_STAGES: tuple[tuple[str, _Stage], ...] = (
    ("restarting", _restarting),
    ("stabilising", _stabilising),
    ("gating", _gating),
    ("db_gating", _database_gating),
)


# ---- restarting ----------------------------------------------------------------------------


def _note_before(journey: _Journey) -> Drive[Trouble | None]:
    """Look once more: preflight may be minutes old, and somebody else may have been here."""
    manager = journey.subject.manager
    looks: tuple[Effect[Any], ...] = (manager.look(),)
    if journey.sessions is not None:
        looks = (*looks, journey.sessions.look())
    seen, *rows = yield from ask(Together(effects=looks))  # type: ignore[arg-type]
    for outcome in (seen, *rows):
        if isinstance(outcome, DoorError):
            return _untouched(outcome)
    unfit = manager.unfit(seen)
    if unfit is not None:
        why = f"nothing was restarted: {unfit.problem}"
        return Trouble(status="failed", why=why, hint=unfit.hint)
    journey.seen, journey.before = seen, manager.identity(seen)
    journey.first_row = row_of(rows[0]) if rows else {}
    journey.since = journey.first_row.get("now")
    return None


def _untouched(error: DoorError) -> Trouble:
    """The restart was certainly not made."""
    status: Status = "unreachable" if isinstance(error, Unreachable) else "failed"
    why = f"nothing was restarted: {error.message}"
    return Trouble(status=status, why=why, hint=error.hint or "")


def _find_out(journey: _Journey, lost: str) -> Drive[Trouble | None]:
    """The answer to the restart was lost: look, until it is clear what happened."""
    journey.asked = journey.answer_lost = journey.in_doubt = True
    yield from ask(Say(stage="unknown", text=f"{lost}; looking at what happened"))
    limit = journey.subject.settings.gate.deadline
    deadline = (yield from _now(journey)) + limit
    unchanged = 0
    while True:
        standing = yield from _look(journey)
        if isinstance(standing, Standing):
            if standing.verdict == "up":
                journey.answer_lost = False
                return None
            if standing.verdict == "down":
                return Trouble(status="failed", why=f"{standing.text} ({lost})")
            unchanged = unchanged + 1 if standing.verdict == "unchanged" else 0
            if unchanged >= _UNCHANGED_LOOKS and journey.subject.manager.unchanged_is_final:
                why = f"{standing.text}: the restart never reached systemd ({lost})"
                return Trouble(status="failed", why=why)
        if (yield from _now(journey)) >= deadline:
            return Trouble(status="unknown", why=f"{lost}; {_last_seen(standing)}")
        yield from ask(Sleep(seconds=1.0))


def _explain(journey: _Journey, outcome: CommandOutcome) -> Drive[Trouble]:
    """The restart said no: why, and how does the host stand now?"""
    said = visible(" ".join(outcome.stderr.split()))[:_LONGEST_SAYING]
    refused_by_sudo = said.startswith("sudo:")
    who = "sudo refused" if refused_by_sudo else f"the restart exited with {outcome.exit_code}"
    try:
        now = _last_seen((yield from _look(journey)))
    except StepFailed as error:
        now = error.message
    return Trouble(status="failed", why="; ".join(part for part in (who, said, now) if part))


# ---- looking -------------------------------------------------------------------------------


def _look(journey: _Journey) -> Drive[Standing | DoorError]:
    """Take one look; a host that cannot be seen is an answer too."""
    (outcome,) = yield from ask(Together(effects=(journey.subject.manager.look(),)))
    return _judged(journey, outcome)


def _judged(journey: _Journey, outcome: Any) -> Standing | DoorError:
    standing: Standing | DoorError = outcome
    if not isinstance(outcome, DoorError):
        journey.seen = outcome
        standing = journey.subject.manager.standing(outcome, journey.before)
    journey.last_seen = _last_seen(standing)
    if journey.asked and not journey.stable:
        journey.in_doubt = _doubtful(journey, standing)
    return standing


def _doubtful(journey: _Journey, standing: Standing | DoorError) -> bool:
    """Whether a look leaves open what came of the restart."""
    if isinstance(standing, DoorError):
        return True
    return journey.answer_lost and standing.verdict not in {"up", "down"}


def _last_seen(standing: Standing | DoorError) -> str:
    if isinstance(standing, DoorError):
        return f"the host cannot be looked at: {standing.message}"
    return f"now {standing.text}"


def _await_up(journey: _Journey) -> Drive[Trouble | None]:
    """Wait until the new process runs."""
    limit = journey.subject.settings.gate.deadline
    deadline = (yield from _now(journey)) + limit
    while True:
        standing = yield from _look(journey)
        trouble = _not_up(journey, standing)
        if trouble is None and isinstance(standing, Standing) and standing.verdict == "up":
            journey.after = standing.identity
            return None
        if trouble is not None:
            return trouble
        if (yield from _now(journey)) >= deadline:
            status: Status = "unknown" if isinstance(standing, DoorError) else "failed"
            text = f"not up within {format_duration(limit)}: {_last_seen(standing)}"
            return Trouble(status=status, why=text)
        yield from ask(Sleep(seconds=_LOOK_S))


def _not_up(journey: _Journey, standing: Standing | DoorError) -> Trouble | None:
    """Return what no waiting would mend."""
    if isinstance(standing, DoorError):
        return None
    if standing.verdict == "down":
        return Trouble(status="failed", why=f"it did not come back: {standing.text}")
    if standing.verdict == "unchanged" and journey.subject.manager.unchanged_is_final:
        return Trouble(status="failed", why=f"the restart said it was done, but {standing.text}")
    return None


def _await_still(journey: _Journey) -> Drive[Trouble | None]:
    """Take looks until one succeeds, and judge that one."""
    deadline = (yield from _now(journey)) + journey.subject.settings.gate.deadline
    while True:
        standing = yield from _look(journey)
        if isinstance(standing, Standing):
            return _moved(journey, standing)
        if (yield from _now(journey)) >= deadline:
            return Trouble(status="unknown", why=_last_seen(standing))
        yield from ask(Sleep(seconds=_LOOK_S))


def _moved(journey: _Journey, standing: Standing) -> Trouble | None:
    """Say what happened to the process that was up."""
    if standing.verdict == "up" and standing.identity == journey.after:
        return None
    if standing.verdict == "up":
        return Trouble(
            status="failed",
            why="it runs, but as another process than the one that we started: it crashed, or"
            " somebody else restarted it",
        )
    return Trouble(status="failed", why=f"it came up, and did not stay: {standing.text}")


# ---- gates ---------------------------------------------------------------------------------


def _consecutive(
    journey: _Journey,
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
    deadline = (yield from _now(journey)) + timing.deadline
    good, pause = 0, min(_LOOK_S, timing.interval)
    while True:
        left = deadline - (yield from _now(journey))
        look = journey.subject.manager.look()
        seen, *answers = yield from ask(Together(effects=(look, *looks(left))))
        standing = _judged(journey, seen)
        moved = _moved(journey, standing) if isinstance(standing, Standing) else None
        if moved is not None:
            return moved
        problem = judge(tuple(answers))
        if isinstance(standing, DoorError):
            problem = problem or standing.message
        good = good + 1 if problem is None else 0
        left = deadline - (yield from _now(journey))
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


# ---- the end -------------------------------------------------------------------------------


def _ended(journey: _Journey, trouble: Trouble | None, stage: str) -> Result:
    manager = journey.subject.manager
    data = {
        "seconds": round(journey.now - journey.began, 3),
        "stages": journey.stages,
        "invocation_before": journey.before,
        "invocation_after": journey.after,
        "old_backends": journey.last_row.get("old"),
        "sessions_before": journey.first_row.get("sessions"),
        "sessions": journey.last_row.get("sessions"),
        "slots_before": _slots(journey.first_row),
        "slots": _slots(journey.last_row),
    }
    if trouble is None:
        return Result(
            status="ok",
            summary=_proof(journey),
            data=data,
            touches=journey.subject.footprint(),
        )
    return Result(
        status=trouble.status,
        summary=trouble.why,
        hint=trouble.hint,
        data={**data, "stage": stage},
        touches=journey.subject.footprint(),
        by_hand=manager.by_hand(journey.seen),
    )


def _proof(journey: _Journey) -> str:
    """Say what makes us sure that it was restarted and is well."""
    parts = ["a new process"]
    if journey.subject.settings.settle:
        parts.append(f"stable for {format_duration(journey.subject.settings.settle)}")
    if journey.subject.service.gates:
        times = journey.subject.settings.gate.successes
        parts.append(f"healthy {times} times in a row" if times > 1 else "healthy")
    if journey.last_row:
        before, now = journey.first_row.get("sessions"), journey.last_row.get("sessions")
        # Where there were none, none can be gone: the name may be declared wrongly.
        if before or now:
            parts.append(f"old backends gone ({before} sessions before, {now} now)")
    return ", ".join(parts)


def _slots(row: dict[str, Any]) -> dict[str, Any] | None:
    """Return the server's slots as one of the gate's answers had them."""
    return {"used": row["used"], "usable": row["usable"]} if row else None
