"""Sessions and the sockets of app hosts: whose address is whose, and who holds the other end.

A session and a socket are the same connection when address and port of the client's end agree. The
port that the app has dialled does not matter: it may be a published or a forwarded one.
"""

from __future__ import annotations

from collections import defaultdict
from ipaddress import ip_address
from typing import TYPE_CHECKING

from runbook.model.sockets import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.model.sessions import Session, Snapshot
    from runbook.model.sockets import HostSockets

#: Address and port of a connection's end.
End = tuple[str, int]


def address_book(snapshot: Snapshot) -> dict[str, str]:
    """Return an address -> the inventory's host that has it, by that host's own word.

    Loopback and link-local addresses are everybody's, and one that several hosts have (a container
    bridge) is nobody's: neither is in the book.
    """
    owners: dict[str, set[str]] = defaultdict(set)
    for host in snapshot.hosts:
        for address in own_addresses(host):
            owners[address].add(host.host)
    return {address: min(hosts) for address, hosts in owners.items() if len(hosts) == 1}


def own_addresses(host: HostSockets) -> Iterator[str]:
    """Yield the addresses by which a host can be told from others."""
    for text in host.addresses:
        try:
            address = ip_address(plain(text))
        except ValueError:
            continue
        if not (address.is_loopback or address.is_link_local):
            yield str(address)


def client_end(session: Session) -> End | None:
    """Return the client's end of a session; None on a Unix socket, or hidden from us."""
    if not session.client_addr or not session.client_port or session.client_port < 0:
        return None
    return plain(session.client_addr), session.client_port
