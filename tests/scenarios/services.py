"""The services that scenarios declare in their inventories."""

from __future__ import annotations

from typing import Any


def service(name: str, *, hosts: str = "web", role: str = "app", **pool: Any) -> dict[str, Any]:
    """Return one service by its name, told apart by its sessions' application_name."""
    declared: dict[str, Any] = {
        "hosts": hosts,
        "database": "db",
        "role": role,
        "application_name": f"{name}-${{host.name}}",
        # The clients run as nobody's unit here.
        "manager": {"command": {"restart": ["true"], "status": ["true"]}},
    }
    if pool:
        declared["pool"] = {"processes": 1, **pool}
    return {name: declared}


#: Ten connections on each of four hosts, as two worker processes of five.
SHOP = service("shop", processes=2, size=5)
#: Six connections on one host.
BILLING = service("billing", hosts="jobs", size=6)
#: Nobody has written down how large its pools are.
SHOP_WITHOUT_POOL = service("shop")
