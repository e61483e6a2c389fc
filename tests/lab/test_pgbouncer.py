"""What a diagnosis sees through a real PgBouncer, and what it says when clients wait there."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from .command import Command, wait_settled
from .lab import DB, AnswerTooLate, Lab, password, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .lab import Host

BOUNCER = "bouncer-01"


@pytest.fixture
def runbook(lab: Lab, runbook: Command) -> Command:
    """The command, with a PgBouncer of the database's host in its inventory."""
    declare(lab, runbook)
    return runbook


def declare(lab: Lab, runbook: Command, **more: Any) -> None:
    """Declare the PgBouncer of the database's host, with keys laid over its entry."""
    runbook.declare(pgbouncers={BOUNCER: {**lab.bouncer_entry(lab.db), **more}})


def told(runbook: Command, when: Callable[[Any], bool]) -> Any:
    """Diagnose until it looks as expected: clients must first have waited for a second."""
    found: list[Any] = []

    def so() -> bool:
        found.append(runbook.diagnose())
        return when(found[-1])

    try:
        until(so, "the expected diagnosis")
    except AnswerTooLate:
        pytest.fail(f"last: {found[-1]['finding']} {found[-1]['poolers']}")
    return found[-1]


def exhausted(diagnosis: Any) -> bool:
    return bool(diagnosis["finding"]["cause"] == "pooler-exhausted")


@contextmanager
def clients(lab: Lab, host: Host, count: int, application: str) -> Iterator[list[Any]]:
    """Open clients of a PgBouncer from this process, each with a statement behind it."""
    opened: list[Any] = []
    try:
        for _ in range(count):
            opened.append(client(host, application))  # noqa: PERF401 - kept on error
        yield opened
    finally:
        for connection in opened:
            connection.close()


def client(host: Host, application: str) -> psycopg.Connection[Any]:
    """Open one client of a PgBouncer."""
    connection = psycopg.connect(
        host="127.0.0.1",
        port=host.bouncer_port,
        dbname="shop",
        user="shop",
        password=password("shop"),
        application_name=application,
        autocommit=True,
        prepare_threshold=None,
    )
    connection.execute("SELECT name FROM items WHERE id = 1")
    return connection


def owners(finding: Any) -> dict[str, int]:
    """Return a finding's sessions by who is behind them."""
    return {
        f"{o['service']} on {o['host']}" if o["service"] else f"pool {o['pool']}": o["sessions"]
        for o in finding["owners"]
    }


def test_a_healthy_pool_is_seen_through_and_nothing_is_said(lab: Lab, runbook: Command) -> None:
    lab.start_pgbouncer(lab.db, pool_mode="session")
    first, second, direct = lab.apps
    for host in (first, second):
        lab.point_shop(host, lab.db)
    lab.http(first, "/leak?n=3", "POST")
    lab.http(second, "/leak?n=1", "POST")
    lab.http(direct, "/warm?n=2", "POST")
    diagnosis = runbook.diagnose()
    assert diagnosis["finding"]["cause"] == "healthy"
    assert diagnosis["unseen"] == []
    pools = {(p["host"], p["pgbouncer"]): p["sessions"] for p in diagnosis["pools"]}
    assert pools == {("app-1", BOUNCER): 3, ("app-2", BOUNCER): 1, ("app-3", None): 2}
    (pool,) = diagnosis["poolers"]
    assert (pool["pgbouncer"], pool["version"], pool["mode"]) == (BOUNCER, "1.18.0", "session")
    assert (pool["sv_active"], pool["cl_active"], pool["binds"]) == (4, 4, None)
    assert "PgBouncer" not in runbook("diagnose", DB).said


@pytest.mark.parametrize("upstream", [DB, "/var/run/postgresql"])
def test_each_session_is_its_clients_and_the_rest_is_the_pools(
    lab: Lab, runbook: Command, upstream: str
) -> None:
    """Over TCP and over a socket, with names that PgBouncer adds an address to."""
    lab.start_pgbouncer(lab.db, upstream=upstream, application_name_add_host=1)
    first, second, _ = lab.apps
    for host in (first, second):
        lab.point_shop(host, lab.db)
    # All five server connections are opened at once; then two are given back.
    lab.http(first, "/leak?how=in_transaction&n=2", "POST")
    lab.http(second, "/slow?seconds=600&n=1", "POST")
    lab.http(second, "/slow?seconds=3&n=2", "POST")
    busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'shop' AND state <> 'idle'"
    until(lambda: lab.psql(busy) == "5", "five sessions at work")
    until(lambda: lab.psql(busy) == "3", "two sessions given back")
    diagnosis = runbook.diagnose()
    assert diagnosis["slots"]["used"] == 5
    assert diagnosis["unseen"] == []
    pools = {p["host"]: p["sessions"] for p in diagnosis["pools"] if p["pgbouncer"] == BOUNCER}
    assert pools == {"app-1": 2, "app-2": 1}
    (pool,) = diagnosis["poolers"]
    assert (pool["sv_active"], pool["sv_idle"]) == (3, 2)


