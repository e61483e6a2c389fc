"""Pays what a rolling restart still owes: a host that was drained is put back, if it is well.

It runs when the host's own drive could not: after a crash, a halt, or at the end of a run. A host
that is not healthy stays drained; the debt stays open, and is told with the commands to pay it.
"""

from __future__ import annotations

from typing import Any

from runbook.model.effects import CommandOutcome, Drive, Note, Now, Paid, Say, Sleep, Together, ask
from runbook.model.errors import DoorError, StepFailed
from runbook.model.plan import Result
from runbook.model.step import StepContext
from runbook.steps.draining import Rotation, look_at
from runbook.steps.rolling_args import RollingArgs
from runbook.steps.rolling_crashed import AGREEING_LOOKS, AGREEING_PAUSE_S
from runbook.steps.rolling_draining import debt, put_back
from runbook.steps.rolling_subject import Subject, subject_of

#: However short the interval of its gates is: looks without a pause would be a busy loop.
_SHORTEST_PAUSE_S = 0.05


def settle(args: RollingArgs, ctx: StepContext) -> Drive[Result]:
    """Put one host back into rotation where this run took it out, if it is healthy."""
    subject = subject_of(args, ctx.fleet, ctx.target)
    owed = ctx.given["owed"]
    names = tuple(owed["data"]["ours"])
    rotation = subject.rotation
    if rotation is None or len(rotation.of(names)) != len(names):
        why = f"the inventory has no balancer {', '.join(names)} for it any more"
        return _still_owed(subject, why, owed)
    try:
        return (yield from _settled(subject, rotation, names, owed))
    except (DoorError, StepFailed) as error:
        return _still_owed(subject, error.message, owed)


def _settled(
    subject: Subject, rotation: Rotation, names: tuple[str, ...], owed: dict[str, Any]
) -> Drive[Result]:
    sights = [s for s in (yield from look_at(rotation)) if s.balancer in names]
    # A balancer that does not tell is told again: undraining twice does no harm.
    if all(sight.place == "in" and rotation.tells(sight.balancer) for sight in sights):
        yield from ask(Note(data={"ours": []}))
        yield from ask(Paid(key=debt(subject)))
        return Result(status="ok", summary=f"{subject.host.name} is in rotation already")
    silent = next((sight for sight in sights if sight.place == "unknown"), None)
    ill = str(silent) if silent is not None else (yield from _not_well(subject, owed["data"]))
    if ill is not None:
        return _still_owed(subject, ill, owed)
    why = yield from put_back(subject, rotation, names)
    if why is not None:
        return _still_owed(subject, why, owed)
    undrains = rotation.footprint()[1]
    return Result(status="ok", summary=f"{subject.host.name} is back in rotation", touches=undrains)


def _not_well(subject: Subject, owed: dict[str, Any]) -> Drive[str | None]:
    """Look as often as a gate must pass: why the host is not healthy, or None.

    One process must run all the while: a unit in a crash loop is active at most looks. One that
    has crashed before is watched for the whole settle window. A restart that was asked for, and
    may still come, would hit a host that serves: where that cannot be ruled out, it stays out.
    """
    timing, manager = subject.settings.gate, subject.manager
    looks, pause = max(timing.successes, 2), max(timing.interval, _SHORTEST_PAUSE_S)
    if owed.get("under_way"):
        looks, pause = max(looks, AGREEING_LOOKS), max(pause, AGREEING_PAUSE_S)
    began, good, first = (yield from ask(Now())), 0, ""
    while True:
        outcomes = yield from ask(Together(effects=subject.looks()))
        ill = subject.ill(outcomes) or manager.busy(outcomes[0])
        ill = ill or (yield from _restart_to_come(subject, outcomes[0], owed))
        if ill is not None:
            return ill
        identity = manager.identity(outcomes[0])
        if good and identity != first:
            return "its process was replaced while it was looked at"
        good, first = good + 1, identity
        watched = (yield from ask(Now())) - began
        long_enough = not manager.crashed_before(outcomes[0]) or watched >= subject.settings.settle
        if good >= looks and long_enough:
            return None
        yield from ask(Say(stage="settling", text=f"healthy, look {good}"))
        yield from ask(Sleep(seconds=pause))


def _restart_to_come(subject: Subject, seen: Any, owed: dict[str, Any]) -> Drive[str | None]:
    """Say why a restart may still be on its way to the host, or None."""
    manager, at_work = subject.manager, subject.manager.at_work()
    if at_work is not None:
        (working,) = yield from ask(Together(effects=(at_work,)))
        if isinstance(working, CommandOutcome) and working.ok:
            return "a restart command is still at work there"
    if not owed.get("under_way") or manager.unchanged_is_final:
        return None
    if manager.standing(seen, str(owed.get("before") or "")).verdict != "unchanged":
        return None
    return "its restart was asked for and may still come: the process from before runs"


def _still_owed(subject: Subject, why: str, owed: dict[str, Any]) -> Result:
    return Result(
        status="failed",
        summary=f"{subject.host.name} stays out of rotation: {why}",
        hint="put it back by hand once it is well",
        data={"owed": owed["key"]},
        by_hand=tuple(owed.get("by_hand", ())),
    )
