"""Each cause, produced by the real app, is named rightly by `runbook diagnose`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from .command import Command, connections, wait_settled
from .lab import DB, Lab, until

if TYPE_CHECKING:
    from collections.abc import Callable


TERMINATE = f"runbook remediate {DB} --terminate-idle"


def owner(finding: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the service and host of a finding's first owner."""
    first = finding["owners"][0]
    return first["service"], first["host"]


def told(runbook: Command, cause: str, when: Callable[[Any], bool] = bool) -> Any:
    """Diagnose until a cause is named: statements and silences must first grow old."""
    found: list[Any] = []

    def named() -> bool:
        found.append(runbook.diagnose())
        return bool(found[-1]["finding"]["cause"] == cause and when(found[-1]["finding"]))

    until(named, f"{cause} (last: {found[-1]['finding'] if found else None})")
    assert found[-1]["finding"]["evidence"], found[-1]
    return found[-1]


def test_a_quiet_shop_is_healthy(lab: Lab, runbook: Command) -> None:
    lab.http(lab.apps[0], "/warm?n=5", "POST")
    diagnosis = runbook.diagnose()
    assert diagnosis["finding"]["cause"] == "healthy"
    assert diagnosis["finding"]["command"] is None
    assert (diagnosis["slots"]["used"], diagnosis["slots"]["usable"]) == (5, 37)
    assert diagnosis["server"]["rung"] == "connect"
    assert diagnosis["unseen"] == []


def test_leaked_sessions_are_counted_over_the_declared_pool(lab: Lab, runbook: Command) -> None:
    healthy, leaky, _ = lab.apps
    lab.http(healthy, "/warm?n=5", "POST")
    lab.leak(leaky, 22)
    wait_settled(lab, "shop-app-2", 22)
    diagnosis = runbook.diagnose()
    finding = diagnosis["finding"]
    assert finding["cause"] == "leaked-sessions"
    assert finding["confidence"] == "strong"
    assert owner(finding) == ("shop", "app-2")
    assert len(finding["owners"]) == 1
    first = finding["owners"][0]
    assert (first["sessions"], first["budget"], first["concerned"]) == (22, 10, 12)
    assert first["client_addr"] == leaky.address
    assert finding["command"] == TERMINATE
    pools = {pool["host"]: pool["sessions"] for pool in diagnosis["pools"]}
    assert pools == {"app-1": 5, "app-2": 22, "app-3": 0}
    check_text(runbook)
    check_markdown(runbook)


def check_text(runbook: Command) -> None:
    """At 80 columns, without colour, the answer and the command are there to be read and copied."""
    for pager in (False, True):
        ran = runbook.start("diagnose", DB, columns=80, pager=pager).finish()
        lines = ran.stdout.splitlines()
        assert max(map(len, lines)) <= 80, ran
        assert lines[0] == "12 leaked sessions: shop on app-2 holds 22, its pool is 10"
        assert f"  {TERMINATE}" in lines
        assert "max_connections 40 - 3 reserved for superusers = 37 usable" in ran.said


def check_markdown(runbook: Command) -> None:
    """It pastes into an incident."""
    text = runbook("diagnose", DB, "--format", "markdown").stdout
    assert text.startswith("### lab-db: 12 leaked sessions: shop on app-2 holds 22")
    assert "**leaked-sessions**, strong" in text
    assert "| shop on app-2 | 22 | 10 | 12 |" in text
    assert f"```\n{TERMINATE}\n```" in text


def test_silent_transactions(lab: Lab, runbook: Command) -> None:
    assert lab.leak(lab.apps[2], 9, "in_transaction") == 9
    finding = told(runbook, "idle-in-transaction")["finding"]
    assert owner(finding) == ("shop", "app-3")
    assert finding["owners"][0]["concerned"] == 9
    assert any("SELECT name FROM items" in line for line in finding["evidence"])
    # Seconds of silence are no proof yet: ending these sessions is not what is offered.
    assert finding["command"] == f"runbook remediate {DB} --rolling-restart --service shop"
    assert "None may be ended safely yet" in finding["advice"]


