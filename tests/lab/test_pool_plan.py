"""What a pool budget is made from, gathered on real hosts: counts, processes, settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .lab import DB

if TYPE_CHECKING:
    from .command import Command
    from .lab import Lab


def facts(runbook: Command, *words: str) -> Any:
    """Run the shipped playbook, and return the facts that it gathered."""
    ran = runbook("run", "pool-plan", DB, "-p", "window=1s", "--format", "json", *words)
    (step,) = ran.json()["steps"]
    return step["targets"][DB]["data"]["facts"]


def test_warm_pools(lab: Lab, runbook: Command) -> None:
    for host, n in zip(lab.apps, (5, 3, 1), strict=True):
        lab.http(host, f"/warm?n={n}", "POST")
    found = facts(runbook)
    (shop,) = found["services"]
    assert (found["server"]["used"], shop["now"], shop["busy_mean"]) == (9, 9, 0.0)
    assert {h["host"]: (h["now"], h["peak"]) for h in shop["hosts"]} == {
        "app-1": (5, 5),
        "app-2": (3, 3),
        "app-3": (1, 1),
    }
    assert all(sum(p["now"] for p in h["processes"]) == h["now"] for h in shop["hosts"])
