"""Builds what a pool plan is made from: an inventory, and what was seen of its server."""

from __future__ import annotations

from typing import Any

from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.pool_facts import Configured, HostUse, PoolFacts, ServerFacts, ServiceUse
from runbook.model.pool_plan import PoolPlan
from runbook.model.pool_planning import plan_pools
from runbook.model.pool_what_if import parse


def fleet(
    services: dict[str, dict[str, Any]], *, hosts: int = 4, budget: dict[str, Any] | None = None
) -> Fleet:
    """Return an inventory with one database `db`, hosts web-1 and so on, and these services."""
    return Fleet(
        Inventory.model_validate(
            {
                "version": 1,
                "hosts": {f"web-{n}": {"groups": ["web"]} for n in range(1, hosts + 1)},
                "databases": {
                    "db": {"connect": {"host": "db", "user": "oncall"}, "budget": budget or {}}
                },
                "services": {
                    name: {"hosts": "web", "database": "db", **keys}
                    for name, keys in services.items()
                },
            }
        )
    )


def shop(size: int = 100, **keys: Any) -> dict[str, Any]:
    """Return a service with one process a host and this size, and a setting for it."""
    pool = {"size": size, **keys.pop("pool", {})}
    setting = {"env_file": "/etc/shop.env", "key": "POOL_SIZE"}
    return {"pool": pool, "settings": {"size": setting}, **keys}


def server(max_connections: int = 200, **given: Any) -> ServerFacts:
    """Return a server without reserves, so that the sums are those of the worked cases."""
    values: dict[str, Any] = {
        "version_num": 160004,
        "max_connections": max_connections,
        "superuser_reserved": 0,
        "reserved": 0,
        "superuser_sessions": 0,
        "in_recovery": False,
        "used": 0,
        "peak": 0,
    }
    return ServerFacts(**{**values, **given})


def use(service: str = "shop", busy: int | None = 0, **given: Any) -> ServiceUse:
    """Return what was seen of a service that had so many sessions at work."""
    values: dict[str, Any] = {
        "service": service,
        "now": busy or 0,
        "peak": busy or 0,
        "busy_mean": None if busy is None else busy / 2,
        "busy_peak": busy,
    }
    return ServiceUse(**{**values, **given})


def host_use(host: str, now: int, **given: Any) -> HostUse:
    """Return a service's sessions on a host."""
    return HostUse(**{"host": host, "now": now, "peak": now, **given})


def configured(host: str, value: str, **given: Any) -> Configured:
    """Return the size that a host has for the shop, where the inventory says that it lives."""
    values: dict[str, Any] = {
        "service": "shop",
        "host": host,
        "name": "size",
        "value": value,
        "source": "/etc/shop.env line 3, POOL_SIZE",
        "declared": True,
    }
    return Configured(**{**values, **given})


def facts(*uses: ServiceUse, **given: Any) -> PoolFacts:
    """Return what was seen over three seconds of a server of 200."""
    values: dict[str, Any] = {
        "database": "db",
        "at": "2026-01-01T02:17:00Z",
        "window_s": 3.0,
        "samples": 7,
        "server": server(),
        "services": uses,
    }
    return PoolFacts(**{**values, **given})


def planned(
    inventory: Fleet, seen: PoolFacts | None = None, *what_if: str, reserve: str | None = None
) -> PoolPlan:
    """Return the plan of `db`."""
    supposed = parse(what_if, inventory.inventory.services)
    return plan_pools(inventory, seen or facts(use()), reserve=reserve, what_if=supposed)