def test_a_lock_pile_up_names_its_root(lab: Lab, runbook: Command) -> None:
    holder, first, second = lab.apps
    assert lab.ask(holder, "/hold", 1) == 1
    assert lab.ask(first, "/lock", 8) == 8
    assert lab.ask(second, "/lock", 8) == 8
    root = lab.psql("SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction'")
    finding = told(runbook, "lock-pile-up", lambda f: "16 sessions" in f["title"])["finding"]
    assert f"pid {root} (shop on app-1), idle in transaction" in finding["title"]
    assert finding["confidence"] == "certain"
    assert {o["host"]: o["concerned"] for o in finding["owners"]} == {
        "app-1": 1,
        "app-2": 8,
        "app-3": 8,
    }
    assert any("FOR UPDATE" in line for line in finding["evidence"])
    assert any("UPDATE items SET stock" in line for line in finding["evidence"])
    assert finding["command"] == f"runbook remediate {DB} --terminate-blocker"


def test_slow_queries(lab: Lab, runbook: Command) -> None:
    assert lab.ask(lab.apps[0], "/slow?seconds=600", 9) == 9
    assert lab.ask(lab.apps[1], "/slow?seconds=600", 4) == 4
    diagnosis = told(runbook, "slow-queries", lambda f: f["title"].startswith("13 "))
    finding = diagnosis["finding"]
    assert {o["host"]: o["concerned"] for o in finding["owners"]} == {"app-1": 9, "app-2": 4}
    assert any("pg_sleep" in line for line in finding["evidence"])
    assert "pg_cancel_backend" in finding["command"]


def test_a_surge_is_load_and_no_fault(lab: Lab, runbook: Command) -> None:
    for host in lab.apps:
        assert lab.ask(host, "/surge?seconds=600", 10) == 10
    finding = told(runbook, "surge")["finding"]
    assert {o["host"] for o in finding["owners"]} == {"app-1", "app-2", "app-3"}
    assert finding["command"] == f"runbook diagnose {DB}"


def test_pools_that_fit_singly_and_not_together(lab: Lab, runbook: Command) -> None:
    lab.configure_db(max_connections=30)
    fill_pools(lab, 27)
    diagnosis = runbook.diagnose()
    finding = diagnosis["finding"]
    assert finding["cause"] == "pools-over-budget"
    assert "30 connections" in finding["title"]
    assert "has 27" in finding["title"]
    assert any("3 x 2 x (5 + 0) = 30" in line for line in finding["evidence"])
    assert finding["command"] == f"runbook remediate {DB} --rolling-restart --service shop"


def fill_pools(lab: Lab, slots: int) -> None:
    """Let all workers open their pools and leave them idle, until no slot is left."""

    def full() -> bool:
        for host in lab.apps:
            lab.http(host, "/warm?n=5", "POST")
        return sum(lab.sessions().values()) == slots

    until(full, f"{slots} pooled sessions")


def test_a_roles_own_limit(lab: Lab, runbook: Command) -> None:
    lab.psql("ALTER ROLE shop CONNECTION LIMIT 6")
    assert lab.leak(lab.apps[0], 4) == 4
    assert lab.leak(lab.apps[1], 2) == 2
    finding = runbook.diagnose()["finding"]
    assert finding["cause"] == "role-limit"
    assert "role shop has used up its own limit: 6 of 6" in finding["title"]
    assert finding["confidence"] == "certain"
    assert {o["host"]: o["sessions"] for o in finding["owners"]} == {"app-1": 4, "app-2": 2}
    raised = re.search(r'ALTER ROLE "shop" CONNECTION LIMIT (\d+)', finding["command"])
    assert raised
    assert int(raised[1]) > 6


def test_a_databases_own_limit(lab: Lab, runbook: Command) -> None:
    lab.psql("ALTER DATABASE shop CONNECTION LIMIT 5")
    assert lab.leak(lab.apps[0], 5) == 5
    diagnosis = runbook.diagnose()
    finding = diagnosis["finding"]
    assert finding["cause"] == "database-limit"
    assert "database shop has used up its own limit: 5 of 5" in finding["title"]
    # The on-call's ordinary door leads into that very database.
    assert diagnosis["server"]["rung"] == "rescue"
    assert "too many connections for database" in " ".join(diagnosis["server"]["refusals"])


