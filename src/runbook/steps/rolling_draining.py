"""The stages around a restart for a host behind balancers: draining before, undraining after.

What is drained is owed an undrain: the debt is on disk before the first balancer is told, and paid
once every one of them has the host in rotation again. A host that is not healthy is never put back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runbook.model.effects import (
    ChangeCommand,
    CommandOutcome,
    Drive,
    Interrupted,
    Note,
    Now,
    Observe,
    Owe,
    Paid,
    Say,
    Sleep,
    Together,
    ask,
)
from runbook.model.errors import DoorError, Refused
from runbook.model.units import format_duration
from runbook.steps.draining import Balancer, Rotation, Sight, count_left, look_at
from runbook.steps.rolling_journey import Journey, Trouble, now
from runbook.steps.rolling_subject import Subject

#: Between two looks at a balancer; each costs it a command on its socket.
_LOOK_S = 0.5


@dataclass(frozen=True, kw_only=True)
class _Left:
    """One look at a host that is being drained."""

    #: Balancers that have it in rotation still, or could not be asked.
    still: tuple[Sight, ...]
    #: Connections that are left; None when nothing counts them; a text when counting failed.
    count: int | str | None

    def problem(self, at_most: int) -> str | None:
        """Say what is still waited for."""
        if self.still:
            return str(self.still[0])
        if isinstance(self.count, str):
            return self.count
        if self.count is not None and self.count > at_most:
            connections = "connection is" if self.count == 1 else "connections are"
            return f"{self.count} {connections} left, {at_most} may be"
        return None


def debt(subject: Subject) -> str:
    """Return the key under which a host's return to rotation is owed, unique in a run."""
    return f"undrain {subject.host.name} ({subject.name})"


# ---- draining ------------------------------------------------------------------------------


def draining(journey: Journey) -> Drive[Trouble | None]:
    """Take the host out of rotation, and wait until its connections have gone."""
    rotation = journey.subject.rotation
    if rotation is None:
        return None
    sights = yield from look_at(rotation)
    trouble = _claim(journey, sights)
    if trouble is not None:
        return trouble
    kept = [str(sight) for sight in sights if sight.balancer in journey.kept_out]
    if kept:
        text = f"{'; '.join(kept)}: it was so before this run, and stays so"
        yield from ask(Say(stage="draining", text=text))
    why, stopped = (yield from _drained(journey, rotation)), False
    if why is None and (yield from ask(Interrupted())):
        why, stopped = "somebody wants the run to stop", True
    if why is not None:
        return (yield from give_back(journey, why, stopped=stopped))
    yield from ask(Note(data={"stage": "drained", "drained": bool(journey.ours)}))
    return None


def _claim(journey: Journey, sights: tuple[Sight, ...]) -> Trouble | None:
    """Tell the balancers that are ours to drain from those that have the host out already."""
    silent = next((sight for sight in sights if sight.place == "unknown"), None)
    if silent is not None:
        why = f"nothing was drained or restarted: {silent}"
        return Trouble(status="failed", why=why, hint=silent.hint)
    earlier = set(journey.ours)
    journey.ours = tuple(
        sight.balancer for sight in sights if sight.place != "out" or sight.balancer in earlier
    )
    journey.kept_out = tuple(s.balancer for s in sights if s.balancer not in journey.ours)
    return None


def _drained(journey: Journey, rotation: Rotation) -> Drive[str | None]:
    """Tell the balancers and wait; return why the host is not drained, or None."""
    if journey.ours:
        # What an earlier process, or a person's word, has left of a restart is over by now.
        note = {"stage": "draining", "ours": list(journey.ours), "restart_intended": False}
        yield from ask(Note(data=note))
        yield from owe(journey)
    for balancer in rotation.of(journey.ours):
        change = balancer.drain()
        yield from ask(Say(stage="draining", text=change.sentence()))
        no = yield from _told(balancer, change)
        if no is not None:
            return no
    return (yield from _emptied(journey, rotation))


def owe(journey: Journey, *, under_way: bool = False) -> Drive[None]:
    """Owe the way back of what this run has drained; `under_way`: its restart may still come.

    The same debt again takes the place of the one before.
    """
    subject, ours = journey.subject, journey.ours
    if subject.rotation is None or not ours:
        return
    data: dict[str, Any] = {
        "service": subject.name,
        "host": subject.host.name,
        "ours": list(ours),
    }
    if under_way:
        data |= {"under_way": True, "before": journey.before}
    yield from ask(
        Owe(
            key=debt(subject),
            what=f"{subject.host.name} was taken out of rotation in {', '.join(ours)}",
            by_hand=subject.rotation.by_hand(ours),
            data=data,
        )
    )


