"""What is switched off is owed back on: pause and resume, disable and enable, at one PgBouncer.

The debt is on disk before the console is told. A later step of the playbook that switches it on
again pays it; else the end of the run does, or its resume. A PAUSE goes on though whoever asked for
it has left (measured on 1.18): so it is asked for, and then looked at, until the pool is empty or
the time is over. Then it is taken back, for its clients wait all the while.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runbook.model.effects import (
    ConsoleCommand,
    ConsoleReply,
    Drive,
    Interrupted,
    Now,
    Owe,
    Paid,
    Say,
    Sleep,
    TellPgBouncer,
    ask,
)
from runbook.model.errors import DoorError, Refused, Unreachable
from runbook.model.fleet import Fleet
from runbook.model.plan import Crashed, Result
from runbook.model.units import format_duration
from runbook.steps.pgbouncer_console import Seen, by_hand, look, quoted

#: Between two looks at a pool that empties.
_LOOK_S = 0.25
#: Seconds that the console is given to come back by itself; what is left is looked at.
_AT_ONCE_S = 1.0
#: How long the clients of a paused pool may keep their server connections: as long as anybody would
#: wait for a page.
PAUSE_WAIT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Switch:
    """One thing of a PgBouncer that is switched off and on."""

    off: ConsoleCommand
    on: ConsoleCommand
    #: The column of SHOW DATABASES.
    state: str


PAUSED = Switch(off="PAUSE", on="RESUME", state="paused")
DISABLED = Switch(off="DISABLE", on="ENABLE", state="disabled")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A database of a PgBouncer, or all of them (""), and what is switched there."""

    fleet: Fleet
    pgbouncer: str
    database: str
    switch: Switch

    @property
    def name(self) -> str:
        """`bouncer-01/shop`, or the PgBouncer alone."""
        return f"{self.pgbouncer}/{self.database}" if self.database else self.pgbouncer

    @property
    def debt(self) -> str:
        """The key under which it is owed, unique in a run."""
        return f"{self.switch.on.lower()} {self.name}"

    def off(self) -> TellPgBouncer:
        """Return the change that switches it off."""
        return self._tell(self.switch.off, _AT_ONCE_S)

    def on(self) -> TellPgBouncer:
        """Return the change that switches it on."""
        return self._tell(self.switch.on, 5.0)

    def _tell(self, command: ConsoleCommand, timeout_s: float) -> TellPgBouncer:
        return TellPgBouncer(
            pgbouncer=self.pgbouncer, command=command, subject=self.database, timeout_s=timeout_s
        )

    def by_hand(self) -> str:
        """Return how a person switches it on."""
        return by_hand(
            self.fleet, self.pgbouncer, f"{self.switch.on} {quoted(self.database)}".strip()
        )


# ---- off -----------------------------------------------------------------------------------


def switch_off(subject: Subject, wait_s: float, crashed: Crashed | None) -> Drive[Result]:
    """Switch it off; a pause also waits until the pool is empty, and is taken back if it is not."""
    seen = yield from look(subject.pgbouncer)
    state = subject.switch.state
    so = seen.is_(state, subject.database)
    ours = crashed is not None and any(subject.switch.off in line for line in crashed.intended)
    if so and not ours:
        return _refused(f"{subject.name} is {state}, and was not when this was shown")
    yield from _owe(subject)
    if not so:
        reply = yield from _told_off(subject)
        if not reply.ok and reply.came_back:
            yield from ask(Paid(key=subject.debt))
            return _refused(f"{subject.switch.off} {subject.name}: {reply.said}")
    if subject.switch is PAUSED:
        why = yield from _emptied(subject, wait_s)
        if why is not None:
            return (yield from _taken_back(subject, why))
    seen = yield from look(subject.pgbouncer)
    if seen.is_(state, subject.database) is False:
        yield from ask(Paid(key=subject.debt))
        return Result(
            status="failed",
            summary=f"{subject.name} is not {state} any more: somebody said {subject.switch.on}",
        )
    return Result(
        status="ok",
        summary=f"{subject.name} is {state}; {subject.switch.on} is owed",
        data={"owed": subject.debt},
        touches=tuple(sorted(subject.off().footprint())),
        by_hand=(subject.by_hand(),),
    )


def _refused(why: str) -> Result:
    return Result(status="failed", summary=f"nothing was done: {why}")


