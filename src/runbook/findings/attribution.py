"""Whose sessions they are: the inventory's services and hosts, as far as they can be told apart.

A session is mapped by its application_name, or, for a service that declares none, by its client
address; by the role as well, where the service declares one. Nothing is guessed: what fits no
service stays grouped by the session's own words. Where name and address contradict each other (a
copied configuration, NAT, a load balancer), or several roles or databases hide under one declared
pool, the sessions are shown, and their count proves nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING

from runbook.model.application_name import as_server_keeps
from runbook.model.diagnosis import Owner

if TYPE_CHECKING:
    from runbook.model.fleet import Fleet, ResolvedHost
    from runbook.model.inventory import Service
    from runbook.model.sessions import Session, Snapshot

#: Interactive clients name themselves so; such a session belongs to a person, not to a pool.
CONSOLES = ("psql", "pgadmin", "dbeaver", "datagrip", "pgcli", "tableplus", "pg_activity")


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """One service on one host: where sessions may belong."""

    service: str
    host: ResolvedHost
    declared: Service
    #: What its sessions call themselves, as the server keeps it; None when nothing is declared.
    name: str | None

    @property
    def budget(self) -> int | None:
        """Connections that it may hold, as declared."""
        return self.declared.pool.budget if self.declared.pool else None


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Sessions that belong together; several seats when they cannot be told apart by host."""

    seats: tuple[Seat, ...]
    sessions: tuple[Session, ...]
    #: Why a count or a lifetime proves nothing here; "" when it does.
    doubt: str = ""

    @property
    def budget(self) -> int | None:
        """Connections declared for all seats together; None when any declares nothing."""
        budgets = [seat.budget for seat in self.seats]
        known = [budget for budget in budgets if budget is not None]
        return sum(known) if known and len(known) == len(budgets) else None

    @property
    def max_lifetime_s(self) -> float | None:
        """Seconds that the most patient of the pools keeps a connection; None when unknown."""
        pools = [seat.declared.pool for seat in self.seats]
        ages = [pool.max_lifetime for pool in pools if pool and pool.max_lifetime]
        return max(ages) if ages and len(ages) == len(pools) else None

    @property
    def retires_idle(self) -> bool:
        """Whether every one of the pools closes its idle connections at their maximum lifetime."""
        pools = [seat.declared.pool for seat in self.seats]
        return bool(pools) and all(pool is not None and pool.retires_idle for pool in pools)

    @property
    def idle_timeout_s(self) -> float:
        """Seconds after which the most patient of the pools closes an idle connection, or 0."""
        pools = [seat.declared.pool for seat in self.seats]
        return max((pool.idle_timeout or 0.0 for pool in pools if pool), default=0.0)

    @property
    def service(self) -> str | None:
        """The service, when it is one."""
        names = {seat.service for seat in self.seats}
        return names.pop() if len(names) == 1 else None

    @property
    def host(self) -> str | None:
        """The host, or all that it may be, for people."""
        names = [seat.host.name for seat in self.seats]
        if not names or self.service is None:
            return None
        return ", ".join(names) if len(names) <= 3 else f"{len(names)} hosts"

    @cached_property
    def label(self) -> str:
        """A short name for people: `shop on web-01`, or the sessions' own words."""
        return self.owner(0).label

    def owner(self, concerned: int) -> Owner:
        """Return it as an Owner of which `concerned` sessions are spoken of."""
        return Owner(
            service=self.service,
            host=self.host,
            role=_common({s.role for s in self.sessions}),
            database=_common({s.database for s in self.sessions}),
            application_name=_common({s.application_name for s in self.sessions}),
            client_addr=_common({_from(s) for s in self.sessions}),
            sessions=len(self.sessions),
            concerned=concerned,
            budget=self.budget,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Attribution:
    """All client sessions, each in exactly one holder; and what the mapping stumbled over."""

    holders: tuple[Holder, ...]
    notes: tuple[str, ...] = ()


def attribute(snapshot: Snapshot, fleet: Fleet) -> Attribution:
    """Map a snapshot's client sessions to the services that use its database."""
    mapper = _Mapper(snapshot, fleet)
    groups: dict[tuple[object, ...], list[Session]] = defaultdict(list)
    seats: dict[tuple[object, ...], tuple[tuple[Seat, ...], str]] = {}
    for session in snapshot.clients:
        found, doubt = mapper.map(session)
        key = _key(found, doubt, session)
        groups[key].append(session)
        seats[key] = (found, doubt)
    holders = [
        _unmixed(part)
        for key, members in groups.items()
        for part in _by_address(
            Holder(seats=seats[key][0], sessions=tuple(members), doubt=seats[key][1])
        )
    ]
    holders.sort(key=lambda holder: -len(holder.sessions))
    doubts = dict.fromkeys(holder.doubt for holder in holders if holder.doubt)
    return Attribution(holders=tuple(holders), notes=tuple(doubts))


def seats_of(database: str, fleet: Fleet, version_num: int) -> tuple[Seat, ...]:
    """Return every service on every host that uses a database's server.

    Sessions and slots are the server's: two of the inventory's databases may be on one.
    """
    return tuple(
        Seat(
            service=name, host=host, declared=service, name=_name(service, host, fleet, version_num)
        )
        for sibling in same_server(database, fleet)
        for name, service in fleet.services_of(sibling).items()
        for host in fleet.service_hosts(name)
    )


def same_server(database: str, fleet: Fleet) -> tuple[str, ...]:
    """Return the inventory's databases behind the same host and port, itself among them."""
    known = fleet.inventory.databases
    if database not in known:
        return (database,)
    places = {
        name: (_address(other.connect.host.casefold()), other.connect.port)
        for name, other in known.items()
    }
    return tuple(name for name, place in places.items() if place == places[database])


class _Mapper:
    """Looks up seats by name and by address."""

    def __init__(self, snapshot: Snapshot, fleet: Fleet) -> None:
        self._seats = seats_of(snapshot.database, fleet, snapshot.limits.version_num)
        self._by_name: dict[str, list[Seat]] = defaultdict(list)
        self._by_address: dict[str, list[Seat]] = defaultdict(list)
        for seat in self._seats:
            if seat.name:
                self._by_name[seat.name].append(seat)
            else:
                self._by_address[_address(seat.host.address)].append(seat)
        self._hosts_at: dict[str, set[str]] = defaultdict(set)
        for host in fleet.hosts.values():
            self._hosts_at[_address(host.address)].add(host.name)
        self._bouncers = _bouncers(snapshot.database, fleet)

    def map(self, session: Session) -> tuple[tuple[Seat, ...], str]:
        """Return the seats that a session may belong to, and the doubt about it."""
        named = self._fitting(self._by_name.get(session.application_name, ()), session)
        doubt = ""
        if named:
            found, doubt = self._told_apart(named, session)
        elif session.application_name.casefold().startswith(CONSOLES):
            found = ()
        else:
            address = _address(session.client_addr or "")
            found = self._fitting(self._by_address.get(address, ()), session)
        return found, self._doubt(found, session) or doubt

    def _fitting(self, seats: list[Seat] | tuple[Seat, ...], session: Session) -> tuple[Seat, ...]:
        return tuple(s for s in seats if s.declared.role in {None, session.role})

    def _told_apart(
        self, named: tuple[Seat, ...], session: Session
    ) -> tuple[tuple[Seat, ...], str]:
        """Narrow down seats that share a name by the address, where it is a known host's."""
        at = self._hosts_at.get(_address(session.client_addr or ""), set())
        if session.client_addr is None or not at or self._bouncer_at(session):
            return named, ""
        here = tuple(seat for seat in named if seat.host.name in at)
        return (here, "") if here else self._contradicted(named, at, session)

    def _contradicted(
        self, named: tuple[Seat, ...], at: set[str], session: Session
    ) -> tuple[tuple[Seat, ...], str]:
        """The name says one host and the address another: shown at the address, with a doubt.

        The name may be copied with a configuration; the address may be that of a proxy or of NAT
        on that host. Neither can be told from here.
        """
        says = ", ".join(sorted({seat.host.name for seat in named}))
        doubt = (
            f"sessions named {session.application_name!r} (declared for {says}) come from"
            f" {session.client_addr}, which is {', '.join(sorted(at))}: shown there, and held"
            " against nobody's pool"
        )
        services = {seat.service for seat in named}
        moved = (s for s in self._seats if s.service in services and s.host.name in at)
        return self._fitting(tuple(moved), session), doubt

    def _bouncer_at(self, session: Session) -> str | None:
        return self._bouncers.get(_address(session.client_addr or "local"))

    def _doubt(self, found: tuple[Seat, ...], session: Session) -> str:
        bouncer = self._bouncer_at(session)
        if found and bouncer:
            return (
                f"sessions of {found[0].service} come through PgBouncer {bouncer}: its pool holds"
                " them, so their count says nothing about the service's own"
            )
        if len({seat.service for seat in found}) > 1:
            names = ", ".join(sorted({seat.service for seat in found}))
            return f"services {names} cannot be told apart: give each its own application_name"
        return ""


def _by_address(holder: Holder) -> list[Holder]:
    """Split off what bears one seat's name and comes from elsewhere.

    A second machine with the same configuration would double the count of a healthy pool: where
    one name comes from several addresses, only those from the host's own are counted.
    """
    addresses = {s.client_addr for s in holder.sessions if s.client_addr}
    if len(holder.seats) != 1 or len(addresses) < 2 or holder.doubt:
        return [holder]
    seat = holder.seats[0]
    own = _address(seat.host.address)
    doubt = (
        f"sessions named for {seat.service} on {seat.host.name} come from {len(addresses)}"
        f" addresses ({', '.join(sorted(addresses)[:4])}): only those from {seat.host.address} are"
        " held against its pool"
    )
    mine = tuple(
        s for s in holder.sessions if s.client_addr is None or _address(s.client_addr) == own
    )
    kept = {s.pid for s in mine}
    rest = tuple(s for s in holder.sessions if s.pid not in kept)
    parts = (replace(holder, sessions=mine), replace(holder, sessions=rest, doubt=doubt))
    return [part for part in parts if part.sessions]


def _unmixed(holder: Holder) -> Holder:
    """Give a doubt to a holder that is more than one pool.

    A pool logs in as one role to one database; found by address alone, it also has one name. What
    differs there may be an exporter or a cron job, or the pool of another database.
    """
    if holder.doubt or not holder.seats:
        return holder
    named = all(seat.name for seat in holder.seats)
    seen = {
        "roles": {s.role or "" for s in holder.sessions},
        "databases": {s.database or "" for s in holder.sessions},
        "names": set() if named else {s.application_name for s in holder.sessions},
    }
    mixed = [
        f"{what} ({', '.join(sorted(map(repr, values))[:4])})"
        for what, values in seen.items()
        if len(values) > 1
    ]
    if not mixed:
        return holder
    services = ", ".join(sorted({seat.service for seat in holder.seats}))
    doubt = (
        f"what is mapped to {services} has several {' and '.join(mixed)}, so more than its pool may"
        " be among it, and a count proves nothing: declare the service's role and an"
        " application_name of its own"
    )
    return replace(holder, doubt=doubt)


def _key(found: tuple[Seat, ...], doubt: str, session: Session) -> tuple[object, ...]:
    if found:
        return (tuple((seat.service, seat.host.name) for seat in found), doubt)
    return (session.client_addr, session.role, session.application_name, session.database)


def _name(service: Service, host: ResolvedHost, fleet: Fleet, version_num: int) -> str | None:
    if not service.application_name:
        return None
    return as_server_keeps(fleet.expand(service.application_name, host), version_num)


def _bouncers(database: str, fleet: Fleet) -> dict[str, str]:
    """Return the addresses that the database's PgBouncers connect from, with their names."""
    homes = fleet.inventory.databases
    siblings = same_server(database, fleet)
    found: dict[str, str] = {}
    for name, bouncer in fleet.inventory.pgbouncers.items():
        if bouncer.database not in siblings or bouncer.host is None:
            continue
        found[_address(fleet.host(bouncer.host).address)] = name
        if bouncer.host in {homes[sibling].host for sibling in siblings if sibling in homes}:
            # On the database's own host it comes over the loopback or a socket.
            found.update({"127.0.0.1": name, "::1": name, "local": name})
    return found


def _address(text: str) -> str:
    """Return an address in its one spelling; a host name stays as it is."""
    try:
        address = ip_address(text)
    except ValueError:
        return text
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _from(session: Session) -> str | None:
    return "a hidden address" if session.hidden else session.client_addr


def _common(values: set[str | None]) -> str | None:
    return values.pop() if len(values) == 1 else None