def _told(balancer: Balancer, change: ChangeCommand) -> Drive[str | None]:
    """Make a change; return why it was not made, or may not have been."""
    try:
        outcome: CommandOutcome = yield from ask(change)
    except (DoorError, Refused) as error:
        return error.message
    return balancer.said_no(outcome)


def _emptied(journey: Journey, rotation: Rotation) -> Drive[str | None]:
    """Wait until nothing new comes and so few connections are left; return why not, or None."""
    settings = rotation.settings
    deadline = (yield from now(journey)) + settings.deadline
    told = ""
    while True:
        left = yield from _look_left(rotation)
        problem = left.problem(settings.at_most)
        if problem is None:
            count = "" if left.count is None else f"; connections left: {left.count}"
            yield from ask(Say(stage="drained", text=f"out of rotation{count}"))
            return None
        if (yield from ask(Interrupted())):
            return None  # whoever called us asks again, and puts the host back
        if (yield from now(journey)) >= deadline:
            return f"not drained within {format_duration(settings.deadline)}: {problem}"
        if problem != told:
            yield from ask(Say(stage="draining", text=problem))
            told = problem
        yield from ask(Sleep(seconds=_LOOK_S))


def _look_left(rotation: Rotation) -> Drive[_Left]:
    looks: tuple[Observe[Any], ...] = rotation.looks()
    counter = (rotation.counter,) if rotation.counter is not None else ()
    outcomes = yield from ask(Together(effects=(*looks, *counter)))
    sights = rotation.sights(outcomes[: len(looks)])
    still = tuple(s for s in sights if s.place != "out" and rotation.tells(s.balancer))
    if counter:
        return _Left(still=still, count=count_left(outcomes[-1]))
    counts = [sight.connections for sight in sights if sight.connections is not None]
    return _Left(still=still, count=sum(counts) if counts else None)


def give_back(journey: Journey, why: str, *, stopped: bool) -> Drive[Trouble]:
    """The host is not to be restarted: put it back where this run took it out, if it is well."""
    if not journey.ours:
        return _untouched(why, stopped=stopped)
    ill = yield from unwell(journey.subject)
    if ill is not None:
        why = f"nothing was restarted: {why}; it is not healthy, so it is not put back: {ill}"
        return Trouble(status="failed", why=why)
    trouble = yield from undraining(journey)
    if trouble is not None:
        why = f"nothing was restarted: {why}; {trouble.why}"
        return Trouble(status="failed", why=why, placed=True)
    return _untouched(f"{why}; it is back in rotation", stopped=stopped)


def _untouched(why: str, *, stopped: bool) -> Trouble:
    why = f"nothing was restarted: {why}"
    return Trouble(status="failed", why=why, interrupted=stopped)


def unwell(subject: Subject) -> Drive[str | None]:
    """Look once: why the host is not healthy, or None; where balancers have it does not count."""
    outcomes = yield from ask(Together(effects=subject.looks()))
    return subject.ill(outcomes)


# ---- undraining ----------------------------------------------------------------------------


def undraining(journey: Journey) -> Drive[Trouble | None]:
    """Put the host back where this run took it out, and see it there."""
    rotation = journey.subject.rotation
    if rotation is None or not journey.ours:
        return None
    yield from ask(Note(data={"stage": "undraining"}))
    why = yield from put_back(journey.subject, rotation, journey.ours)
    yield from now(journey)
    if why is None:
        journey.ours, journey.back = (), True
        return None
    why = f"it is well, and not back in rotation: {why}"
    return Trouble(status="failed", why=why, placed=True)


def put_back(subject: Subject, rotation: Rotation, names: tuple[str, ...]) -> Drive[str | None]:
    """Undrain, wait until it is seen in rotation, and pay the debt; return why not, or None."""
    for balancer in rotation.of(names):
        change = balancer.undrain()
        yield from ask(Say(stage="undraining", text=change.sentence()))
        no = yield from _told(balancer, change)
        if no is not None:
            return no
    why = yield from _seen_in(rotation, names)
    if why is None:
        yield from ask(Note(data={"ours": []}))
        yield from ask(Paid(key=debt(subject)))
    return why


def _seen_in(rotation: Rotation, names: tuple[str, ...]) -> Drive[str | None]:
    """Wait until every one of these balancers sends to the host; return who does not, or None."""
    limit = rotation.settings.deadline
    deadline = (yield from ask(Now())) + limit
    while True:
        sights = yield from look_at(rotation)
        missing = next((s for s in sights if s.balancer in names and s.place != "in"), None)
        if missing is None:
            return None
        if (yield from ask(Now())) >= deadline:
            return f"not in rotation within {format_duration(limit)}: {missing}"
        yield from ask(Sleep(seconds=_LOOK_S))
