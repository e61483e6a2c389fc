"""One thing is wrong: each cause, in each of the ways in which clients bring it about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenarios.scenario import Scenario
from scenarios.services import BILLING, SHOP, SHOP_WITHOUT_POOL, service
from scenarios.stage import HOUR, MINUTE

if TYPE_CHECKING:
    from scenarios.stage import Stage


# ---- leaked sessions -----------------------------------------------------------------------


def _neighbours(stage: Stage) -> None:
    """Two healthy hosts beside the one that leaks, busy until a moment ago."""
    stage.start("psycopg_pool_app", "shop-web-02", kept=8).since(20)
    stage.start("sqlalchemy_app", "shop-web-03", kept=6).since(5)


def sqlalchemy_committed(stage: Stage) -> None:
    """A Core connection after commit(), never closed: idle, and its last word is COMMIT."""
    stage.start("sqlalchemy_app", "shop-web-01", lost=32, kept=5).since(15 * MINUTE, kept=30)
    _neighbours(stage)


def sqlalchemy_autocommit(stage: Stage) -> None:
    """In AUTOCOMMIT a lost connection and a returned one look the same: idle, after a SELECT."""
    client = stage.start("sqlalchemy_app", "shop-web-01", how="autocommit", lost=32, kept=5)
    client.since(15 * MINUTE, kept=30)
    _neighbours(stage)


def sqlalchemy_engines(stage: Stage) -> None:
    """Each request makes an engine of its own, whose pool keeps a connection for ever."""
    client = stage.start("sqlalchemy_app", "shop-web-01", how="engine per request", lost=36)
    client.since(10 * MINUTE)
    _neighbours(stage)


def psycopg_pool(stage: Stage) -> None:
    """getconn() without putconn(), in autocommit."""
    client = stage.start("psycopg_pool_app", "shop-web-01", autocommit=True, lost=30, kept=10)
    client.since(15 * MINUTE, kept=10)
    _neighbours(stage)


def asyncpg(stage: Stage) -> None:
    """acquire() without release(); a released one would have reset itself."""
    client = stage.start("asyncpg_app", "shop-web-01", lost=30, kept=10)
    client.since(15 * MINUTE, kept=10)
    _neighbours(stage)


def django(stage: Stage) -> None:
    """A thread for each job, parked for ever after it, with its persistent connection."""
    client = stage.start("django_app", "shop-web-01", lost=30, kept=8)
    client.since(20 * MINUTE, kept=30)
    _neighbours(stage)


def node_postgres(stage: Stage) -> None:
    """pool.connect() without client.release()."""
    client = stage.start("node_app.js", "shop-web-01", lost=30, kept=8)
    client.since(15 * MINUTE, kept=10)
    _neighbours(stage)


def node_postgres_outlived(stage: Stage) -> None:
    """Fewer than the pool may hold; but the pool closes what is idle for long, and these live."""
    client = stage.start("node_app.js", "shop-web-01", lost=14)
    client.since(2 * HOUR)


def two_hosts(stage: Stage) -> None:
    """The same defect on two hosts, further along on one."""
    stage.start("sqlalchemy_app", "shop-web-01", lost=26, kept=4).since(15 * MINUTE, kept=10)
    stage.start("sqlalchemy_app", "shop-web-02", lost=16, kept=4).since(10 * MINUTE, kept=10)
    stage.start("psycopg_pool_app", "shop-web-03", kept=5).since(40)


def nothing_left(stage: Stage) -> None:
    """Every slot is taken, the superusers' by consoles: only the rescue role gets in."""
    client = stage.start("psycopg_pool_app", "shop-web-01", autocommit=True, lost=45, kept=8)
    client.since(30 * MINUTE, kept=5)
    stage.start("plain", "psql", user="postgres", count=3).since(HOUR)
    stage.start("plain", "shop-web-02", count=20, takes_what_is_left=True).since(20)


def host_rebooted(stage: Stage) -> None:
    """A host lost its power: the server keeps its sessions, and its new pool is beside them."""
    before = stage.start("psycopg_pool_app", "shop-web-01", on="web-01", kept=10)
    stage.start("sqlalchemy_app", "shop-web-02", on="web-02", kept=10).since(3 * HOUR)
    stage.lose_power("web-01", before)
    before.since(20 * MINUTE)
    stage.start("psycopg_pool_app", "shop-web-01", on="web-01", kept=8).since(15 * MINUTE)
    stage.rest(2.5)


