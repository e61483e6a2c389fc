"""Whose sessions they are: the inventory's services and hosts, as far as they can be told apart.

A session is mapped by its application_name, or, for a service that declares none, by its client
address; by the role as well, where the service declares one. Nothing is guessed: what fits no
service stays grouped by the session's own words. Where name and address contradict each other (a
copied configuration, NAT, a load balancer), or several roles or databases hide under one declared
pool, the sessions are shown, and their count proves nothing.

A PgBouncer in between is seen through where its console has answered: a session that a client has
at this moment is that client's, and any other of its server connections is its own pool's.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runbook.findings.bouncers import Bouncer, Client, Pool, bouncers_of, server_of
from runbook.findings.holders import Callers, Holder, Seat
from runbook.findings.seats import bouncer_addresses, seats_of
from runbook.findings.sockets import address_book
from runbook.model.sockets import plain as _address

if TYPE_CHECKING:
    from runbook.model.fleet import Fleet
    from runbook.model.sessions import Session, Snapshot

#: What PgBouncer's application_name_add_host puts after a client's name.
_ADDED = re.compile(r" - (unix|[0-9a-fA-F.:\[\]]+):[0-9]+$")
#: Interactive clients name themselves so; such a session belongs to a person, not to a pool.
CONSOLES = ("psql", "pgadmin", "dbeaver", "datagrip", "pgcli", "tableplus", "pg_activity")


@dataclass(frozen=True, kw_only=True, slots=True)
class Attribution:
    """All client sessions, each in exactly one holder; and what the mapping stumbled over."""

    holders: tuple[Holder, ...]
    notes: tuple[str, ...] = ()
    #: The PgBouncers that answered, and all of their clients, largest group first.
    bouncers: tuple[Bouncer, ...] = ()
    callers: tuple[Callers, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """Where one session belongs; sessions of one key are one holder's."""

    seats: tuple[Seat, ...] = ()
    doubt: str = ""
    bouncer: str = ""
    pool: Pool | None = None
    client: Client | None = None
    closes_idle_s: float = 0.0

    def key(self, session: Session) -> tuple[object, ...]:
        if self.pool is not None:
            return (self.bouncer, self.pool.name)
        if self.seats:
            names = tuple((seat.service, seat.host.name) for seat in self.seats)
            return (self.bouncer, names, self.doubt)
        if self.client is not None:
            words = (self.client.addr, self.client.application_name)
            return (self.bouncer, *words, session.role, session.database)
        return (session.client_addr, session.role, session.application_name, session.database)

    def holder(self, sessions: list[Session], clients: list[Client]) -> Holder:
        return Holder(
            seats=self.seats,
            sessions=tuple(sessions),
            doubt=self.doubt,
            bouncer=self.bouncer,
            pool=self.pool,
            clients=tuple(clients),
            closes_idle_s=self.closes_idle_s,
        )


