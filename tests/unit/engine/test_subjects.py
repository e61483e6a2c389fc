"""A plan is of machines, ports and gates, not only of names: what changes its digests."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.engine.subjects import subjects
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from unit.engine.plans import single_node

CREDENTIALS = {"user": "oncall"}


def inventory() -> dict[str, Any]:
    """Return a service behind HAProxy on two hosts, with its database and a PgBouncer."""
    haproxy = {"on": ["lb-1", "lb-2"], "backend": "shop"}
    return {
        "version": 1,
        "hosts": {
            name: {"address": f"10.0.0.{number}"}
            for number, name in enumerate(("web", "lb-1", "lb-2", "db", "pool-host", "other"))
        },
        "databases": {"main": {"host": "db", "connect": {"host": "10.0.0.3", "user": "u"}}},
        "pgbouncers": {
            "pool": {"host": "pool-host", "database": "main", "admin": CREDENTIALS},
        },
        "services": {
            "shop": {"hosts": "web", "database": "main", "drain": {"haproxy": haproxy}},
        },
    }


def digests(said: dict[str, Any]) -> dict[str, str]:
    """Return the digests of a plan that restarts the service."""
    node = single_node("roll", changes=True, args={"service": "shop"}, targets=("web",))
    return subjects([node], Fleet(Inventory.model_validate(said)))


def test_all_that_a_restart_hangs_on_has_a_digest() -> None:
    assert set(digests(inventory())) == {
        "host web", "host lb-1", "host lb-2", "host db", "host pool-host",
        "service shop", "database main", "pgbouncer pool",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "key", "value"),
    [
        ("hosts", "lb-2", "address", "10.9.9.9"),
        ("hosts", "db", "address", "10.9.9.9"),
        ("hosts", "pool-host", "sudo", False),
        ("pgbouncers", "pool", "port", 6433),
        ("services", "shop", "gates", [{"tcp": {"port": 1}}]),
    ],
)
def test_a_change_of_one_changes_its_digest_alone(
    kind: str, name: str, key: str, value: Any
) -> None:
    changed = inventory()
    changed[kind][name][key] = value
    before, after = digests(inventory()), digests(changed)
    assert [each for each in before if before[each] != after[each]] == [f"{kind[:-1]} {name}"]


def test_what_it_does_not_hang_on_changes_nothing() -> None:
    changed = inventory()
    changed["hosts"]["other"]["address"] = "10.9.9.9"
    assert digests(changed) == digests(inventory())
