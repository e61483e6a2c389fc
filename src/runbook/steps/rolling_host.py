"""One host of a rolling restart: drained, restarted, proved restarted, watched, gated, put back.

    draining -> restarting -> stabilising -> gating -> db_gating -> undraining -> ok

The restart is asked for once. When its answer is lost, the host is looked at, never asked again:
the identity (systemd's InvocationID, or what the status command prints) tells what happened. So it
is when a whole process was lost: `observing` goes first then, see `rolling_crashed`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from runbook.model.document import visible
from runbook.model.effects import (
    CommandOutcome,
    Drive,
    Effect,
    Interrupted,
    Note,
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
    Refused,
    StepFailed,
    Unreachable,
)
from runbook.model.plan import Crashed, Result, Status
from runbook.model.step import StepContext
from runbook.model.systemd import Standing, Unfit
from runbook.model.units import format_duration
from runbook.steps.database_gate import row_of
from runbook.steps.rolling_args import RollingArgs
from runbook.steps.rolling_crashed import boot_look, boot_of, observing
from runbook.steps.rolling_draining import draining, give_back, owe, undraining
from runbook.steps.rolling_gating import database_gating, gating
from runbook.steps.rolling_journey import (
    Journey,
    Trouble,
    await_still,
    await_up,
    last_seen,
    look,
    moved,
    now,
)
from runbook.steps.rolling_subject import subject_of

#: Between two looks in the settle window. InvocationID and NRestarts only ever move on, so a
#: crash between two looks is still seen by the next.
_SETTLE_LOOK_S = 0.5
#: Looks that must agree before a restart whose answer was lost counts as never made.
_UNCHANGED_LOOKS = 3
_LONGEST_SAYING = 300


_Stage = Callable[[Journey], Drive[Trouble | None]]


def restart(args: RollingArgs, ctx: StepContext) -> Drive[Result]:
    """Take one host through every stage and say how it ended."""
    subject = subject_of(args, ctx.fleet, ctx.target)
    sessions = subject.sessions()
    if isinstance(sessions, Unfit):
        why = f"nothing was restarted: {sessions.problem}"
        return Result(status="failed", summary=why, hint=sessions.hint)
    timeout_s = float(ctx.given["prepared"]["timeouts"]["restart_s"])
    crashed = ctx.given.get("crashed")
    journey = Journey(
        subject=subject,
        timeout_s=timeout_s,
        sessions=sessions,
        crashed=Crashed(**crashed) if crashed else None,
    )
    return (yield from travel(journey))


def travel(journey: Journey) -> Drive[Result]:
    """Take a host through every stage that is for it, and say how it ended."""
    yield from _read_clock(journey)
    journey.began = journey.now
    for name, stage in _STAGES:
        if _passed_over(journey, name):
            continue
        trouble = yield from _pass(journey, name, stage)
        if trouble is not None:
            return _ended(journey, trouble, name)
    return _ended(journey, None, "")


def _passed_over(journey: Journey, stage: str) -> bool:
    """Whether a stage has nothing to do for this host."""
    match stage:
        case "observing":
            return journey.crashed is None
        case "draining":
            return journey.made_before or journey.subject.rotation is None
        case "restarting":
            return journey.made_before
        case "undraining":
            return journey.subject.rotation is None
    return False


def _pass(journey: Journey, name: str, stage: _Stage) -> Drive[Trouble | None]:
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


def _read_clock(journey: Journey) -> Drive[None]:
    """Read the clock for the record; past the step's time limit its last reading stands."""
    with suppress(StepFailed):
        yield from now(journey)


def _cut_short(journey: Journey, stage: str, error: StepFailed) -> Trouble:
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


