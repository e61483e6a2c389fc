"""What pooling by transaction would break, from real statements on a real PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runbook.adapters.postgres import PostgresDoor
from runbook.findings.pooling_statements import traits_of
from runbook.model.effects import AskDatabase
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from unit.findings.world import JUDGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.model.pooling_fitness import PoolingFitness
    from unit.postgres_server import Server

#: What each statement leaves behind in its session.
LEAVES = {
    "LISTEN jobs": "listen",
    "/* web */ listen jobs": "listen",
    "-- x\nSET search_path = app": "set",
    "SET SESSION statement_timeout TO 5": "set",
    "SET ROLE app": "set",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY": "set",
    "SELECT set_config('app.tenant', '1', false)": "set",
    "PREPARE by_id (int) AS SELECT $1": "prepare",
    "EXECUTE by_id(1)": "prepare",
    'DEALLOCATE "_pg3_1"': "driver",
    "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;": "driver",
    "SELECT pg_advisory_lock(1)": "advisory-lock",
    "SELECT pg_catalog.PG_TRY_ADVISORY_LOCK_SHARED (1, 2)": "advisory-lock",
    'SELECT "pg_advisory_lock"(1)': "advisory-lock",
    "SELECT pg_advisory_unlock(1)": "advisory-lock",
    "CREATE TEMP TABLE t (a int)": "temporary-table",
    "CREATE LOCAL TEMPORARY TABLE t AS SELECT 1": "temporary-table",
    "CREATE TABLE pg_temp.t (a int)": "temporary-table",
    "SELECT 1 AS a INTO TEMP t": "temporary-table",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1": "cursor",
    "LOAD 'auto_explain'": "load",
    "SELECT currval('s')": "sequence",
    "BEGIN; SET x.y = 1; COMMIT": "set",
}
HARMLESS = (
    "NOTIFY jobs",
    "UNLISTEN *",
    "SET LOCAL search_path = app",
    "SET LOCAL ROLE app",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET CONSTRAINTS ALL DEFERRED",
    # PgBouncer keeps these for each client.
    "SET application_name = 'x'",
    "SET SESSION TimeZone TO 'UTC'",
    "SET TIME ZONE 'UTC'",
    "SET NAMES 'utf8'",
    "SELECT set_config('app.tenant', '1', true)",
    "PREPARE TRANSACTION 'x'",
    "RESET ALL",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT pg_try_advisory_xact_lock_shared(1)",
    "SELECT listen FROM songs",
    'SELECT "listen", "SET a" FROM t',
    "SELECT 'LISTEN jobs; SET x = 1; pg_advisory_lock(1)'",
    "SELECT $$; LISTEN jobs$$",
    "SELECT 1 /* ; SET x = 1 */ -- ; LISTEN a",
    "SELECT 1 AS pg_advisory_lock",
    'SELECT 1 AS "pg_advisory_lock(1)"',
    "UPDATE t\nSET a = 1",
    "INSERT INTO temp VALUES (1)",
    "SELECT 1 INTO temp FROM t",
    "SELECT temp FROM weather",
    "CREATE TEMP TABLE t (a int) ON COMMIT DROP",
    "DECLARE c CURSOR FOR SELECT 1",
    "DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1",
    "ALTER ROLE app SET search_path = app",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = a AS 'SELECT 1'",
    "LOADING",
)


@pytest.mark.parametrize("sql", LEAVES)
def test_what_a_statement_leaves_behind(sql: str) -> None:
    assert [trait.kind for trait in traits_of(sql)] == [LEAVES[sql]]


@pytest.mark.parametrize("sql", HARMLESS)
def test_what_only_looks_like_it(sql: str) -> None:
    assert list(traits_of(sql)) == []


def test_no_value_is_shown() -> None:
    said = "".join(
        trait.sample
        for sql in (
            "SET app.token TO verysecret",
            "SET app.token = 'verysecret'",
            "SELECT set_config('app.token', 'verysecret', false)",
            "PREPARE a AS SELECT 'verysecret'",
            "LOAD 'verysecret'",
        )
        for trait in traits_of(sql)
    )
    assert "app.token" in said
    assert "verysecret" not in said


# ---- on a real server


@pytest.fixture(scope="module")
def counting() -> Iterator[Server]:
    """A server that counts its statements."""
    from unit.postgres_server import running

    with running(max_connections=20, shared_preload_libraries="pg_stat_statements") as started:
        yield started


@pytest.fixture
def fresh(counting: Server) -> Server:
    """The same, with nothing counted."""
    with counting.connect("postgres") as admin:
        admin.execute('CREATE SCHEMA IF NOT EXISTS "sta\'ts"')
        admin.execute('CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA "sta\'ts"')
        admin.execute('GRANT USAGE ON SCHEMA "sta\'ts" TO PUBLIC')
        admin.execute('SELECT "sta\'ts".pg_stat_statements_reset()')
    return counting


def known(server: Server, role: str | None = "app") -> Fleet:
    inventory = server.fleet().inventory.model_dump(mode="json", exclude_unset=True)
    service = {"hosts": "all", "database": "db", **({"role": role} if role else {})}
    hosts = {"web-01": {"address": "127.0.0.1"}}
    both = {**inventory, "hosts": hosts, "services": {"shop": service}}
    return Fleet(Inventory.model_validate(both))


def look(server: Server, fleet: Fleet | None = None, **words: Any) -> PoolingFitness:
    fleet = fleet or known(server)
    door = PostgresDoor(fleet, rehearsal=True)
    drive = JUDGE.pooling_fitness("db", fleet, **words)
    try:
        effect = next(drive)
        while True:
            assert isinstance(effect, AskDatabase)
            effect = drive.send(door.perform(effect))
    except StopIteration as stop:
        report: PoolingFitness = stop.value
        return report
    finally:
        door.close()


def seen(report: PoolingFitness, kind: str) -> dict[str, Any]:
    """Return by place how much of a kind was seen."""
    return {each.seen_in: each.count for each in report.evidence if each.kind == kind}


def run(server: Server, *statements: str, user: str = "app") -> None:
    with server.connect(user) as connection:
        for sql in statements:
            connection.execute(sql.encode())


def test_nothing_speaks_against_it(fresh: Server) -> None:
    run(
        fresh,
        "SELECT 'LISTEN jobs'",
        "BEGIN",
        "SET LOCAL statement_timeout = 100",
        "SELECT pg_advisory_xact_lock(1)",
        "CREATE TEMP TABLE t (a int) ON COMMIT DROP",
        "COMMIT",
        "SET application_name = 'me'",
        "NOTIFY jobs",
    )
    # What people and runbook itself do there is not the service's.
    run(fresh, "LISTEN jobs", "SET work_mem = '1MB'", user="sees")
    report = look(fresh)
    assert not [line for line in report.unknown if "what was run so far" in line]
    assert (report.mode, report.sure, report.roles) == ("transaction", "likely", ("app",))
    assert report.evidence == ()
    assert report.since is not None
    assert any("pg_prepared_statements" in line for line in report.unknown)
    assert not any("is not there" in line for line in report.unknown)


def test_each_kind_is_counted_where_it_was_seen(fresh: Server) -> None:
    statements = (
        "LISTEN jobs",
        "SET search_path = public",
        "PREPARE by_id (int) AS SELECT $1 + 1",
        "EXECUTE by_id(1)",
        "CREATE TEMP TABLE basket (a int)",
        "BEGIN",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "COMMIT",
        "SELECT pg_advisory_lock(4711)",
    )
    with fresh.connect("app") as held:
        for sql in statements:
            held.execute(sql.encode())
        report = look(fresh)
    assert report.mode == "session"
    assert report.sure == "certain"
    for kind in ("listen", "set", "cursor"):
        assert seen(report, kind) == {"pg_stat_statements": 1}, kind
    assert seen(report, "prepare")["pg_stat_statements"] >= 1
    assert seen(report, "advisory-lock") == {
        "pg_stat_statements": 1,
        "pg_stat_activity": 1,
        "pg_locks": 1,
    }
    assert seen(report, "temporary-table") == {"pg_stat_statements": 1, "pg_class": 1}
    lock = next(each for each in report.evidence if each.seen_in == "pg_stat_statements")
    assert (lock.roles, lock.databases) == (("app",), ("shop",))
    assert "4711" not in report.model_dump_json()


def test_a_lock_within_a_transaction_is_no_proof(fresh: Server) -> None:
    with fresh.connect("app") as held:
        held.execute("BEGIN")
        held.execute("SELECT pg_advisory_xact_lock(1)")
        report = look(fresh)
    assert report.mode == "transaction"
    assert [(each.kind, each.sure) for each in report.evidence] == [("advisory-lock", "weak")]


def test_whose_statements_count(fresh: Server) -> None:
    run(fresh, "LISTEN jobs")
    run(fresh, "SET work_mem = '1MB'", user="sees")
    assert seen(look(fresh), "listen")
    assert not seen(look(fresh), "set")
    everybody = look(fresh, known(fresh, role=None))
    assert seen(everybody, "set")
    assert any("everybody's" in x for x in look(fresh, known(fresh, None), service="shop").unknown)
    assert look(fresh, dbname="elsewhere").evidence == ()


def test_a_driver_that_prepares_and_a_pgbouncer_that_keeps_it_apart(fresh: Server) -> None:
    with fresh.connect("app") as held:
        held.execute("SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;")
        old, new = look(fresh, pgbouncer_version="1.18"), look(fresh, pgbouncer_version="1.21.0")
    assert (old.mode, old.sure) == ("session", "likely")
    assert "statement_cache_size=0" in old.evidence[0].remedy
    assert (new.mode, new.evidence) == ("transaction", ())
    assert len(new.unknown) == len(old.unknown) - 1


def test_what_cannot_be_read_is_told(fresh: Server) -> None:
    """A role that sees nothing proposes nothing with certainty."""
    run(fresh, "LISTEN jobs")
    fleet = known(fresh)
    database = fleet.inventory.databases["db"]
    connect = database.connect.model_copy(update={"user": "blind"})
    blinded = fleet.inventory.model_copy(
        update={"databases": {"db": database.model_copy(update={"connect": connect})}}
    )
    run(fresh, 'GRANT USAGE ON SCHEMA "sta\'ts" TO PUBLIC', user="postgres")
    report = look(fresh, Fleet(blinded))
    assert (report.mode, report.sure) == ("transaction", "weak")
    assert any("pg_read_all_stats" in line for line in report.unknown)
    run(fresh, 'REVOKE USAGE ON SCHEMA "sta\'ts" FROM PUBLIC', user="postgres")
    shut = look(fresh)
    assert (shut.mode, shut.sure) == ("transaction", "weak")
    assert any("permission denied for schema" in line for line in shut.unknown)
    with fresh.connect("postgres") as admin:
        admin.execute("DROP EXTENSION pg_stat_statements")
    report = look(fresh)
    assert (report.mode, report.sure) == ("transaction", "weak")
    assert any("pg_stat_statements is not there in shop" in line for line in report.unknown)
    assert "little could be seen" in report.verdict
