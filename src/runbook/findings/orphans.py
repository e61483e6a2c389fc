"""Which sessions have lost their client: the host that they come from has no socket for them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from runbook.findings.seats import same_server
from runbook.findings.sockets import address_book, client_end, own_addresses
from runbook.model.effects import Question
from runbook.model.sockets import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runbook.findings.sockets import End
    from runbook.findings.view import View
    from runbook.model.sessions import Session
    from runbook.model.sockets import HostSockets, Socket

#: How the server calls itself: the app hosts are asked which of their addresses leads there.
QUESTION = Question(
    name="server-address",
    sql="SELECT host(inet_server_addr()) AS address, current_setting('port')::int AS port",
)

#: Seconds for which a session must have been as it is before its missing socket is worth a second
#: look: what a busy pool has closed between our two questions is younger.
SETTLED_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Orphan:
    """A session whose client is gone: its host has no such socket, in two looks."""

    session: Session
    #: The inventory's host, and the end that it does not have.
    host: str
    end: End


def candidates(view: View) -> tuple[Orphan, ...]:
    """Return silent sessions whose host has no socket for them in its first look."""
    return tuple(
        orphan
        for orphan in _without_socket(view, view.snapshot.hosts)
        if (orphan.session.state_age_s or 0.0) >= SETTLED_S
    )


def orphans(view: View) -> dict[int, Orphan]:
    """Return the sessions whose client is certainly gone, by pid.

    The server has seen each twice, unchanged; its host has twice listed its sockets, without this
    one. A connection that was open all the time is in both lists, and one that was closed meanwhile
    has left the server or changed there.
    """
    later = view.snapshot.later
    if later is None or later.sessions is None:
        return {}
    again = {o.session.pid for o in _without_socket(view, later.hosts)}
    twice = [
        orphan
        for orphan in _without_socket(view, view.snapshot.hosts)
        if orphan.session.pid in again and _as_it_was(orphan.session) in later.sessions
    ]
    doubtful = {place for place in {(o.host, o.end[0]) for o in twice} if _translated(view, *place)}
    return {o.session.pid: o for o in twice if (o.host, o.end[0]) not in doubtful}


def _as_it_was(session: Session) -> tuple[int, str, str]:
    return session.pid, session.backend_start or "", session.state_change or ""


def _without_socket(view: View, hosts: Iterable[HostSockets]) -> Iterator[Orphan]:
    """Yield silent sessions that come from a host's own address, and that it has no socket for.

    An active backend notices only at its next word that its client is gone: it is at work, and
    left alone. What a host forwards for somebody else has no socket there at all, and proves
    nothing.
    """
    book = address_book(view.snapshot)
    held = {
        (host.host, address): frozenset((s.local_addr, s.local_port) for s in host.sockets)
        for host in hosts
        if not host.error and not host.forwards
        for address in own_addresses(host)
    }
    for session in view.clients:
        end = client_end(session)
        if end is None or not (session.idle or session.idle_in_transaction):
            continue
        place = book.get(end[0], ""), end[0]
        if place in held and end not in held[place]:
            yield Orphan(session=session, host=place[0], end=end)


def _translated(view: View, host: str, address: str) -> bool:
    """Whether the server may know this host by another address, and this address as another's.

    Address spaces that several networks use make that possible. A connection of the host's that the
    server sees under the same end rules it out. Without one, the address must be that by which the
    host reaches the server, and no connection to the server that lasted over both looks may be
    unknown there.
    """
    first, second = (_dialled(view, hosts, host, address) for hosts in _both(view))
    known = {client_end(session) for session in view.clients}
    if any((s.local_addr, s.local_port) in known for s in first):
        return False
    reaches = any(h.host == host and h.source == address for h in view.snapshot.hosts)
    server = server_address(view)
    return not reaches or any(s.peer_addr == server for s in first & second)


def _both(view: View) -> tuple[tuple[HostSockets, ...], tuple[HostSockets, ...]]:
    later = view.snapshot.later
    return view.snapshot.hosts, later.hosts if later else ()


def _dialled(
    view: View, hosts: tuple[HostSockets, ...], host: str, address: str
) -> frozenset[Socket]:
    """Return a host's connections from one of its addresses to a port of the server's."""
    ports = server_ports(view)
    return frozenset(
        socket
        for told in hosts
        if told.host == host
        for socket in told.sockets
        if socket.local_addr == address and socket.peer_port in ports
    )


def server_address(view: View) -> str:
    """Return the server's own address, else the inventory's if it is one; "" when neither is."""
    rows = view.snapshot.extra.get(QUESTION.name) or [{}]
    told = rows[0].get("address") or (view.database.connect.host if view.database else "")
    try:
        return str(ip_address(plain(told)))
    except ValueError:
        return ""


def server_ports(view: View) -> frozenset[int]:
    """Return the ports under which the server may be dialled: its own, and the inventory's."""
    rows = view.snapshot.extra.get(QUESTION.name) or []
    known = view.fleet.inventory.databases
    names = [name for name in same_server(view.target, view.fleet) if name in known]
    return frozenset([*(row["port"] for row in rows), *(known[n].connect.port for n in names)])