def _restarting(journey: Journey) -> Drive[Trouble | None]:
    trouble = yield from _look_before(journey)
    if trouble is not None:
        return trouble
    yield from _note_before(journey)
    change = journey.subject.manager.restart(journey.timeout_s)
    yield from ask(Say(stage="restarting", text=change.sentence()))
    try:
        yield from owe(journey, under_way=True)
        outcome = yield from ask(change)
    except (Unreachable, NotStarted, Refused) as error:
        yield from _owe_no_restart(journey)
        return _untouched(error)
    except (ConnectionLost, CommandFailed) as error:
        return (yield from _find_out(journey, error.message))
    journey.asked = journey.in_doubt = True
    with suppress(StepFailed):
        yield from ask(Note(data={"exit_code": outcome.exit_code}))
    if outcome.ok:
        return None
    if outcome.exit_code < 0:
        return (yield from _find_out(journey, "the restart command was killed by a signal"))
    yield from _owe_no_restart(journey)
    return (yield from _explain(journey, outcome))


def _stabilising(journey: Journey) -> Drive[Trouble | None]:
    """Wait for the new process; then watch it for the settle window."""
    yield from ask(Say(stage="stabilising", text="waiting for the new process"))
    trouble = yield from await_up(journey)
    if trouble is not None:
        return trouble
    settle = journey.subject.settings.settle
    until = (yield from now(journey)) + settle
    if settle:
        text = f"{journey.after[:12]} runs; watching it for {format_duration(settle)}"
        yield from ask(Say(stage="stabilising", text=text))
    while (left := until - (yield from now(journey))) > 0:
        yield from ask(Sleep(seconds=min(_SETTLE_LOOK_S, left)))
        standing = yield from look(journey)
        trouble = moved(journey, standing) if isinstance(standing, Standing) else None
        if trouble is not None:
            return trouble
    # The window must end with a look that succeeded.
    trouble = (yield from await_still(journey)) if settle else None
    journey.stable = trouble is None
    return trouble


_STAGES: tuple[tuple[str, _Stage], ...] = (
    ("observing", observing),
    ("draining", draining),
    ("restarting", _restarting),
    ("stabilising", _stabilising),
    ("gating", gating),
    ("db_gating", database_gating),
    ("undraining", undraining),
)


# ---- restarting ----------------------------------------------------------------------------


def _look_before(journey: Journey) -> Drive[Trouble | None]:
    """Look once more: preflight may be minutes old, and somebody else may have been here."""
    manager = journey.subject.manager
    looks: tuple[Effect[Any], ...] = (manager.look(), boot_look(journey.subject.host.name))
    if journey.sessions is not None:
        looks = (*looks, journey.sessions.look())
    seen, boot, *rows = yield from ask(Together(effects=looks))  # type: ignore[arg-type]
    for outcome in (seen, *rows):
        if isinstance(outcome, DoorError):
            return _untouched(outcome)
    unfit = manager.unfit(seen)
    if unfit is not None:
        why = f"nothing was restarted: {unfit.problem}"
        return Trouble(status="failed", why=why, hint=unfit.hint)
    journey.seen, journey.before = seen, manager.identity(seen)
    journey.boot_id = boot_of(boot)
    journey.first_row = row_of(rows[0]) if rows else {}
    journey.since = journey.first_row.get("now")
    if (yield from ask(Interrupted())):
        # What has not been asked for is not asked for any more.
        return (yield from give_back(journey, "somebody wants the run to stop", stopped=True))
    return None


def _note_before(journey: Journey) -> Drive[None]:
    """Keep what a later process needs to tell whether this restart was made."""
    note = {
        "stage": "restarting",
        # The journal's sentences have no secrets in them, so they may not be compared.
        "restart_intended": True,
        "before": journey.before,
        "fingerprint": journey.subject.manager.fingerprint(journey.seen),
        "since": journey.since,
        "boot_id": journey.boot_id,
        "first_row": journey.first_row,
        "drained": bool(journey.ours),
        "exit_code": None,
        # For whoever stops waiting for this host: the debts are told beside it.
        "by_hand": list(journey.subject.by_hand(journey.seen)),
    }
    yield from ask(Note(data=note))


def _owe_no_restart(journey: Journey) -> Drive[None]:
    """The restart said no, or was never made: the way back need not wait for it."""
    with suppress(StepFailed, Refused):
        yield from owe(journey)


