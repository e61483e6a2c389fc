"""Which processes of the app hosts hold which sessions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook.findings.sockets import address_book, client_end
from runbook.model.diagnosis import Process

if TYPE_CHECKING:
    from runbook.findings.holders import Holder, Seat
    from runbook.findings.sockets import End
    from runbook.findings.view import View
    from runbook.model.sessions import Session, Snapshot
    from runbook.model.sockets import HostSockets, Socket


@dataclass(frozen=True, kw_only=True, slots=True)
class Bearer:
    """One process of an app host, and the sessions of one holder whose sockets it alone has."""

    process: Process
    sessions: tuple[Session, ...]


def held_ends(snapshot: Snapshot) -> dict[End, tuple[HostSockets, Socket]]:
    """Return the sockets of which one process is known to hold them, by the client's end."""
    hosts = {host.host: host for host in snapshot.hosts}
    book = address_book(snapshot)
    return {
        (socket.local_addr, socket.local_port): (host, socket)
        for host in hosts.values()
        for socket in host.sockets
        if socket.pid is not None and book.get(socket.local_addr) == host.host
    }


def bearers(view: View, holder: Holder) -> tuple[Bearer, ...]:
    """Return the processes that hold a holder's sessions, as far as they are known; most first."""
    found: dict[tuple[str, int], list[Session]] = defaultdict(list)
    names: dict[tuple[str, int], tuple[str, str]] = {}
    for session in holder.sessions:
        host, socket = view.held_ends.get(client_end(session) or ("", 0), (None, None))
        if host and socket and socket.pid is not None:
            found[host.host, socket.pid].append(session)
            names[host.host, socket.pid] = socket.process or "?", host.units.get(socket.pid, "")
    every = [
        Bearer(
            process=Process(
                host=host,
                name=names[host, pid][0],
                pid=pid,
                unit=names[host, pid][1] or None,
                sessions=len(sessions),
                budget=_process_budget(holder, host, names[host, pid][1]),
            ),
            sessions=tuple(sessions),
        )
        for (host, pid), sessions in found.items()
    ]
    return tuple(sorted(every, key=lambda bearer: -len(bearer.sessions)))


def _process_budget(holder: Holder, host: str, unit: str) -> int | None:
    """Return the connections that one process may open there; None where that cannot be told.

    A process of another unit is no worker of the service: a proxy on the host (HAProxy, a sidecar)
    holds the connections of all of its clients.
    """
    seats = [seat for seat in holder.seats if seat.host.name == host]
    if len(seats) != 1 or not _runs_as(seats[0], unit):
        return None
    pool = seats[0].declared.pool
    return pool.size + pool.overflow if pool else None


def _runs_as(seat: Seat, unit: str) -> bool:
    """Whether a process of this unit ("" where it has none) is one of the service's own."""
    if seat.declared.manager != "systemd":
        return not unit.endswith(".service")
    declared = seat.declared.unit or seat.service
    return unit == (declared if "." in declared else f"{declared}.service")
