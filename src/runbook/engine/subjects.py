"""What a plan's names stood for when it was made: a digest of each host, service, and so on.

A plan names its targets as the inventory does. A confirmation, and a run that is taken up again,
must speak of the same machines, ports and gates, not only of the same names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from runbook.model.fleet import Fleet
    from runbook.model.inventory import Service
    from runbook.model.plan import Node


def subjects(nodes: Iterable[Node], fleet: Fleet) -> dict[str, str]:
    """Return `host web-01`, `service shop`, … -> 12 hex digits over what the inventory says."""
    found: dict[str, str] = {}
    for node in nodes:
        for kind, name in _named(node, fleet):
            key = f"{kind} {name}"
            if key not in found:
                found[key] = _digest(_said(kind, name, fleet))
    return dict(sorted(found.items()))


def _named(node: Node, fleet: Fleet) -> Iterator[tuple[str, str]]:
    """Return what a step works on, and what that hangs on in its turn."""
    inventory = fleet.inventory
    for target in node.targets:
        if node.target_kind != "database" and target in fleet.hosts:
            yield "host", target
        if node.target_kind != "host" and target in inventory.databases:
            yield from _database(target, fleet)
    service, database = node.args.get("service"), node.args.get("database")
    if isinstance(service, str) and service in inventory.services:
        yield "service", service
        yield from (("host", host) for host in _balancers(inventory.services[service], fleet))
        used = inventory.services[service].database
        if used is not None:
            yield from _database(used, fleet)
    if isinstance(database, str):
        yield from _database(database, fleet)


def _balancers(service: Service, fleet: Fleet) -> Iterator[str]:
    """Return the hosts on which a service's hosts are taken out of rotation and put back."""
    drain = service.drain
    if drain is None:
        return
    on = drain.haproxy.on if drain.haproxy is not None else None
    if drain.command is not None:
        on = drain.command.on
    names = (on,) if isinstance(on, str) else on or ()
    yield from (name for name in names if name in fleet.hosts)


def _database(name: str, fleet: Fleet) -> Iterator[tuple[str, str]]:
    database = fleet.inventory.databases.get(name)
    if database is None:
        return
    yield "database", name
    bouncers = {k: b for k, b in fleet.inventory.pgbouncers.items() if b.database == name}
    yield from (("pgbouncer", bouncer) for bouncer in bouncers)
    for host in (database.host, *(bouncer.host for bouncer in bouncers.values())):
        if host is not None and host in fleet.hosts:
            yield "host", host


def _said(kind: str, name: str, fleet: Fleet) -> Any:
    if kind == "host":
        host = fleet.hosts[name]
        return {
            "address": host.address,
            "local": host.local,
            "sudo": host.sudo,
            "groups": host.groups,
            "vars": dict(host.vars),
            "ssh": host.ssh.model_dump(mode="json"),
        }
    items: dict[str, dict[str, BaseModel]] = {
        "service": dict(fleet.inventory.services),
        "database": dict(fleet.inventory.databases),
        "pgbouncer": dict(fleet.inventory.pgbouncers),
    }
    return items[kind][name].model_dump(mode="json")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
