"""Each cause, produced on a real PostgreSQL by real connections, and named from what it says."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from runbook.model.leaks import LeakPolicy
from unit.findings.world import JUDGE, fleet, look, older

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runbook.model.fleet import Fleet
    from runbook.model.sessions import Session, Snapshot
    from unit.postgres_server import Server

LOCAL = {"web-01": {"address": "127.0.0.1"}, "web-02": {"address": "127.0.0.1"}}
LEAKED = LeakPolicy()
BLOCKERS = LeakPolicy(which="blockers")


def shop(size: int = 4, **given: Any) -> Fleet:
    service = {
        "hosts": "all",
        "database": "db",
        "application_name": "shop-${host.name}",
        "pool": {"size": size},
    }
    return fleet({"shop": service}, hosts=LOCAL, **given)


def named(name: str) -> Callable[[Session], bool]:
    return lambda session: session.application_name == name


@contextmanager
def working(server: Server, count: int, sql: str, **settings: Any) -> Iterator[None]:
    """Run one statement on `count` connections at once, cancelled at the end."""
    with crowd(server, count, **settings) as at_work, ExitStack() as threads:
        for connection in at_work:
            thread = threading.Thread(target=_run, args=(connection, sql), daemon=True)
            thread.start()
            threads.callback(thread.join, 10)
            threads.callback(connection.cancel)
        yield


@contextmanager
def crowd(server: Server, count: int, user: str = "app", **settings: Any) -> Iterator[list[Any]]:
    """Hold connections; unlike `Server.crowd`, one may be opened within another."""
    with ExitStack() as held:
        yield [held.enter_context(server.connect(user, **settings)) for _ in range(count)]


def alone(server: Server) -> None:
    """Wait until the server has seen all of our connections go."""
    others = (
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
        " AND pid <> pg_backend_pid()"
    )
    for _ in range(200):
        if not server.admin(others):
            return
        time.sleep(0.02)
    raise AssertionError("connections are still open")


@pytest.fixture(autouse=True)
def _settled(roomy: Server) -> Iterator[None]:
    yield
    alone(roomy)


def _run(connection: Any, sql: str) -> None:
    with suppress(Exception):  # cancelled, as intended
        connection.execute(sql)


def until(server: Server, holds: Callable[[Snapshot], bool]) -> Snapshot:
    for _ in range(200):
        seen = look(server)
        if holds(seen):
            return seen
        time.sleep(0.02)
    raise AssertionError("the sessions did not come to the wanted state")


def test_healthy(roomy: Server) -> None:
    with crowd(roomy, 3, application_name="shop-web-01"):
        diagnosis = JUDGE.diagnose(look(roomy), shop())
    assert diagnosis.finding.cause == "healthy"
    assert diagnosis.slots.usable == 28
    assert diagnosis.slots.used == 3
    assert diagnosis.unseen == ()


def test_leaked_sessions(roomy: Server) -> None:
    with (
        crowd(roomy, 4, application_name="shop-web-02"),
        crowd(roomy, 21, application_name="shop-web-01") as leaking,
    ):
        for connection in leaking:
            connection.execute("SELECT 1")
        seen = older(look(roomy), 30, named("shop-web-01"))
    diagnosis, plan = JUDGE.diagnose(seen, shop()), JUDGE.leaks(seen, shop(), LEAKED)
    assert diagnosis.finding.cause == "leaked-sessions"
    assert diagnosis.finding.command == "runbook remediate db --terminate-idle"
    owner = diagnosis.finding.owners[0]
    assert (owner.service, owner.host, owner.sessions, owner.budget, owner.concerned) == (
        "shop",
        "web-01",
        21,
        4,
        17,
    )
    # Nobody tells which process holds which: two at either end may be strangers, four the pool
    # itself, and two of these are at that end.
    assert len(plan.sessions) == 17 - 2 - 4
    assert [(s.reason, len(s.pids)) for s in plan.spared] == [
        ("may be the pool of shop on web-01 itself: opened first", 2)
    ]
    assert {p.session.application_name for p in plan.sessions} == {"shop-web-01"}
    assert {p.rule for p in plan.sessions} == {"over_pool"}
    ages = [p.session.state_age_s or 0 for p in plan.sessions]
    assert ages == sorted(ages, reverse=True)
    assert (plan.used, plan.usable, plan.wanted) == (25, 28, 3)


def test_the_text_of_times_is_the_servers_own(roomy: Server) -> None:
    with crowd(roomy, 1, application_name="shop-web-01"):
        seen = look(roomy)
        (mine,) = [s for s in seen.sessions if s.application_name == "shop-web-01"]
        with roomy.connect("postgres", options="-c TimeZone=UTC") as admin:
            row = admin.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s"
                " AND state_change = %s AND state = %s",
                (mine.id.pid, mine.id.backend_start, mine.id.state_change, "idle"),
            ).fetchone()
    assert row == (1,)


def test_idle_in_transaction(roomy: Server) -> None:
    with crowd(roomy, 8, application_name="shop-web-01") as held, crowd(roomy, 2):
        for connection in held:
            connection.execute("BEGIN")
            connection.execute("SELECT * FROM stock")
        held[0].execute("UPDATE stock SET left_over = 0 WHERE id = 9")
        seen = older(look(roomy), 400, named("shop-web-01"))
        writer = held[0].info.backend_pid
    inventory = shop(size=10)
    diagnosis, plan = JUDGE.diagnose(seen, inventory), JUDGE.leaks(seen, inventory, LEAKED)
    assert diagnosis.finding.cause == "idle-in-transaction"
    assert diagnosis.finding.confidence == "strong"
    assert diagnosis.finding.owners[0].concerned == 8
    # One has written, and three (a quarter of ten, rounded up) are the floor.
    assert writer not in {p.session.pid for p in plan.sessions}
    assert any(writer in spared.pids for spared in plan.spared)
    assert len(plan.sessions) == 5
    assert {p.rule for p in plan.sessions} == {"idle_in_transaction"}


def test_lock_pile_up(roomy: Server) -> None:
    with crowd(roomy, 1, application_name="shop-web-02") as (root,):
        root.execute("BEGIN")
        root.execute("UPDATE stock SET left_over = 0 WHERE id = 1")
        waiting = "UPDATE stock SET left_over = 1 WHERE id = 1"
        with working(roomy, 9, waiting, application_name="shop-web-01"):
            seen = until(roomy, lambda s: sum(c.wait_event_type == "Lock" for c in s.clients) == 9)
        pid = root.info.backend_pid
    inventory = shop(size=10)
    diagnosis = JUDGE.diagnose(seen, inventory)
    assert diagnosis.finding.cause == "lock-pile-up"
    assert diagnosis.finding.confidence == "certain"
    assert f"pid {pid} (shop on web-02)" in diagnosis.finding.title
    assert "9 sessions wait for a lock behind" in diagnosis.finding.title
    assert diagnosis.finding.command == "runbook remediate db --terminate-blocker"
    plan = JUDGE.leaks(seen, inventory, BLOCKERS)
    assert [p.session.pid for p in plan.sessions] == [pid]
    assert "9 sessions wait" in plan.sessions[0].proof
    assert "rolled back" in plan.sessions[0].proof
    assert JUDGE.leaks(older(seen, 900, lambda _: True), inventory, LEAKED).sessions == ()


def test_an_active_blocker_is_reported_only(roomy: Server) -> None:
    with crowd(roomy, 1, application_name="shop-web-02") as (root,):
        root.execute("BEGIN")
        root.execute("UPDATE stock SET left_over = 0 WHERE id = 1")
        busy = threading.Thread(target=_run, args=(root, "SELECT pg_sleep(30)"), daemon=True)
        busy.start()
        waiting = "UPDATE stock SET left_over = 1 WHERE id = 1"
        with working(roomy, 5, waiting, application_name="shop-web-01"):
            seen = until(roomy, lambda s: sum(c.wait_event_type == "Lock" for c in s.clients) == 5)
        pid = root.info.backend_pid
        root.cancel()
        busy.join(10)
    diagnosis, plan = JUDGE.diagnose(seen, shop()), JUDGE.leaks(seen, shop(), BLOCKERS)
    assert diagnosis.finding.cause == "lock-pile-up"
    assert f"pg_cancel_backend({pid})" in (diagnosis.finding.command or "")
    assert plan.sessions == ()
    assert [spared.pids for spared in plan.spared] == [(pid,)]


@pytest.mark.parametrize(("age", "cause"), [(30, "slow-queries"), (0, "surge")])
def test_work_is_told_by_its_age(roomy: Server, age: float, cause: str) -> None:
    with working(roomy, 22, "SELECT pg_sleep(20)", application_name="shop-web-01"):
        seen = until(roomy, lambda s: sum(c.state == "active" for c in s.clients) == 22)
    diagnosis = JUDGE.diagnose(older(seen, age, lambda _: True), shop(size=14))
    assert diagnosis.finding.cause == cause
    assert JUDGE.leaks(seen, shop(size=14), LEAKED).sessions == ()


def test_pools_over_budget(roomy: Server) -> None:
    with (
        crowd(roomy, 14, application_name="shop-web-01"),
        crowd(roomy, 13, application_name="shop-web-02"),
    ):
        seen = older(look(roomy), 3600, lambda _: True)
    diagnosis = JUDGE.diagnose(seen, shop(size=20))
    assert diagnosis.finding.cause == "pools-over-budget"
    assert "40 connections" in diagnosis.finding.title
    assert JUDGE.leaks(seen, shop(size=20), LEAKED).sessions == ()


def test_role_limit(roomy: Server) -> None:
    roomy.admin("ALTER ROLE crowd CONNECTION LIMIT 5")
    try:
        with crowd(roomy, 5, "crowd", application_name="shop-web-01"):
            diagnosis = JUDGE.diagnose(look(roomy), shop(size=10))
    finally:
        roomy.admin("ALTER ROLE crowd CONNECTION LIMIT 0")
    assert diagnosis.finding.cause == "role-limit"
    assert diagnosis.finding.confidence == "certain"
    assert "role crowd has used up its own limit: 5 of 5" in diagnosis.finding.title


def test_database_limit(roomy: Server) -> None:
    roomy.admin("ALTER DATABASE shop CONNECTION LIMIT 4")
    try:
        with crowd(roomy, 4, application_name="shop-web-01"):
            diagnosis = JUDGE.diagnose(look(roomy, dbname="postgres"), shop(size=10))
    finally:
        roomy.admin("ALTER DATABASE shop CONNECTION LIMIT -1")
    assert diagnosis.finding.cause == "database-limit"


def test_a_mixed_incident_names_both(roomy: Server) -> None:
    with (
        crowd(roomy, 1, application_name="shop-web-02") as (root,),
        crowd(roomy, 14, application_name="shop-web-01"),
    ):
        root.execute("BEGIN")
        root.execute("UPDATE stock SET left_over = 0 WHERE id = 1")
        with working(
            roomy, 7, "UPDATE stock SET left_over = 1 WHERE id = 1", application_name="batch"
        ):
            seen = until(roomy, lambda s: sum(c.wait_event_type == "Lock" for c in s.clients) == 7)
    diagnosis = JUDGE.diagnose(older(seen, 60, named("shop-web-01")), shop())
    assert diagnosis.finding.cause == "lock-pile-up"
    assert [finding.cause for finding in diagnosis.also] == ["leaked-sessions"]


def test_a_role_that_may_not_look_counts_nothing_as_zero(roomy: Server) -> None:
    with crowd(roomy, 26, application_name="shop-web-01"):
        seen = look(roomy, "blind")
    diagnosis, plan = JUDGE.diagnose(seen, shop()), JUDGE.leaks(seen, shop(), LEAKED)
    assert diagnosis.slots.used == 26
    assert [(count.name, count.sessions) for count in diagnosis.by_state] == [("hidden", 26)]
    assert diagnosis.finding.cause == "leaked-sessions"
    assert diagnosis.finding.confidence == "likely"
    assert plan.sessions == ()
    assert any('GRANT pg_monitor TO "blind";' in line for line in diagnosis.unseen)
    assert any('GRANT pg_signal_backend TO "blind";' in line for line in diagnosis.unseen)


def test_protected_sessions_are_spared(roomy: Server) -> None:
    with crowd(roomy, 20, application_name="shop-web-01") as held:
        held[0].execute("SELECT pg_advisory_lock(1)")
        held[1].execute("LISTEN orders")
        seen = older(look(roomy), 3600, lambda _: True)
        spared = {held[0].info.backend_pid, held[1].info.backend_pid}
    plan = JUDGE.leaks(seen, shop(), LEAKED)
    # Neither is part of the pool for certain, so neither counts against it.
    # Of the rest, two may be strangers, and the four that were opened first the pool itself.
    assert len(plan.sessions) == 20 - 2 - 4 - 2 - 4
    assert not spared & {p.session.pid for p in plan.sessions}
    assert {"holds an advisory lock", "LISTENs for notifications"} <= {
        entry.reason for entry in plan.spared
    }


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "UTF8", "LATIN1"])
def test_statements_in_any_encoding_are_read(roomy: Server, encoding: str) -> None:
    """The view shows each session's bytes as its own database has them."""
    create = "CREATE DATABASE {} ENCODING '{}' LOCALE 'C' TEMPLATE template0"
    roomy.admin(create.format("reader", encoding))
    roomy.admin(create.format("odd", "SQL_ASCII"))
    odd = roomy.connect(dbname="odd", application_name="odd", client_encoding="SQL_ASCII")
    try:
        odd.pgconn.exec_(b'SELECT 1 AS "caf\xe9 \xff"')
        seen = look(roomy, dbname="reader")
        (found,) = [s for s in seen.sessions if s.application_name == "odd"]
        assert found.query.startswith('SELECT ? AS "caf')
        assert found.query.endswith('"')
        assert JUDGE.diagnose(seen, shop()).finding.cause == "healthy"
    finally:
        odd.close()
        alone(roomy)
        roomy.admin("DROP DATABASE reader")
        roomy.admin("DROP DATABASE odd")
