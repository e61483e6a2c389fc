"""`runbook pgbouncer status` on real PgBouncers: who waits for what, and who does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .lab import DB, until
from .test_pgbouncer import BOUNCER, clients, declare, waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from .command import Command
    from .lab import Lab


@pytest.fixture
def runbook(lab: Lab, runbook: Command) -> Command:
    """The command, with a PgBouncer of the database's host in its inventory."""
    declare(lab, runbook)
    return runbook


def status(runbook: Command, *words: str, code: int = 0) -> Any:
    return runbook("pgbouncer", "status", *words, "--format", "json", code=code).json()


def until_told(runbook: Command, when: Callable[[Any], bool]) -> Any:
    """Look until it looks as expected: a queue counts after a second."""
    seen: list[Any] = []

    def so() -> bool:
        ran = runbook.start("pgbouncer", "status", "--format", "json")
        ran.process.wait(60)
        seen.append(ran.finish(ran.process.returncode).json())
        return when(seen[-1])

    until(so, "the expected status")
    return seen[-1]


def test_who_waits_for_what_and_whose_the_clients_are(lab: Lab, runbook: Command) -> None:
    lab.start_pgbouncer(lab.db, default_pool_size=2, application_name_add_host=1)
    holder, waiter, _ = lab.apps
    for host in (holder, waiter):
        lab.point_shop(host, lab.db)
        lab.http(host, "/warm?n=1", "POST")
    well = status(runbook, BOUNCER)
    assert well["well"] is True
    assert well["verdict"] == f"{BOUNCER}: nobody waits; 1 pool"
    lab.http(holder, "/slow?seconds=600&n=2", "POST")
    busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND usename='shop'"
    until(lambda: lab.psql(busy) == "2", "the pool at work")
    with waiting(lab, lab.db, 3):
        told = until_told(runbook, lambda report: not report["well"])
        text = runbook("pgbouncer", "status", DB, code=1).stdout
    assert told["verdict"].startswith(f"{BOUNCER}: 3 clients wait up to ")
    assert "in shop/shop for pool_size 2 (default_pool_size)" in told["verdict"]
    assert told["verdict"].endswith("its 2 server connections: 2 active")
    assert told["troubles"][0]["command"] == f"runbook diagnose {DB}"
    (bouncer,) = told["pgbouncers"]
    (pool,) = bouncer["pools"]
    assert (pool["binds"], pool["bound"], pool["most"]) == ("pool_size", 2, 2)
    by_label = {group["label"]: group for group in pool["clients"]}
    assert by_label["shop on app-2"]["waiting"] == 3
    assert by_label["shop on app-1"]["waiting"] == 0
    assert (pool["in_postgresql"]["active"], pool["in_postgresql"]["missing"]) == (2, 0)
    assert text.splitlines()[0].startswith(f"{BOUNCER}: 3 clients wait up to")
    assert "waiting: shop on app-2 (3)" in " ".join(text.split())
    assert "Next" in text


def test_what_is_paused_and_a_console_that_is_silent(lab: Lab, runbook: Command) -> None:
    """Two PgBouncers of one database: what one does not tell hides nothing of the other."""
    lab.start_pgbouncer(lab.db)
    lab.start_pgbouncer(lab.apps[0], default_pool_size=9)
    entry = lab.bouncer_entry(lab.db)
    runbook.declare(
        pgbouncers={
            BOUNCER: entry,
            "bouncer-02": lab.bouncer_entry(lab.apps[0]),
            "bouncer-03": lab.bouncer_entry(lab.apps[1]),
        }
    )
    with clients(lab, lab.db, 2, "cron"):
        lab.bouncer_console(lab.db, "PAUSE shop")
        told = status(runbook, DB, code=1)
        text = " ".join(runbook("pgbouncer", "status", code=1).stdout.split())
    kinds = [(trouble["kind"], trouble["pgbouncer"]) for trouble in told["troubles"]]
    assert kinds == [("unreachable", "bouncer-03"), ("paused", BOUNCER)]
    assert "check that PgBouncer runs and listens there" in told["troubles"][0]["hint"]
    assert told["troubles"][1]["said"] == "database shop is paused: its clients will wait"
    assert told["troubles"][1]["command"].endswith("-d pgbouncer -c 'RESUME shop'")
    first, second, third = told["pgbouncers"]
    assert (first["answers"], second["answers"], third["answers"]) == (True, True, False)
    assert first["pools"][0]["cl_idle"] == 2
    assert any("default_pool_size is 5 (bouncer-01), 9 (" in line for line in told["differences"])
    assert "bouncer-03 (127.0.0.1:" in text
    assert "RESUME shop" in text
    assert "did you mean 'bouncer-02'?" in runbook("pgbouncer", "status", "bouncer-2", code=2).said
