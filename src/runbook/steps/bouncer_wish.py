"""What a PgBouncer's configuration shall say: the inventory, the budget, and what was seen."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from runbook.model.inventory import Service
from runbook.model.pgbouncer_config import (
    Budget,
    Mode,
    NoRoom,
    Sizes,
    Wish,
    knows_auth_dbname,
    sizes,
)
from runbook.model.pgbouncer_host import HostSeen
from runbook.model.units import amount_ceil
from runbook.steps.bouncer_host import CannotSetUp, server_ca
from runbook.steps.bouncer_subject import Bouncer, Survey, same_server


def wish_of(bouncer: Bouncer, mode: Mode, told: Survey, seen: HostSeen) -> Wish:
    entry, connect = bouncer.entry, bouncer.database.connect
    version = seen.version or told.version
    if version is None:
        raise CannotSetUp(f"the version of PgBouncer on {bouncer.host.name} could not be told")
    address, port = bouncer.upstream
    return Wish(
        name=bouncer.name,
        version=version,
        mode=mode,
        databases=told.databases,
        upstream=address,
        upstream_port=port,
        listen_port=bouncer.listens,
        sizes=_sizes(bouncer, told),
        auth_user=bouncer.auth.user,
        auth_file=bouncer.auth_file,
        admin=entry.admin.user,
        server_tls=connect.sslmode,
        server_ca=server_ca(bouncer),
        tls=entry.tls,
        auth_dbname=connect.dbname if knows_auth_dbname(version) else None,
    )


def _sizes(bouncer: Bouncer, told: Survey) -> Sizes:
    budget, pool = bouncer.database.budget, bouncer.entry.pool
    all_services = bouncer.fleet.services_of(bouncer.entry.database)
    inside = bouncer.services.keys() | told.inside
    outside = [service for name, service in all_services.items() if name not in inside]
    clients = [s for name, s in all_services.items() if name in inside | told.partly]
    beside = same_server(bouncer)
    room = Budget(
        usable=told.usable,
        direct=budget.direct,
        reserve=amount_ceil(budget.reserve, told.usable),
        others=sum(_declared(bouncer, service) or 0 for service in outside),
        databases=len(told.databases),
        roles=max(1, len(told.roles)),
        beside=sum((e.pool.size or 0) + e.pool.reserve for e in beside.values() if e.pool.size),
    )
    unknown = tuple(
        f"pgbouncers.{name} stands before the same server, and declares no pool.size: what it takes"
        " is not in these numbers"
        for name, entry in beside.items()
        if entry.pool.size is None
    )
    try:
        found = sizes(
            room,
            size=pool.size,
            reserve=pool.reserve,
            clients=pool.max_client_conn,
            declared=[_declared(bouncer, service) for service in clients],
        )
    except NoRoom as error:
        raise CannotSetUp(
            str(error),
            f"databases.{bouncer.entry.database}.budget says what is kept back; `runbook pool plan"
            f" {bouncer.entry.database}` shows who has the rest",
        ) from None
    return replace(found, warnings=(*found.warnings, *unknown))


def _declared(bouncer: Bouncer, service: Service) -> int | None:
    """Return what a service's hosts may open in all; None where it declares no pool."""
    if service.pool is None:
        return None
    hosts = max(len(bouncer.fleet.whole(service.hosts)), service.pool.scales_to or 0)
    return int(hosts * service.pool.budget)


def frozen(wish: Wish) -> dict[str, Any]:
    """Return what `act` makes the same file of; the rest is in the inventory."""
    kept = asdict(wish)
    kept.pop("tls")
    return kept


def thawed(bouncer: Bouncer, kept: dict[str, Any]) -> Wish:
    sizes_kept = {**kept["sizes"], "warnings": tuple(kept["sizes"]["warnings"])}
    return Wish(
        **{
            **kept,
            "version": tuple(kept["version"]),
            "databases": tuple(kept["databases"]),
            "sizes": Sizes(**sizes_kept),
            "tls": bouncer.entry.tls,
        }
    )