def clients_of_pgbouncer(stage: Stage) -> None:
    """Connections to a session-pooling PgBouncer that were never closed keep a session each."""
    port = stage.pgbouncer("bouncer-01", size=40, mode="session")
    client = stage.start("sqlalchemy_app", "shop-web-01", port=port, on="web-01", lost=24, kept=4)
    client.since(15 * MINUTE, kept=10)
    stage.start("sqlalchemy_app", "shop-web-02", port=port, on="web-02", kept=6).since(20)


# ---- idle in transaction -------------------------------------------------------------------


def sqlalchemy_session(stage: Stage) -> None:
    """An ORM session that was never closed keeps its transaction open."""
    client = stage.start("sqlalchemy_app", "shop-web-01", how="session", lost=24, kept=4)
    client.since(20 * MINUTE, kept=10)
    stage.start("psycopg_pool_app", "shop-web-02", kept=8).since(20)


def psycopg_pool_in_transaction(stage: Stage) -> None:
    """getconn() without commit() and putconn()."""
    stage.start("psycopg_pool_app", "shop-web-03", lost=10).since(20 * MINUTE)
    stage.start("psycopg_pool_app", "shop-web-02", kept=8).since(20)


def asyncpg_in_transaction(stage: Stage) -> None:
    """A transaction begun, and forgotten by a cancelled task."""
    stage.start("asyncpg_app", "shop-web-02", lost=12, in_transaction=True).since(8 * MINUTE)
    stage.start("psycopg_pool_app", "shop-web-01", kept=8).since(20)


def waiting_for_an_api(stage: Stage) -> None:
    """A payment API is slow, and requests wait for it inside their transactions: they go on."""
    client = stage.start(
        "plain",
        "shop-web-01",
        count=9,
        sql=["BEGIN", "SELECT * FROM stock WHERE id = 1"],
    )
    client.since(40)
    stage.start("psycopg_pool_app", "shop-web-02", kept=8).since(20)


# ---- locks ---------------------------------------------------------------------------------

_LOCK = "SELECT * FROM stock WHERE id = 7 FOR UPDATE"
_WANT = "UPDATE stock SET left_over = left_over - 1 WHERE id = 7"


def silent_root(stage: Stage) -> None:
    """One session has a row locked and has gone silent; everybody wants that row."""
    stage.start("plain", "billing-jobs-01", user="app", count=1, sql=["BEGIN", _LOCK]).since(90)
    for host, count in (("web-01", 10), ("web-02", 10), ("web-03", 9)):
        client = stage.start("psycopg_pool_app", f"shop-{host}", busy=count, work=_WANT)
        client.since(60)


def migration(stage: Stage) -> None:
    """A report is in a transaction, ALTER TABLE waits for it, and everybody behind ALTER TABLE."""
    stage.start("plain", "billing-jobs-01", count=1, sql=["BEGIN", "SELECT count(*) FROM stock"])
    alter = "ALTER TABLE stock ADD COLUMN colour text"
    stage.start("plain", "migration", user="postgres", count=1, work=alter)
    stage.until_waiting(1)
    read = "SELECT name FROM stock WHERE id = 1"
    for host in ("web-01", "web-02"):
        stage.start("psycopg_pool_app", f"shop-{host}", busy=10, work=read).since(100)
    stage.until_waiting(21)
    stage.age_named("billing-jobs-01", 3 * MINUTE)
    stage.age_named("migration", 2 * MINUTE)


def working_root(stage: Stage) -> None:
    """The root is at work on a long statement: its owner's to judge, nobody's to terminate."""
    work = "UPDATE stock SET left_over = 0 WHERE pg_sleep(600) IS NOT NULL OR id = 7"
    stage.start("plain", "billing-jobs-01", count=1, sql=["BEGIN", _LOCK], work=work).since(200)
    for host in ("web-01", "web-02"):
        stage.start("psycopg_pool_app", f"shop-{host}", busy=10, work=_WANT).since(100)


# ---- work ----------------------------------------------------------------------------------


def slow_queries(stage: Stage) -> None:
    """A report that has lost its index, started again by each impatient click."""
    slow = "SELECT count(*), pg_sleep(600) FROM stock"
    stage.start("psycopg_pool_app", "shop-web-01", busy=10, work=slow).since(4 * MINUTE)
    stage.start("psycopg_pool_app", "shop-web-02", busy=10, work=slow).since(2 * MINUTE)
    stage.start("psycopg_pool_app", "shop-web-03", busy=8, kept=2, work=slow).since(MINUTE)


