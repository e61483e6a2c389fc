"""Start, stop and reload, carried out once and seen: what the exit code says proves nothing."""

from __future__ import annotations

from typing import Any

from runbook.model.document import visible
from runbook.model.effects import Drive, Note, Say, Sleep, Together, ask
from runbook.model.errors import (
    CommandFailed,
    ConnectionLost,
    DoorError,
    NotStarted,
    Refused,
    StepFailed,
    Unreachable,
)
from runbook.model.plan import Result, Status
from runbook.model.units import format_duration
from runbook.steps.rolling_journey import Journey, now
from runbook.steps.service_manager import Action, ServiceManager, on_host

#: Between two looks while something is awaited.
_LOOK_S = 0.25
_LONGEST_SAYING = 300


def already(manager: ServiceManager, action: Action, seen: Any) -> bool:
    """Whether what the action would bring about is so, with nothing under way."""
    if manager.busy(seen) is not None:
        return False
    down = manager.down(seen) is not None
    return (action == "start" and not down) or (action == "stop" and manager.stopped(seen))


def nothing_done(manager: ServiceManager, action: Action, seen: Any) -> str:
    """Say so."""
    state = "runs" if action == "start" else "is stopped"
    identity = manager.identity(seen) if action == "start" else ""
    return f"it {state} already{f' ({identity[:12]})' if identity else ''}: nothing is done"


def carry_out(journey: Journey, action: Action) -> Drive[Result]:
    """Take one of these actions and prove it.

    After a crash it is looked at first. Where nothing of it is to be seen, it is done again: to
    start what is started, to stop what is stopped and to reload twice does no harm.
    """
    manager = journey.subject.manager
    try:
        seen = yield from ask(manager.look())
        if already(manager, action, seen):
            return Result(status="ok", summary=nothing_done(manager, action, seen))
        unfit = None if manager.busy(seen) else manager.unfit_for(action, seen)
        if unfit is not None:
            why = f"nothing was done: {unfit.problem}"
            return Result(status="failed", summary=why, hint=unfit.hint)
        journey.seen, journey.before = seen, manager.identity(seen)
        yield from ask(Note(data={"before": journey.before}))
        said = yield from _asked_for(journey, action)
    except (Unreachable, NotStarted, Refused) as error:
        return _undone(error)
    try:
        return (yield from _proved(journey, action, said))
    except StepFailed as error:
        return _ended(journey, action, "unknown", error.message)


def _undone(error: DoorError | Refused) -> Result:
    status: Status = "unreachable" if isinstance(error, Unreachable) else "failed"
    why = f"nothing was done: {error.message}"
    return Result(status=status, summary=why, hint=error.hint or "")


def _asked_for(journey: Journey, action: Action) -> Drive[str]:
    """Make the change; return what it said when it said no, or why its answer was lost."""
    change = journey.subject.manager.take(action, journey.timeout_s)
    yield from ask(Say(stage=_STAGE[action], text=change.sentence()))
    try:
        outcome = yield from ask(change)
    except (Unreachable, NotStarted):
        raise
    except (ConnectionLost, CommandFailed) as error:
        journey.answer_lost = True
        return error.message
    if outcome.ok:
        return ""
    said = visible(" ".join((outcome.stderr or outcome.stdout).split()))[:_LONGEST_SAYING]
    return f"it exited with {outcome.exit_code}" + (f": {said}" if said else "")


_STAGE = {"start": "starting", "stop": "stopping", "reload": "reloading", "restart": "restarting"}


def _proved(journey: Journey, action: Action, said: str) -> Drive[Result]:
    """Look until it is as it should be and stays so, or the deadline has come."""
    manager, settle = journey.subject.manager, journey.subject.settings.settle
    deadline = (yield from now(journey)) + journey.subject.settings.gate.deadline
    since, first = 0.0, ""
    while True:
        (seen,) = yield from ask(Together(effects=(manager.look(),)))
        at = yield from now(journey)
        journey.seen = journey.seen if isinstance(seen, DoorError) else seen
        problem = _problem(journey, action, seen)
        if isinstance(seen, DoorError):
            since = 0.0
        elif problem is None:
            identity = manager.identity(seen)
            if since and identity != first:
                why = "it runs, but as another process than at first: it crashed and came back"
                return _ended(journey, action, "failed", why)
            since, first = since or at, identity
            if action == "stop" or at - since >= settle:
                return _done(journey, action, said, settle)
        elif since or _settled(journey, action, said, seen):
            return _ended(journey, action, "failed", "; ".join(filter(None, (said, problem))))
        if at >= deadline and not since:
            status: Status = "unknown" if isinstance(seen, DoorError) else "failed"
            return _ended(journey, action, status, "; ".join(filter(None, (said, problem))))
        yield from ask(Sleep(seconds=_LOOK_S))


def _settled(journey: Journey, action: Action, said: str, seen: Any) -> bool:
    """Whether no waiting would mend it."""
    manager = journey.subject.manager
    if manager.busy(seen):
        return False
    if said and not journey.answer_lost:
        return True
    return action != "stop" and manager.standing(seen, "").verdict == "down"


def _problem(journey: Journey, action: Action, seen: Any) -> str | None:
    """Say what is not yet as the action should leave it."""
    manager = journey.subject.manager
    if isinstance(seen, DoorError):
        return f"the host cannot be looked at: {seen.message}"
    busy = manager.busy(seen)
    if busy is not None:
        return busy
    if action == "stop":
        return None if manager.stopped(seen) else "it still runs"
    if action == "reload" and manager.identity(seen) != journey.before:
        return "it is another process than before: it was restarted, not reloaded"
    standing = manager.standing(seen, "")
    return None if standing.verdict == "up" else standing.text


def _done(journey: Journey, action: Action, said: str, settle: float) -> Result:
    """It is as it should be; a reload that said no is none, whatever still runs."""
    if action == "reload" and said:
        status: Status = "unknown" if journey.answer_lost else "failed"
        return _ended(journey, action, status, said)
    stable = f", stable for {format_duration(settle)}" if settle and action != "stop" else ""
    words = {
        "start": f"it runs as a new process{stable}",
        "stop": "it is stopped",
        "reload": f"it has reloaded, and runs as the same process{stable}",
    }
    return Result(status="ok", summary=words[action], data=_data(journey))


def _ended(journey: Journey, action: Action, status: Status, why: str) -> Result:
    manager, host = journey.subject.manager, journey.subject.host
    argv = manager.argv_of(action) or ()
    sudo = ("sudo",) if host.sudo else ()
    looks = manager.by_hand(journey.seen)[:-1]
    return Result(
        status=status,
        summary=why,
        hint=manager.hint(journey.seen),
        data=_data(journey),
        by_hand=(*looks, on_host(host, (*sudo, *argv))),
    )


def _data(journey: Journey) -> dict[str, Any]:
    manager = journey.subject.manager
    after = manager.identity(journey.seen) if journey.seen is not None else ""
    return {"invocation_before": journey.before, "invocation_after": after}