def attribute(snapshot: Snapshot, fleet: Fleet) -> Attribution:
    """Map a snapshot's client sessions to the services that use its database."""
    mapper = _Mapper(snapshot, fleet)
    groups: dict[tuple[object, ...], list[Session]] = defaultdict(list)
    places: dict[tuple[object, ...], _Place] = {}
    clients: dict[tuple[object, ...], list[Client]] = defaultdict(list)
    for session in snapshot.clients:
        place = mapper.place(session)
        key = place.key(session)
        groups[key].append(session)
        places[key] = place
        if place.client is not None:
            clients[key].append(place.client)
    holders = [
        _unmixed(part)
        for key, members in groups.items()
        for part in _by_address(places[key].holder(members, clients[key]), mapper.book)
    ]
    holders.sort(key=lambda holder: -len(holder.sessions))
    # What was seen through a PgBouncer is no gap in what was seen.
    doubts = dict.fromkeys(h.doubt for h in holders if h.doubt and not h.bouncer)
    return Attribution(
        holders=tuple(holders),
        notes=tuple(doubts),
        bouncers=mapper.bouncers,
        callers=mapper.callers(),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Peer:
    """What a session, or a PgBouncer's client, tells of itself."""

    application_name: str
    client_addr: str | None
    role: str | None
    #: Hosts that it may come from; none when the address says nothing.
    at: frozenset[str] = frozenset()


class _Mapper:
    """Looks up seats by name and by address, through PgBouncers where they have answered."""

    def __init__(self, snapshot: Snapshot, fleet: Fleet) -> None:
        self._fleet = fleet
        self._seats = seats_of(snapshot.database, fleet, snapshot.limits.version_num)
        self._by_name: dict[str, list[Seat]] = defaultdict(list)
        self._nameless: dict[str, list[Seat]] = defaultdict(list)
        # A process's title has no application_name: there, a service is known by its hosts alone.
        blind = snapshot.rung == "os"
        for seat in self._seats:
            if seat.name and not blind:
                self._by_name[seat.name].append(seat)
            else:
                self._nameless[seat.host.name].append(seat)
        self._hosts_at: dict[str, set[str]] = defaultdict(set)
        for host in fleet.hosts.values():
            self._hosts_at[_address(host.address)].add(host.name)
        #: Addresses that hosts call their own, which may be none that the inventory knows.
        self.book = address_book(snapshot)
        self._bouncer_homes = bouncer_addresses(snapshot.database, fleet, self.book)
        self.bouncers = bouncers_of(snapshot)
        self._servers = server_of(self.bouncers)
        self._clients = {
            (bouncer.name, client.link): client
            for bouncer in self.bouncers
            for client in bouncer.clients
            if client.link
        }
        self._links = {
            (bouncer.name, server.ptr): server
            for bouncer in self.bouncers
            for server in bouncer.servers
        }
        self._pools = {
            (bouncer.name, pool.database, pool.user): pool
            for bouncer in self.bouncers
            for pool in bouncer.pools
        }

    def place(self, session: Session) -> _Place:
        """Return where a session belongs."""
        if session.client_port is not None:
            found = self._servers.get((session.pid, session.client_port))
            if found is not None:
                return self._behind(*found, session)
        bounced = self._bouncer_at(session) is not None
        name = session.application_name
        peer = _Peer(
            application_name=_ADDED.sub("", name) if bounced else name,
            client_addr=session.client_addr,
            role=session.role,
            at=self._at(session.client_addr),
        )
        seats, doubt = self._map(peer, bounced=bounced)
        return _Place(seats=seats, doubt=self._doubt(seats, session) or doubt)

    def _behind(self, bouncer: Bouncer, ptr: str, session: Session) -> _Place:
        """Return whose client has a server connection now, or else the pool that it waits in.

        Servers and clients are listed one after the other, and links move in between: both ends
        must name each other.
        """
        server, client = self._links[bouncer.name, ptr], self._clients.get((bouncer.name, ptr))
        if client is not None and client.ptr == server.link:
            seats, _ = self._map(self._peer_of(client, bouncer, session.role))
            doubt = (
                f"comes through PgBouncer {bouncer.name}: its pool holds the connection, so a count"
                " says nothing about the service's own"
            )
            return _Place(seats=seats, doubt=doubt, bouncer=bouncer.name, client=client)
        return _Place(
            doubt=f"PgBouncer {bouncer.name}'s own connection, which no client has now",
            bouncer=bouncer.name,
            pool=self._pools.get((bouncer.name, server.database, server.user)),
            closes_idle_s=bouncer.idle_timeout_s,
        )

    def callers(self) -> tuple[Callers, ...]:
        """Return every client of every PgBouncer that answered, by whom it belongs to."""
        groups: dict[tuple[object, ...], list[Client]] = defaultdict(list)
        found: dict[tuple[object, ...], tuple[str, tuple[Seat, ...], str]] = {}
        for bouncer in self.bouncers:
            for client in bouncer.clients:
                if (bouncer.name, client.database, client.user) not in self._pools:
                    continue  # another server's, or the console
                seats, doubt = self._map(self._peer_of(client, bouncer, client.user))
                doubt = doubt or _unsure(seats)
                names = tuple((seat.service, seat.host.name) for seat in seats)
                words = () if seats else (client.addr, client.application_name, client.user)
                key = (bouncer.name, names, doubt, words)
                groups[key].append(client)
                found[key] = (bouncer.name, seats, doubt)
        callers = [
            Callers(
                bouncer=found[key][0],
                seats=found[key][1],
                doubt=found[key][2],
                clients=tuple(clients),
            )
            for key, clients in groups.items()
        ]
        return tuple(sorted(callers, key=lambda group: -len(group.clients)))

    def _peer_of(self, client: Client, bouncer: Bouncer, role: str | None) -> _Peer:
        declared = self._fleet.inventory.pgbouncers.get(bouncer.name)
        local = client.addr in {"unix", "127.0.0.1", "::1"}
        home = {declared.host} if declared and declared.host else set()
        return _Peer(
            application_name=client.application_name,
            client_addr=client.addr,
            role=role,
            at=frozenset(home) if local else self._at(client.addr),
        )

    def _at(self, address: str | None) -> frozenset[str]:
        """Return the hosts that an address may be; a host's own word goes first."""
        if address is None:
            return frozenset()
        known = _address(address)
        if known in self.book:
            return frozenset({self.book[known]})
        return frozenset(self._hosts_at.get(known, ()))

    def _map(self, peer: _Peer, *, bounced: bool = False) -> tuple[tuple[Seat, ...], str]:
        """Return the seats that a peer may belong to, and the doubt about it."""
        named = self._fitting(self._by_name.get(peer.application_name, ()), peer)
        if named:
            # What comes from a PgBouncer's address comes from anywhere.
            return (named, "") if bounced else self._told_apart(named, peer)
        if peer.application_name.casefold().startswith(CONSOLES):
            return (), ""
        here = [seat for host in sorted(peer.at) for seat in self._nameless.get(host, ())]
        return self._fitting(here, peer), ""

    def _fitting(self, seats: list[Seat] | tuple[Seat, ...], peer: _Peer) -> tuple[Seat, ...]:
        return tuple(s for s in seats if s.declared.role in {None, peer.role})

    def _told_apart(self, named: tuple[Seat, ...], peer: _Peer) -> tuple[tuple[Seat, ...], str]:
        """Narrow down seats that share a name by the address, where it is a known host's."""
        if not peer.at:
            return named, ""
        here = tuple(seat for seat in named if seat.host.name in peer.at)
        return (here, "") if here else self._contradicted(named, peer)

    def _contradicted(self, named: tuple[Seat, ...], peer: _Peer) -> tuple[tuple[Seat, ...], str]:
        """The name says one host and the address another: shown at the address, with a doubt.

        The name may be copied with a configuration; the address may be that of a proxy or of NAT
        on that host. Neither can be told from here.
        """
        says = ", ".join(sorted({seat.host.name for seat in named}))
        doubt = (
            f"sessions named {peer.application_name!r} (declared for {says}) come from"
            f" {peer.client_addr}, which is {', '.join(sorted(peer.at))}: shown there, and held"
            " against nobody's pool"
        )
        services = {seat.service for seat in named}
        moved = (s for s in self._seats if s.service in services and s.host.name in peer.at)
        return self._fitting(tuple(moved), peer), doubt

    def _bouncer_at(self, session: Session) -> str | None:
        return self._bouncer_homes.get(_address(session.client_addr or "local"))

    def _doubt(self, found: tuple[Seat, ...], session: Session) -> str:
        bouncer = self._bouncer_at(session)
        if found and bouncer:
            return (
                f"sessions of {found[0].service} come through PgBouncer {bouncer}: its pool holds"
                " them, so their count says nothing about the service's own"
            )
        return _unsure(found)


def _unsure(found: tuple[Seat, ...]) -> str:
    """Return the doubt about seats of several services."""
    if len({seat.service for seat in found}) > 1:
        names = ", ".join(sorted({seat.service for seat in found}))
        return f"services {names} cannot be told apart: give each its own application_name"
    return ""


def _by_address(holder: Holder, book: dict[str, str]) -> list[Holder]:
    """Split off what bears one seat's name and comes from elsewhere.

    A second machine with the same configuration would double the count of a healthy pool: where
    one name comes from several addresses, only those from the host's own are counted.
    """
    addresses = {s.client_addr for s in holder.sessions if s.client_addr}
    if len(holder.seats) != 1 or len(addresses) < 2 or holder.doubt:
        return [holder]
    seat = holder.seats[0]
    own = {_address(seat.host.address), *(a for a, host in book.items() if host == seat.host.name)}
    doubt = (
        f"sessions named for {seat.service} on {seat.host.name} come from {len(addresses)}"
        f" addresses ({', '.join(sorted(addresses)[:4])}): only those from {seat.host.address} are"
        " held against its pool"
    )
    mine = tuple(
        s for s in holder.sessions if s.client_addr is None or _address(s.client_addr) in own
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