def surge(stage: Stage) -> None:
    """Many short statements, on every connection that the pools may open."""
    for host, count in (("web-01", 14), ("web-02", 14), ("web-03", 14), ("web-04", 12)):
        stage.bench(f"shop-{host}", count, "SELECT pg_sleep(1)")
        stage.until_at_work(f"shop-{host}", count)
        stage.connected_named(f"shop-{host}", HOUR)


def surge_just_begun(stage: Stage) -> None:
    """The same, and the pools have opened all of their connections for it a moment ago."""
    for host, count in (("web-01", 14), ("web-02", 14), ("web-03", 14), ("web-04", 12)):
        stage.bench(f"shop-{host}", count, "SELECT pg_sleep(1)")
        stage.until_at_work(f"shop-{host}", count)


def churn(stage: Stage) -> None:
    """No pool at all: a connection for each request, 30 requests at a time."""
    stage.bench("shop-web-01", 30, "SELECT pg_sleep(0.2)", "-C", "-j", "2")
    stage.until_named("shop-web-01", 15)


# ---- limits --------------------------------------------------------------------------------


def pools_over_budget(stage: Stage) -> None:
    """Each pool keeps to its 20; four hosts of 20 do not fit into 57 slots."""
    for host in ("web-01", "web-02", "web-03"):
        stage.start("psycopg_pool_app", f"shop-{host}", kept=14).since(10 * MINUTE)
    stage.start("plain", "shop-web-04", count=20, takes_what_is_left=True).since(5 * MINUTE)


def role_limit(stage: Stage) -> None:
    """The role may have 12 connections, and its healthy pools want more."""
    stage.admin("ALTER ROLE app CONNECTION LIMIT 12", "ALTER ROLE app CONNECTION LIMIT -1")
    stage.start("psycopg_pool_app", "shop-web-01", kept=8).since(40)
    stage.start("psycopg_pool_app", "shop-web-02", kept=4).since(60)


def database_limit(stage: Stage) -> None:
    """The database may have 12 connections, whoever they are."""
    stage.start("psycopg_pool_app", "shop-web-01", kept=8).since(40)
    stage.start("psycopg_pool_app", "shop-web-02", kept=4).since(60)
    stage.admin(
        "ALTER DATABASE shop CONNECTION LIMIT 12", "ALTER DATABASE shop CONNECTION LIMIT -1"
    )


def pooler_exhausted(stage: Stage) -> None:
    """PgBouncer has five server connections, all at work; 25 clients wait for one of them."""
    port = stage.pgbouncer("bouncer-01", size=5, mode="transaction")
    stage.bench("shop-web-01", 30, "SELECT pg_sleep(4)", port=port)
    stage.until_queued(port, 20)


def stalled_logins(stage: Stage) -> None:
    """Clients begin to log in and go silent: few rows in pg_stat_activity, and nobody gets in."""
    stage.start("psycopg_pool_app", "shop-web-01", kept=6).since(60)
    stage.start("stalled", "", user="stalled", count=54)
    stage.rest(1.5)


def superuser_sessions(stage: Stage) -> None:
    """A job runs as superuser, with many sessions: they take the ordinary slots, reserve aside."""
    stage.start("plain", "nightly-import", user="postgres", count=45).since(10 * MINUTE)
    stage.start("psycopg_pool_app", "shop-web-01", kept=8).since(30)
    stage.start("plain", "shop-web-02", count=12, takes_what_is_left=True).since(20)


def replication_limit(stage: Stage) -> None:
    """Every walsender slot is taken by archivers that nobody stopped; a standby cannot return."""
    for n in range(4):
        folder = stage.server.home / f"wal-{n}"
        folder.mkdir(exist_ok=True)
        stage.tool("pg_receivewal", "-D", str(folder), name=f"archiver-{n}", user="rescue")
    stage.until_walsenders(4)
    stage.start("psycopg_pool_app", "shop-web-01", kept=8).since(30)


def undeclared(stage: Stage) -> None:
    """The slots are full of idle sessions, and nobody has written down how many there may be."""
    stage.start("psycopg_pool_app", "shop-web-01", kept=27).since(3 * MINUTE)
    stage.start("psycopg_pool_app", "shop-web-02", kept=26).since(2 * MINUTE)