def _owe(subject: Subject) -> Drive[None]:
    state = subject.switch.state
    yield from ask(
        Owe(
            key=subject.debt,
            what=f"{subject.name} was {state}: {subject.switch.on} is owed",
            by_hand=(subject.by_hand(),),
            # What a crash cuts off is looked at by the step itself, and not said twice.
            data={"database": subject.database, "under_way": True},
        )
    )


def _told_off(subject: Subject) -> Drive[ConsoleReply]:
    try:
        return (yield from ask(subject.off()))
    except (Unreachable, Refused):
        # It never reached the console: then nothing is owed.
        yield from ask(Paid(key=subject.debt))
        raise


def _emptied(subject: Subject, wait_s: float) -> Drive[str | None]:
    """Wait until no server connection of it is left; return why one is, or None."""
    deadline = (yield from ask(Now())) + wait_s
    told = ""
    while True:
        left = (yield from look(subject.pgbouncer)).servers(subject.database)
        if not left:
            return None
        if (yield from ask(Interrupted())):
            return "somebody wants the run to stop"
        if (yield from ask(Now())) >= deadline:
            return f"after {format_duration(wait_s)} clients still keep {_servers(left)}"
        text = f"{subject.name}: clients keep {_servers(left)}"
        if text != told:
            yield from ask(Say(stage="pausing", text=text))
            told = text
        yield from ask(Sleep(seconds=_LOOK_S))


def _servers(number: int) -> str:
    return f"{number} server connection{'' if number == 1 else 's'}"


def _taken_back(subject: Subject, why: str) -> Drive[Result]:
    said = yield from _switched_on(subject)
    interrupted = "wants the run to stop" in why
    data: dict[str, Any] = {"interrupted": True} if interrupted else {}
    if said is not None:
        return Result(
            status="failed",
            summary=f"{subject.name} was not paused: {why}; and it was not resumed: {said}",
            data=data,
            by_hand=(subject.by_hand(),),
        )
    hint = (
        ""
        if interrupted
        else (
            "runbook pgbouncer status shows whose they are; in session mode a client keeps its own"
            " until it leaves"
        )
    )
    return Result(
        status="failed",
        summary=f"{subject.name} was not paused, and is resumed: {why}",
        hint=hint,
        data=data,
    )


# ---- on ------------------------------------------------------------------------------------


def switch_on(subject: Subject) -> Drive[Result]:
    """Switch it on, where it is off; whatever of it was owed is paid then."""
    seen = yield from look(subject.pgbouncer)
    if seen.is_(subject.switch.state, subject.database) is False:
        yield from ask(Paid(key=subject.debt))
        return Result(
            status="ok",
            summary=f"{subject.name} is not {subject.switch.state}: nothing is done",
            data={"already": True},
        )
    said = yield from _switched_on(subject)
    if said is not None:
        return Result(
            status="failed",
            summary=f"{subject.switch.on} {subject.name}: {said}",
            by_hand=(subject.by_hand(),),
        )
    return Result(
        status="ok",
        summary=f"{subject.name} is {_ON[subject.switch.on]}",
        data={"already": False},
        touches=tuple(sorted(subject.on().footprint())),
    )


_ON: dict[ConsoleCommand, str] = {"RESUME": "resumed", "ENABLE": "enabled"}
#: What 1.18 says to RESUME where nothing is paused, and of a database that is gone from its file.
_NOTHING_TO_DO = ("is not paused", "not paused/suspended", "no such database")


def _switched_on(subject: Subject) -> Drive[str | None]:
    """Switch it on, see it on, and pay the debt; return why not, or None."""
    reply = yield from ask(subject.on())
    if not reply.ok and not any(words in reply.said for words in _NOTHING_TO_DO):
        return reply.said
    seen: Seen = yield from look(subject.pgbouncer)
    if seen.is_(subject.switch.state, subject.database):
        return f"it is {subject.switch.state} still"
    yield from ask(Paid(key=subject.debt))
    return None


def settle(subject: Subject, owed: dict[str, Any]) -> Drive[Result]:
    """Pay what the step's own drive, or a later step, has not."""
    try:
        result = yield from switch_on(subject)
    except (DoorError, Refused) as error:
        result = Result(status="failed", summary=error.message)
    if result.good:
        return result
    return Result(
        status="failed",
        summary=f"{subject.name} stays {subject.switch.state}: {result.summary}",
        hint="switch it on by hand: its clients wait",
        data={"owed": owed["key"]},
        by_hand=tuple(owed.get("by_hand", ())),
    )