def test_an_exhausted_pool_while_postgresql_has_room(lab: Lab, runbook: Command) -> None:
    lab.start_pgbouncer(lab.db, default_pool_size=2)
    holder, waiter, _ = lab.apps
    # The first connection of a process asks for the server's version: not from a queue.
    for host in (holder, waiter):
        lab.point_shop(host, lab.db)
        lab.http(host, "/warm?n=1", "POST")
    assert lab.http(holder, "/slow?seconds=600&n=2", "POST").status == 200
    busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND usename='shop'"
    until(lambda: lab.psql(busy) == "2", "the pool at work")
    with waiting(lab, lab.db, 4):
        diagnosis = told(runbook, exhausted)
        text = runbook("diagnose", DB).said
    finding = diagnosis["finding"]
    assert finding["confidence"] == "certain"
    assert "its 2 connections (default_pool_size) are taken" in finding["title"]
    assert "PostgreSQL itself has 35 of 37 slots free" in finding["because"]
    assert owners(finding) == {"shop on app-1": 2}
    assert any("waiting: shop on app-2 (4)" in line for line in finding["evidence"])
    assert any("2 active" in line for line in finding["evidence"])
    assert "default_pool_size = 3" in finding["advice"]
    assert diagnosis["poolers"][0]["binds"] == "pool_size"
    assert "shop on app-1 through bouncer-01" in text


@contextmanager
def waiting(lab: Lab, host: Host, count: int, application: str = "shop-app-2") -> Iterator[None]:
    """Have clients of a PgBouncer wait for a server connection."""
    url = f"postgresql://shop:{password('shop')}@127.0.0.1:{host.bouncer_port}/shop"
    begun = []
    try:
        for _ in range(count):
            pg = psycopg.pq.PGconn.connect_start(f"{url}?application_name={application}".encode())
            begun.append(pg)
            until(lambda pg=pg: has_asked(pg), "a client that waits")  # type: ignore[misc]
        yield
    finally:
        for pg in begun:
            pg.finish()


def has_asked(pg: Any) -> bool:
    """Drive one client's login as far as it goes; true once its statement is on the way."""
    from psycopg.pq import ConnStatus, PollingStatus, TransactionStatus

    if pg.status != ConnStatus.OK:
        assert pg.connect_poll() != PollingStatus.FAILED, pg.error_message
        return False
    if pg.transaction_status == TransactionStatus.IDLE:
        pg.send_query(b"SELECT 1")
        pg.flush()
    return True


def test_clients_that_keep_a_session_pool_while_they_are_idle(lab: Lab, runbook: Command) -> None:
    """A leak of the bouncer's: the culprit is named, and no session is proved leaked."""
    lab.start_pgbouncer(lab.db, pool_mode="session", default_pool_size=14)
    leaky, _, _ = lab.apps
    lab.point_shop(leaky, lab.db)
    assert lab.leak(leaky, 14) == 14
    leak = runbook.diagnose()["finding"]
    assert leak["cause"] == "leaked-clients"
    assert leak["title"] == (
        f"shop on app-1 holds 14 connections to PgBouncer {BOUNCER}, its pool is 10"
    )
    assert leak["command"] == f"runbook remediate {DB} --rolling-restart --service shop"
    with waiting_for_login(lab, 2):
        finding = told(runbook, exhausted)["finding"]
    assert "its 14 connections (default_pool_size) are taken" in finding["title"]
    assert owners(finding) == {"shop on app-1": 14}
    assert any("holds 14 connections" in line for line in finding["evidence"])
    assert "not the client that took it" in finding["advice"]
    assert finding["command"] == f"runbook remediate {DB} --rolling-restart --service shop"
    wait_settled(lab, "shop-app-1", 14)
    ran = runbook("remediate", DB, "--terminate-idle", "--dry-run", "-p", "headroom=95%")
    assert "nothing to terminate: no leaked session is proved" in ran.said


@contextmanager
def waiting_for_login(lab: Lab, count: int) -> Iterator[None]:
    """In session mode the statement waits as well: the same, from a machine unknown."""
    with waiting(lab, lab.db, count, "cron"):
        yield


def test_max_client_conn_refuses_while_nothing_waits(lab: Lab, runbook: Command) -> None:
    lab.start_pgbouncer(lab.db, max_client_conn=6)
    with clients(lab, lab.db, 6, "shop-app-1"):
        with pytest.raises(psycopg.OperationalError, match="max_client_conn"):
            client(lab.db, "shop-app-1")
        finding = runbook.diagnose()["finding"]
    assert finding["cause"] == "pooler-exhausted"
    assert "all 6 of max_client_conn are in use" in finding["title"]
    with clients(lab, lab.db, 4, "shop-app-1"):
        assert runbook.diagnose()["finding"]["cause"] == "healthy"


