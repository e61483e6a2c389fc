"""One sample, each session counted once: its service and host, a PgBouncer, or somebody else."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runbook.findings.attribution import attribute
from runbook.model.sockets import plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runbook.findings.holders import Holder
    from runbook.findings.pool_sample import Sample
    from runbook.model.fleet import Fleet
    from runbook.model.sessions import Session, Snapshot

#: What sessions look like in a count: client address, role, database.
Looks = tuple[str | None, str | None, str | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """Sessions by whom they belong to."""

    used: int
    #: Their own, not through a PgBouncer.
    services: Counter[str] = field(default_factory=Counter)
    #: By service and host, where one host alone can have them.
    hosts: Counter[tuple[str, str]] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    #: Sessions at work, by service, whichever way they come; and those of which nobody knows.
    busy: Counter[str] = field(default_factory=Counter)
    blind: Counter[str] = field(default_factory=Counter)
    #: Services with sessions that may be several hosts'.
    blurred: set[str] = field(default_factory=set)
    #: Databases and roles of each service's sessions, whichever way they come.
    databases: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    roles: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


def holders_in(sample: Sample, known: Snapshot, fleet: Fleet) -> tuple[Holder, ...]:
    """Attribute counted sessions, with what is known of the hosts' addresses.

    A count has no process ids, so consoles cannot tell which of them is whose.
    """
    counted = replace(known, sessions=sample.sessions, rung=sample.rung, poolers=(), later=None)
    return attribute(counted, fleet).holders


def through_bouncers(holders: Iterable[Holder]) -> frozenset[Looks]:
    """Return what the sessions look like that were seen to come through PgBouncers."""
    return frozenset(_looks(s) for holder in holders if holder.bouncer for s in holder.sessions)


def see(sample: Sample, holders: Iterable[Holder], bounced: frozenset[Looks] = frozenset()) -> Seen:
    """Count a sample's sessions by whom they belong to; `bounced` look like a PgBouncer's."""
    seen = Seen(used=sample.used)
    for holder in holders:
        for session in (s for s in holder.sessions if s.pid in sample.counts):
            _work(seen, holder, session, sample)
            if not holder.bouncer and _looks(session) not in bounced:
                _place(seen, holder, session, sample.counts[session.pid].sessions)
    return seen


def label_of(holder: Holder) -> str:
    """Return what sessions that are no one service's are called."""
    services = sorted({seat.service for seat in holder.seats})
    return " or ".join(services) if services else holder.label


def _looks(session: Session) -> Looks:
    return session.client_addr, session.role, session.database


def _work(seen: Seen, holder: Holder, session: Session, sample: Sample) -> None:
    service, count = holder.service, sample.counts[session.pid]
    if service is None:
        return
    seen.busy[service] += count.busy
    seen.blind[service] += count.blind
    seen.databases[service].add(session.database or "")
    seen.roles[service].add(session.role or "")


def _place(seen: Seen, holder: Holder, session: Session, sessions: int) -> None:
    service = holder.service
    if service is None:
        seen.others[label_of(holder)] += sessions
        return
    seen.services[service] += sessions
    if len(holder.seats) > 1:
        seen.blurred.add(service)
    elif not _from_elsewhere(holder, session):
        seen.hosts[service, holder.seats[0].host.name] += sessions


def _from_elsewhere(holder: Holder, session: Session) -> bool:
    """Whether a session bears a host's name, is doubted, and does not come from its address."""
    home = plain(holder.seats[0].host.address)
    return bool(holder.doubt and session.client_addr) and plain(session.client_addr or "") != home
