"""`runbook pool plan` on real hosts: what may be opened, what is, what is supposed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lab import DB

if TYPE_CHECKING:
    from .command import Command
    from .lab import Lab

SETTING = {"env_file": "/etc/shop.env", "key": "POOL_SIZE"}


def test_a_lab_with_pools_too_large(lab: Lab, runbook: Command) -> None:
    """6 for each of 3 x 2 processes are 36 of 37: a deploy is too much; proposed sizes hold it."""
    pool = {"processes": 2, "size": 6, "surge": 1}
    runbook.declare_shop(pool=pool, settings={"size": SETTING})
    lab.http(lab.apps[0], "/warm?n=4", "POST")

    plan = runbook("pool", "plan", DB, "--window", "1s", "--format", "json").json()
    slots, (shop,) = plan["slots"], plan["services"]
    assert (slots["max_connections"], slots["usable"], plan["verdict"]) == (40, 37, "tight")
    assert {host["host"]: host["now"] for host in shop["hosts"]} == dict(
        zip((host.name for host in lab.apps), (4, 0, 0), strict=True)
    )
    assert plan["growth"][0]["connections"] == plan["together"] + 2 * 6
    assert plan["growth"][0]["over"] == plan["together"] + 2 * 6 - 37
    assert plan["growth"][0]["proposed"] <= 37
    assert plan["proposal"]["free"] >= slots["reserve"]
    assert plan["command"] == f"runbook pool apply {DB} --set shop.size={shop['proposed']['size']}"

    (listed,) = runbook("pool", "plan", "--window", "0", "--format", "json").json()
    assert listed["target"] == DB

    shown = runbook("pool", "plan", DB, "--window", "0", "--what-if", "shop.size=30")
    assert shown.stdout.startswith(f"{DB}: over budget by 143: 180 connections")
    assert "nothing of it is applied" in shown.said

    runbook("pool", "plan", DB, "--window", "0", "--check", code=1)
    runbook("pool", "plan", DB, "--window", "0", "--check", "--what-if", "size=30", code=2)
