"""A snapshot with everything that several judges need of it, worked out once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from runbook.findings.attribution import Attribution, attribute
from runbook.findings.bearers import bearers, held_ends
from runbook.findings.holders import Holder, Seat
from runbook.findings.lock_tree import LockTree, lock_tree
from runbook.findings.orphans import Orphan, orphans
from runbook.findings.protection import QUESTION as ADVISORY_LOCKS
from runbook.findings.protection import lasting
from runbook.findings.seats import same_server, seats_of
from runbook.model.diagnosis import Owner, SlotUse
from runbook.model.inventory import Database, Protect
from runbook.model.leaks import LeakPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runbook.findings.bouncers import Bouncer
    from runbook.findings.holders import Callers
    from runbook.findings.sockets import End
    from runbook.model.fleet import Fleet
    from runbook.model.sessions import Session, Snapshot
    from runbook.model.sockets import HostSockets, Socket

#: Percent of the usable slots from which on the database counts as saturated: from here, one
#: deploy, one failover or one slow query takes the rest (the bands in use are below 70:
#: comfortable, 70 to 89: tight, 90 and more: one incident away).
SATURATED = 90
TIGHT = 70


@dataclass(frozen=True, kw_only=True)
class View:
    """What judges look at; everything in it is derived from the snapshot and the inventory."""

    snapshot: Snapshot
    fleet: Fleet
    #: What counts as leaked.
    policy: LeakPolicy = field(default_factory=LeakPolicy)

    @property
    def target(self) -> str:
        """The inventory's name of the database."""
        return self.snapshot.database

    @cached_property
    def clients(self) -> tuple[Session, ...]:
        """Every session that holds a slot, our own aside."""
        return self.snapshot.clients

    @cached_property
    def hidden(self) -> tuple[Session, ...]:
        """Sessions that hold a slot and whose state our role may not see."""
        return tuple(s for s in self.clients if s.hidden)

    @cached_property
    def by_pid(self) -> dict[int, Session]:
        """Every session, by pid."""
        return {s.pid: s for s in self.snapshot.sessions}

    @cached_property
    def active(self) -> tuple[Session, ...]:
        """Sessions at work: running a statement, and not waiting for somebody's lock."""
        return tuple(s for s in self.clients if s.state == "active" and s.wait_event_type != "Lock")

    @cached_property
    def idle(self) -> tuple[Session, ...]:
        """Sessions outside a transaction, without work."""
        return tuple(s for s in self.clients if s.idle)

    @cached_property
    def locks(self) -> LockTree:
        """Who waits for whose lock."""
        return lock_tree(self.snapshot)

    @cached_property
    def _attribution(self) -> Attribution:
        return attribute(self.snapshot, self.fleet)

    @property
    def holders(self) -> tuple[Holder, ...]:
        """All client sessions by whom they belong to, largest first."""
        return self._attribution.holders

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be mapped with certainty, in words."""
        return self._attribution.notes

    @cached_property
    def seats(self) -> tuple[Seat, ...]:
        """Every service on every host that uses this server, with sessions or without."""
        return seats_of(self.target, self.fleet, self.snapshot.limits.version_num)

    @cached_property
    def holder_of(self) -> dict[int, Holder]:
        """The holder of each client session, by pid."""
        return {s.pid: holder for holder in self.holders for s in holder.sessions}

    @cached_property
    def held_ends(self) -> dict[End, tuple[HostSockets, Socket]]:
        """The app hosts' sockets of which one process is known to hold them, by client's end."""
        return held_ends(self.snapshot)

    @cached_property
    def orphans(self) -> dict[int, Orphan]:
        """Sessions whose client is certainly gone, by pid."""
        return orphans(self)

    @property
    def bouncers(self) -> tuple[Bouncer, ...]:
        """The PgBouncers in front of this server whose consoles have answered."""
        return self._attribution.bouncers

    @property
    def callers(self) -> tuple[Callers, ...]:
        """Their clients, by whom they belong to, largest group first."""
        return self._attribution.callers

    @cached_property
    def lasting(self) -> frozenset[int]:
        """Pids that are protected for what they are: they may be no part of any pool."""
        rows = self.snapshot.extra.get(ADVISORY_LOCKS.name, ())
        advisory = frozenset(row["pid"] for row in rows)
        return frozenset(s.pid for s in self.clients if lasting(s, self.protect, advisory))

    @property
    def database(self) -> Database | None:
        """The inventory's database, if it knows this one."""
        return self.fleet.inventory.databases.get(self.target)

    @cached_property
    def protect(self) -> Protect:
        """What the inventory protects on this server, under whichever of its databases' names."""
        known = self.fleet.inventory.databases
        names = same_server(self.target, self.fleet)
        declared = [known[name].protect for name in names if name in known]
        return Protect(
            roles=tuple(role for protect in declared for role in protect.roles),
            applications=tuple(app for protect in declared for app in protect.applications),
            databases=tuple(name for protect in declared for name in protect.databases),
            addresses=tuple(net for protect in declared for net in protect.addresses),
        )

    @cached_property
    def slots(self) -> SlotUse:
        """The arithmetic of the slots."""
        limits, used, usable = self.snapshot.limits, self.snapshot.used, self.snapshot.usable
        return SlotUse(
            max_connections=limits.max_connections,
            superuser_reserved=limits.superuser_reserved,
            reserved=limits.reserved,
            superuser_sessions=self.snapshot.superusers,
            usable=usable,
            used=used,
            free=max(0, usable - used),
            percent=used * 100 // usable if usable else 100,
        )

    @property
    def saturated(self) -> bool:
        """Whether next to nothing is left."""
        return self.slots.percent >= SATURATED

    def share(self, sessions: int) -> float:
        """Return which share of the usable slots this many sessions are."""
        return round(sessions / max(1, self.slots.usable), 3)

    def percent_of_used(self, sessions: int) -> int:
        """Return how many percent of the sessions in use this many are, rounded down."""
        return sessions * 100 // max(1, len(self.clients))

    def owners(self, concerned: Iterable[Session]) -> tuple[Owner, ...]:
        """Return whom these sessions belong to, those with most of them first."""
        pids = {session.pid for session in concerned}
        counted = [(sum(s.pid in pids for s in h.sessions), h) for h in self.holders]
        counted.sort(key=lambda pair: -pair[0])
        return tuple(self._owner(holder, count) for count, holder in counted if count)

    def _owner(self, holder: Holder, concerned: int) -> Owner:
        held = tuple(bearer.process for bearer in bearers(self, holder))
        return holder.owner(concerned).model_copy(update={"processes": held})
