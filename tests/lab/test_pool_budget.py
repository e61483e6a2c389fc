"""`runbook pool plan` on real hosts: what may be opened, what is, what is supposed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .lab import DB

if TYPE_CHECKING:
    from .command import Command
    from .lab import Lab

SETTINGS = {"size": {"env_file": "/etc/shop.env", "key": "POOL_SIZE"}}


def test_the_budget_of_a_lab(lab: Lab, runbook: Command) -> None:
    """Too large as declared; sizes that fit are proposed, and with them it would be comfortable."""
    runbook.declare_shop(pool={"processes": 2, "size": 6, "threads": 2}, settings=SETTINGS)
    lab.http(lab.apps[0], "/warm?n=4", "POST")
    ran = runbook("pool", "plan", DB, "--window", "1s", "--format", "json")
    plan = ran.json()
    usable = plan["slots"]["usable"]
    (shop,) = plan["services"]
    print(runbook("pool", "plan", DB, "--window", "1s").stdout)
    assert 0