def test_with_all_slots_taken_the_rescue_door_gets_in(lab: Lab, runbook: Command) -> None:
    assert lab.leak(lab.apps[0], 37) == 37
    diagnosis = runbook.diagnose()
    assert diagnosis["server"]["rung"] == "rescue"
    assert diagnosis["server"]["refusals"] == [
        "connect: remaining connection slots are reserved for non-replication superuser connections"
    ]
    assert (diagnosis["slots"]["used"], diagnosis["slots"]["free"]) == (37, 0)
    assert diagnosis["finding"]["cause"] == "leaked-sessions"
    assert owner(diagnosis["finding"]) == ("shop", "app-1")
    text = runbook("diagnose", DB).said
    assert "remaining connection slots are reserved" in text
    assert "rescue door" in text


def test_without_a_rescue_door_the_refusal_is_told_with_what_would_help(
    lab: Lab, runbook: Command
) -> None:
    runbook.declare(databases={DB: {"rescue": None}})
    assert lab.leak(lab.apps[0], 37) == 37
    ran = runbook("diagnose", DB, code=1)
    assert f"{DB} (127.0.0.1:{lab.db.pg_port}) has no connection slot" in ran.said
    assert "remaining connection slots are reserved" in ran.said
    assert f"databases.{DB}.rescue" in ran.said
    assert ran.stdout == ""


def test_a_mixed_incident_tells_the_cause_and_the_rest(lab: Lab, runbook: Command) -> None:
    holder, waiter, leaky = lab.apps
    assert lab.leak(leaky, 16) == 16
    assert lab.ask(holder, "/hold", 1) == 1
    assert lab.ask(waiter, "/lock", 9) == 9
    wait_settled(lab, "shop-app-3", 16)
    diagnosis = runbook.diagnose()
    assert diagnosis["finding"]["cause"] == "lock-pile-up"
    also = {finding["cause"]: finding for finding in diagnosis["also"]}
    assert owner(also["leaked-sessions"]) == ("shop", "app-3")
    assert also["leaked-sessions"]["command"] == TERMINATE
    text = runbook("diagnose", DB).said
    assert "6 leaked sessions: shop on app-3 holds 16, its pool is 10" in text


def test_check_answers_as_a_monitoring_plugin(lab: Lab, runbook: Command) -> None:
    ok = runbook("diagnose", DB, "--check")
    assert ok.stdout.startswith("RUNBOOK OK - ")
    assert "used=0;" in ok.stdout
    with connections(lab, 31, "batch"):
        warning = runbook("diagnose", DB, "--check", code=1)
        assert warning.stdout.startswith("RUNBOOK WARNING - ")
        critical = runbook("diagnose", DB, "--check", "--critical", "83", code=2)
        assert critical.stdout.startswith("RUNBOOK CRITICAL - ")
    for ran in (ok, warning, critical):
        assert len(ran.stdout.splitlines()) == 1
        assert "percent=" in ran.stdout
    runbook.declare(databases={DB: {"connect": {"port": 1}}})
    unknown = runbook("diagnose", DB, "--check", code=3)
    assert unknown.stdout.startswith("RUNBOOK UNKNOWN - ")


def test_check_is_critical_when_not_even_it_gets_a_slot(lab: Lab, runbook: Command) -> None:
    runbook.declare(databases={DB: {"rescue": None}})
    lab.leak(lab.apps[0], 37)
    ran = runbook("diagnose", DB, "--check", code=2)
    assert ran.stdout.startswith("RUNBOOK CRITICAL - ")
    assert "remaining connection slots are reserved" in ran.stdout


def test_json_is_versioned_and_whole(lab: Lab, runbook: Command) -> None:
    lab.http(lab.apps[0], "/warm?n=3", "POST")
    diagnosis = runbook.diagnose()
    assert diagnosis["schema_version"] == 1
    assert diagnosis["target"] == DB
    assert diagnosis["server"]["version"].startswith("15.")
    assert {count["name"]: count["sessions"] for count in diagnosis["by_role"]} == {"shop": 3}
    assert json.dumps(diagnosis)