def test_a_database_that_somebody_has_paused_or_disabled(lab: Lab, runbook: Command) -> None:
    lab.start_pgbouncer(lab.db)
    with clients(lab, lab.db, 1, "shop-app-1"):
        lab.bouncer_console(lab.db, "PAUSE shop")
        assert runbook.diagnose()["finding"]["cause"] == "healthy"
        with waiting(lab, lab.db, 2):
            finding = told(runbook, exhausted)["finding"]
        assert finding["title"].startswith("2 clients wait")
        assert "database shop is paused" in finding["title"]
        assert "RESUME shop" in finding["advice"]
        assert finding["command"].endswith("-d pgbouncer -c 'SHOW DATABASES'")
        lab.bouncer_console(lab.db, "RESUME shop")
        lab.bouncer_console(lab.db, "DISABLE shop")
        finding = runbook.diagnose()["finding"]
    assert finding["title"].startswith("database shop is disabled: new clients are refused")


def test_a_pool_that_gets_no_server_connection(lab: Lab, runbook: Command) -> None:
    lab.psql("ALTER ROLE shop NOLOGIN")
    lab.start_pgbouncer(lab.db, server_login_retry=60)
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        client(lab.db, "shop-app-1")
    # Until the next try, clients wait in their login.
    with logging_in(lab, lab.db, 2):
        diagnosis = told(runbook, exhausted)
    finding = diagnosis["finding"]
    assert finding["confidence"] == "likely"
    assert "gets no further one from PostgreSQL" in finding["title"]
    assert diagnosis["poolers"][0]["binds"] == "no_server"


@contextmanager
def logging_in(lab: Lab, host: Host, count: int) -> Iterator[None]:
    """Have clients whose very login waits for a server connection."""
    url = f"postgresql://shop:{password('shop')}@127.0.0.1:{host.bouncer_port}/shop"
    begun = [psycopg.pq.PGconn.connect_start(url.encode()) for _ in range(count)]

    def wait() -> bool:
        for pg in begun:
            pg.connect_poll()
        rows = [row.split("|") for row in lab.bouncer_console(host, "SHOW POOLS").splitlines()]
        return any(row[0] == "shop" and int(row[3]) > 0 for row in rows)

    try:
        until(wait, "clients that wait in their login")
        yield
    finally:
        for pg in begun:
            pg.finish()


def test_a_full_postgresql_is_the_cause_and_the_queue_follows(lab: Lab, runbook: Command) -> None:
    lab.start_pgbouncer(lab.db, default_pool_size=20)
    lab.point_shop(lab.apps[0], lab.db)
    lab.http(lab.apps[0], "/slow?seconds=600&n=5", "POST")
    busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND usename='shop'"
    until(lambda: lab.psql(busy) == "5", "the pool at work")
    lab.leak(lab.apps[1], 32)
    with waiting(lab, lab.db, 3):
        diagnosis = told(
            runbook, lambda d: "pooler-exhausted" in {also["cause"] for also in d["also"]}
        )
    assert diagnosis["finding"]["cause"] == "leaked-sessions"
    assert diagnosis["finding"]["owners"][0]["host"] == "app-2"


def test_a_console_that_does_not_answer_is_told_and_hides_nothing_else(
    lab: Lab, runbook: Command
) -> None:
    lab.leak(lab.apps[1], 14)

    def unseen(**more: Any) -> str:
        declare(lab, runbook, **more)
        diagnosis = told(runbook, lambda d: d["finding"]["cause"] == "leaked-sessions")
        (line,) = [line for line in diagnosis["unseen"] if line.startswith("PgBouncer")]
        assert diagnosis["poolers"] == []
        return str(line)

    place = f"127.0.0.1:{lab.db.bouncer_port}"
    down = unseen()
    assert down.startswith(f"PgBouncer {BOUNCER}: ({place}) cannot be reached")
    lab.start_pgbouncer(lab.db)
    secret = {"file": str(lab.folder / "oncall.password")}
    wrong = unseen(admin={"user": "bouncer_stats", "password": secret})
    assert "refused 'bouncer_stats'" in wrong
    assert f"check pgbouncers.{BOUNCER}.admin" in wrong
    nobody = unseen(admin={"user": "oncall", "password": secret})
    assert "does not let 'oncall' see its console" in nobody
    assert "stats_users" in nobody
    postgres = unseen(port=lab.db.pg_port, admin={"user": "oncall", "password": secret})
    assert "is that PostgreSQL, and not PgBouncer?" in postgres
    missing = unseen(admin={"user": "oncall", "password": {"file": "/no/such/file"}})
    assert "the secret's file /no/such/file cannot be read" in missing
    declare(lab, runbook)
    assert runbook.diagnose()["unseen"] == []
