"""`runbook pool plan` on real hosts: what may be opened, what is, what is supposed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lab import DB, env_text, shop_environment

if TYPE_CHECKING:
    from .command import Command
    from .lab import Lab

SETTING = {"env_file": "/etc/shop.env", "key": "POOL_SIZE"}


def test_a_lab_with_pools_too_large(lab: Lab, runbook: Command) -> None:
    """5 for each of 3 x 2 processes are 30 of 37: but one host has 8, and a deploy is too much."""
    pool = {"processes": 2, "size": 5, "surge": 1}
    runbook.declare_shop(pool=pool, settings={"size": SETTING})
    lab.http(lab.apps[0], "/slow?seconds=600&n=4", "POST")
    drifted = {**shop_environment(lab.apps[1]), "POOL_SIZE": "8"}
    lab.put(lab.apps[1], "/etc/shop.env", env_text(drifted))

    plan = runbook("pool", "plan", DB, "--window", "1s", "--format", "json").json()
    slots, (shop,) = plan["slots"], plan["services"]
    assert (slots["max_connections"], slots["usable"], plan["verdict"]) == (40, 37, "tight")
    assert [(h["host"], h["now"], h["budget"]) for h in shop["hosts"]] == [("app-1", 4, 10)]
    # All four are at work all the time: 4 x 1.3, rounded up.
    assert (shop["busy_mean"], shop["busy_peak"], shop["need"]) == (4.0, 4, 6)
    assert [(one["hosts"], one["size"]) for one in shop["sums"]] == [(2, 5), (1, 8)]
    assert any("shop: size is 8 on app-2 (/etc/shop.env line 3" in note for note in plan["notes"])
    assert plan["together"] >= 2 * 10 + 16
    assert plan["growth"][0]["over"] == plan["together"] + 10 - 37
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
