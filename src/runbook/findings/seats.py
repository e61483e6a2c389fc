"""Where sessions of a server may belong, by the inventory: services on hosts, and PgBouncers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings.holders import Seat
from runbook.model.application_name import as_server_keeps
from runbook.model.sockets import plain as _address

if TYPE_CHECKING:
    from runbook.model.fleet import Fleet, ResolvedHost
    from runbook.model.inventory import Service


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
    return fleet.same_server(database)


def _name(service: Service, host: ResolvedHost, fleet: Fleet, version_num: int) -> str | None:
    if not service.application_name:
        return None
    return as_server_keeps(fleet.expand(service.application_name, host), version_num)


def bouncer_addresses(database: str, fleet: Fleet, book: dict[str, str]) -> dict[str, str]:
    """Return the addresses that the database's PgBouncers connect from, with their names."""
    homes = fleet.inventory.databases
    siblings = same_server(database, fleet)
    found: dict[str, str] = {}
    for name, bouncer in fleet.inventory.pgbouncers.items():
        if bouncer.database not in siblings:
            continue
        if bouncer.address is not None:
            found[_address(bouncer.address)] = name
        if bouncer.host is None:
            continue
        found[_address(fleet.host(bouncer.host).address)] = name
        found.update({address: name for address, host in book.items() if host == bouncer.host})
        if bouncer.host in {homes[sibling].host for sibling in siblings if sibling in homes}:
            # On the database's own host it comes over the loopback or a socket.
            found.update({"127.0.0.1": name, "::1": name, "local": name})
    return found