def _untouched(error: DoorError | Refused) -> Trouble:
    """The restart was certainly not made."""
    status: Status = "unreachable" if isinstance(error, Unreachable) else "failed"
    if isinstance(error, Refused):
        status = "refused"
    why = f"nothing was restarted: {error.message}"
    return Trouble(status=status, why=why, hint=error.hint or "")


def _find_out(journey: Journey, lost: str) -> Drive[Trouble | None]:
    """The answer to the restart was lost: look, until it is clear what happened."""
    journey.asked = journey.answer_lost = journey.in_doubt = True
    yield from ask(Say(stage="unknown", text=f"{lost}; looking at what happened"))
    limit = journey.subject.settings.gate.deadline
    deadline = (yield from now(journey)) + limit
    unchanged = 0
    while True:
        standing = yield from look(journey)
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
        if (yield from now(journey)) >= deadline:
            return Trouble(status="unknown", why=f"{lost}; {last_seen(standing)}")
        yield from ask(Sleep(seconds=1.0))


def _explain(journey: Journey, outcome: CommandOutcome) -> Drive[Trouble]:
    """The restart said no: why, and how does the host stand now?"""
    said = visible(" ".join(outcome.stderr.split()))[:_LONGEST_SAYING]
    refused_by_sudo = said.startswith("sudo:")
    who = "sudo refused" if refused_by_sudo else f"the restart exited with {outcome.exit_code}"
    try:
        now = last_seen((yield from look(journey)))
    except StepFailed as error:
        now = error.message
    return Trouble(status="failed", why="; ".join(part for part in (who, said, now) if part))


# ---- the end -------------------------------------------------------------------------------


def _ended(journey: Journey, trouble: Trouble | None, stage: str) -> Result:
    subject = journey.subject
    if trouble is None:
        return Result(
            status="ok",
            summary=_proof(journey),
            data=_data(journey),
            touches=subject.footprint(),
        )
    stopped = {"interrupted": True} if trouble.interrupted else {}
    return Result(
        status=trouble.status,
        summary=trouble.why + ("" if trouble.placed else _drained_still(journey)),
        hint=trouble.hint or subject.manager.hint(journey.seen),
        data={**_data(journey), "stage": stage, **stopped},
        touches=subject.footprint(),
        by_hand=subject.by_hand(journey.seen, journey.ours),
    )


def _data(journey: Journey) -> dict[str, Any]:
    return {
        "seconds": round(journey.now - journey.began, 3),
        "stages": journey.stages,
        "invocation_before": journey.before,
        "invocation_after": journey.after,
        "old_backends": journey.last_row.get("old"),
        "sessions_before": journey.first_row.get("sessions"),
        "sessions": journey.last_row.get("sessions"),
        "slots_before": _slots(journey.first_row),
        "slots": _slots(journey.last_row),
        "drained": list(journey.ours),
        "kept_out": list(journey.kept_out),
    }


def _drained_still(journey: Journey) -> str:
    """Say that the host gets no traffic, where that is so."""
    return f"; it stays drained in {', '.join(journey.ours)}" if journey.ours else ""


def _proof(journey: Journey) -> str:
    """Say what makes us sure that it was restarted and is well."""
    parts = ["a new process"]
    if journey.rebooted:
        parts = ["the host has rebooted since its restart was asked for: a new process"]
    elif journey.made_before:
        parts = ["a new process, of a restart that an earlier process asked for"]
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
    return ", ".join([*parts, *_whereabouts(journey)])


def _whereabouts(journey: Journey) -> list[str]:
    """Say where its balancers have the host now."""
    back = ["back in rotation"] if journey.back else []
    kept = ", ".join(journey.kept_out)
    return [*back, f"out of rotation in {kept} as before this run"] if kept else back


def _slots(row: dict[str, Any]) -> dict[str, Any] | None:
    """Return the server's slots as one of the gate's answers had them."""
    return {"used": row["used"], "usable": row["usable"]} if row else None