CAUSES = (
    Scenario(
        name="leak-sqlalchemy-committed",
        kind="cause",
        says="SQLAlchemy connections after commit(), never closed.",
        play=sqlalchemy_committed,
        services=SHOP,
        cause="leaked-sessions",
        owner="shop on web-01",
        fast=True,
    ),
    Scenario(
        name="leak-sqlalchemy-autocommit",
        kind="cause",
        says="SQLAlchemy connections in AUTOCOMMIT, never closed.",
        play=sqlalchemy_autocommit,
        services=SHOP,
        cause="leaked-sessions",
        owner="shop on web-01",
    ),
    Scenario(
        name="leak-sqlalchemy-engines",
        kind="cause",
        says="A SQLAlchemy engine, with a pool of its own, for each request.",
        play=sqlalchemy_engines,
        services=SHOP,
        cause="leaked-sessions",
        owner="shop on web-01",
    ),
    Scenario(
        name="leak-psycopg-pool",
        kind="cause",
        says="psycopg_pool: getconn() without putconn().",
        play=psycopg_pool,
        services=SHOP,
        cause="leaked-sessions",
        owner="shop on web-01",
    ),
    Scenario(
        name="leak-asyncpg",
        kind="cause",
        says="asyncpg: acquire() without release().",
        play=asyncpg,
        services=SHOP,
        cause="leaked-sessions",
        owner="shop on web-01",
        fast=True,
    ),
    Scenario(
        name="leak-django-threads",
        kind="cause",
        says="Django, CONN_MAX_AGE=None: threads that are parked for ever after one job.",
        play=django,
        services=SHOP,
        cause="leaked-sessions",
        owner="shop on web-01",
    ),
    Scenario(
        name="leak-node-postgres",
        kind="cause",
        says="node-postgres: clients never released.",
        play=node_postgres,
        services=SHOP,
        cause="leaked-sessions",
        owner="shop on web-01",
        needs=("node",),
    ),
    Scenario(
        name="leak-outlived",
        kind="cause",
        says="Lost clients within the pool's size, older than the pool lets an idle one become.",
        play=node_postgres_outlived,
        services=service("shop", size=16, hosts="web-01", max_lifetime="30m", retires_idle=True),
        cause="leaked-sessions",
        owner="shop on web-01",
        needs=("node",),
    ),
    Scenario(
        name="leak-on-two-hosts",
        kind="cause",
        says="The same leak on two hosts, further along on one.",
        play=two_hosts,
        services=SHOP,
        cause="leaked-sessions",
        owner="shop on web-01",
    ),
    Scenario(
        name="leak-host-rebooted",
        kind="cause",
        says="A host lost its power: the server keeps its sessions, beside its new pool's.",
        play=host_rebooted,
        services=SHOP,
        cause="leaked-sessions",
        owner="shop on web-01",
        needs=("networks",),
    ),
    Scenario(
        name="leak-nothing-left",
        kind="cause",
        says="A leak, and every slot taken, the superusers' too.",
        play=nothing_left,
        services=SHOP,
        cause="leaked-sessions",
        tolerated=("superuser-sessions",),
        owner="shop on web-01",
        fast=True,
    ),
    Scenario(
        name="leaked-clients",
        kind="cause",
        says="Connections to a session-pooling PgBouncer, never closed: each keeps a session.",
        play=clients_of_pgbouncer,
        services=service("shop", size=8, hosts="web-01, web-02"),
        cause="leaked-clients",
        tolerated=("leaked-sessions",),
        owner="shop on web-01",
        needs=("pgbouncer", "networks"),
    ),
    Scenario(
        name="idle-in-transaction-sqlalchemy",
        kind="cause",
        says="SQLAlchemy ORM sessions never closed: their transactions stay open.",
        play=sqlalchemy_session,
        # The pool is as large as what is lost: only their silence proves anything.
        services=service("shop", processes=4, size=8),
        cause="idle-in-transaction",
        tolerated=("pools-over-budget",),
        owner="shop on web-01",
    ),
    Scenario(
        name="idle-in-transaction-psycopg-pool",
        kind="cause",
        says="psycopg_pool: getconn(), a statement, and nothing more.",
        play=psycopg_pool_in_transaction,
        services=SHOP,
        cause="idle-in-transaction",
        owner="shop on web-03",
    ),
    Scenario(
        name="idle-in-transaction-asyncpg",
        kind="cause",
        says="asyncpg transactions of tasks that were cancelled.",
        play=asyncpg_in_transaction,
        services=service("shop", processes=2, size=6),
        cause="idle-in-transaction",
        owner="shop on web-02",
    ),
    Scenario(
        name="idle-in-transaction-for-seconds",
        kind="cause",
        says="Requests wait for a slow payment API inside their transactions, and will go on.",
        play=waiting_for_an_api,
        services=SHOP,
        cause="idle-in-transaction",
        owner="shop on web-01",
    ),
    Scenario(
        name="lock-silent-root",
        kind="cause",
        says="One silent transaction holds a row that everybody wants.",
        play=silent_root,
        services={**SHOP, **service("billing", hosts="jobs", size=6)},
        cause="lock-pile-up",
        owner="billing on jobs-01",
        fast=True,
    ),
    Scenario(
        name="lock-migration",
        kind="cause",
        says="ALTER TABLE waits for a report's transaction, and everybody waits behind it.",
        play=migration,
        services={**SHOP, **BILLING},
        cause="lock-pile-up",
        owner="billing on jobs-01",
    ),
    Scenario(
        name="lock-working-root",
        kind="cause",
        says="The holder of the row is at work on a long statement.",
        play=working_root,
        services={**SHOP, **BILLING},
        cause="lock-pile-up",
        owner="billing on jobs-01",
    ),
    Scenario(
        name="slow-queries",
        kind="cause",
        says="A report without its index, started again by each impatient click.",
        play=slow_queries,
        services=SHOP,
        cause="slow-queries",
        owner="shop on web-01",
    ),
    Scenario(
        name="surge",
        kind="cause",
        says="Short statements on every connection that there is.",
        play=surge,
        services=service("shop", size=14),
        cause="surge",
    ),
    Scenario(
        name="surge-just-begun",
        kind="cause",
        says="The same, on connections that the pools opened for it a moment ago.",
        play=surge_just_begun,
        services=service("shop", size=14),
        cause="surge",
    ),
    Scenario(
        name="churn",
        kind="cause",
        says="A new connection for each request (pgbench -C).",
        play=churn,
        services=service("shop", size=30, hosts="web-01"),
        cause="churn",
        owner="shop on web-01",
    ),
    Scenario(
        name="pools-over-budget",
        kind="cause",
        says="Every pool keeps to its size, and together they do not fit.",
        play=pools_over_budget,
        services=service("shop", size=20),
        cause="pools-over-budget",
        fast=True,
    ),
    Scenario(
        name="role-limit",
        kind="cause",
        says="The role's own CONNECTION LIMIT is used up by healthy pools.",
        play=role_limit,
        services=SHOP,
        cause="role-limit",
        owner="shop on web-01",
    ),
    Scenario(
        name="database-limit",
        kind="cause",
        says="The database's own CONNECTION LIMIT is used up by healthy pools.",
        play=database_limit,
        services=SHOP,
        cause="database-limit",
        owner="shop on web-01",
    ),
    Scenario(
        name="pooler-exhausted",
        kind="cause",
        says="PgBouncer's pool is at work to the last connection; PostgreSQL has room.",
        play=pooler_exhausted,
        services=service("shop", size=30, hosts="web-01"),
        cause="pooler-exhausted",
        needs=("pgbouncer",),
    ),
    Scenario(
        name="stalled-logins",
        kind="cause",
        says="Logins that go silent half-way hold slots that no view shows before 18.",
        play=stalled_logins,
        services=SHOP,
        cause="stalled-logins",
    ),
    Scenario(
        name="superuser-sessions",
        kind="cause",
        says="A job's superuser sessions take the ordinary slots.",
        play=superuser_sessions,
        services=service("shop", size=12),
        cause="superuser-sessions",
        owner="nightly-import from 127.0.0.1",
    ),
    Scenario(
        name="replication-limit",
        kind="cause",
        says="Every walsender slot is taken; there is room for ordinary sessions.",
        play=replication_limit,
        services=SHOP,
        cause="replication-limit",
    ),
    Scenario(
        name="unexplained",
        kind="cause",
        says="Idle sessions fill the slots, in pools whose size nobody has written down.",
        play=undeclared,
        services=SHOP_WITHOUT_POOL,
        cause="unexplained",
        owner="shop on web-01",
    ),
)
