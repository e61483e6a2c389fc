"""Several things at once: all that matter are to be named, and nothing healthy terminated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenarios.scenario import Scenario
from scenarios.services import BILLING, SHOP, SHOP_WITHOUT_POOL, service
from scenarios.stage import HOUR, MINUTE

if TYPE_CHECKING:
    from scenarios.stage import Stage

_WANT = "UPDATE stock SET left_over = left_over - 1 WHERE id = 7"
_LOCK = "SELECT * FROM stock WHERE id = 7 FOR UPDATE"


def leak_and_surge(stage: Stage) -> None:
    """A leak has taken half of the slots; at noon the load takes the rest."""
    stage.start("sqlalchemy_app", "shop-web-01", lost=38, kept=4).since(2 * HOUR, kept=5)
    stage.bench("billing-jobs-01", 14, "SELECT pg_sleep(1)")
    stage.until_at_work("billing-jobs-01", 14)
    stage.connected_named("billing-jobs-01", HOUR)


def surge_and_leak(stage: Stage) -> None:
    """A surge, and a small leak that nobody has noticed yet."""
    stage.start("asyncpg_app", "billing-jobs-01", lost=12, kept=4).since(2 * HOUR, kept=5)
    for host, count in (("web-01", 14), ("web-02", 14), ("web-03", 10)):
        stage.bench(f"shop-{host}", count, "SELECT pg_sleep(1)")
        stage.until_at_work(f"shop-{host}", count)
        stage.connected_named(f"shop-{host}", HOUR)


def leak_and_idle_in_transaction(stage: Stage) -> None:
    """One host loses connections after commit(), another before it."""
    stage.start("sqlalchemy_app", "shop-web-01", lost=36, kept=5).since(30 * MINUTE, kept=5)
    client = stage.start("sqlalchemy_app", "shop-web-02", how="session", lost=8, kept=2)
    client.since(20 * MINUTE, kept=10)


def lock_and_leak(stage: Stage) -> None:
    """A row is locked by a silent session while another service leaks."""
    stage.start("plain", "batch-01", count=1, sql=["BEGIN", _LOCK]).since(2 * MINUTE)
    for host in ("web-01", "web-02"):
        stage.start("psycopg_pool_app", f"shop-{host}", busy=10, work=_WANT).since(100)
    client = stage.start("psycopg_pool_app", "billing-jobs-01", autocommit=True, lost=14, kept=6)
    client.since(15 * MINUTE, kept=10)


def role_limit_and_leak(stage: Stage) -> None:
    """The role's limit is used up by a leak: ending what has leaked is the better remedy."""
    stage.admin("ALTER ROLE app CONNECTION LIMIT 34", "ALTER ROLE app CONNECTION LIMIT -1")
    stage.start("sqlalchemy_app", "shop-web-01", lost=22, kept=4).since(15 * MINUTE, kept=10)
    stage.start("psycopg_pool_app", "shop-web-02", kept=8).since(20)


def database_limit_and_idle_in_transaction(stage: Stage) -> None:
    """The database's limit is used up, a third of it by forgotten transactions."""
    stage.start("psycopg_pool_app", "shop-web-01", lost=10).since(15 * MINUTE)
    stage.start("psycopg_pool_app", "shop-web-02", kept=10).since(20)
    stage.start("psycopg_pool_app", "shop-web-03", kept=10).since(20)
    stage.admin(
        "ALTER DATABASE shop CONNECTION LIMIT 30", "ALTER DATABASE shop CONNECTION LIMIT -1"
    )


def superusers_and_leak(stage: Stage) -> None:
    """Superusers' scripts narrow what a leak then fills."""
    stage.start("plain", "nightly-import", user="postgres", count=13).since(HOUR)
    stage.start("sqlalchemy_app", "shop-web-01", lost=38, kept=4).since(15 * MINUTE, kept=10)
    stage.start("plain", "shop-web-02", count=6, takes_what_is_left=True).since(20)


def slow_and_over_budget(stage: Stage) -> None:
    """Pools that do not fit together, full of slow statements."""
    slow = "SELECT count(*), pg_sleep(600) FROM stock"
    for host, count in (("web-01", 14), ("web-02", 14), ("web-03", 12)):
        stage.start("psycopg_pool_app", f"shop-{host}", busy=count, work=slow).since(2 * MINUTE)
    stage.start("plain", "shop-web-04", count=18, takes_what_is_left=True).since(30)


def leak_behind_pgbouncer(stage: Stage) -> None:
    """Session pooling: clients that never disconnect hold PgBouncer's server connections."""
    port = stage.pgbouncer("bouncer-01", size=10, mode="session")
    client = stage.start("sqlalchemy_app", "shop-web-01", port=port, lost=10)
    stage.bench("shop-web-02", 8, "SELECT 1", port=port)
    stage.until_queued(port, 8)
    client.since(15 * MINUTE)


def transactions_behind_pgbouncer(stage: Stage) -> None:
    """Transaction pooling: forgotten transactions hold PgBouncer's server connections."""
    port = stage.pgbouncer("bouncer-01", size=10, mode="transaction")
    client = stage.start("sqlalchemy_app", "shop-web-01", port=port, how="session", lost=10)
    stage.bench("shop-web-02", 8, "SELECT 1", port=port)
    stage.until_queued(port, 8)
    client.since(15 * MINUTE)


def churn_and_leak(stage: Stage) -> None:
    """A job connects for each request beside a service that leaks."""
    stage.start("sqlalchemy_app", "shop-web-01", lost=34, kept=4).since(30 * MINUTE, kept=10)
    stage.bench("billing-jobs-01", 8, "SELECT pg_sleep(0.2)", "-C", "-j", "2")
    stage.until_named("billing-jobs-01", 4)


def one_of_two_services(stage: Stage) -> None:
    """Two services share hosts; one leaks, the other is idle in a pool of fixed size."""
    stage.start("asyncpg_app", "mail-web-01", lost=20, kept=4).since(40 * MINUTE, kept=10)
    for host in ("web-01", "web-02"):
        stage.start("sqlalchemy_app", f"shop-{host}", kept=10).since(8 * HOUR)
    stage.start("psycopg_pool_app", "mail-web-02", kept=4).since(30)


def undeclared_leak(stage: Stage) -> None:
    """What leaks is in no inventory: it is named, and nothing of it is terminated."""
    stage.start("sqlalchemy_app", "crawler", lost=42).since(50 * MINUTE)
    stage.start("psycopg_pool_app", "shop-web-01", kept=10).since(30)


def deploy_and_leak(stage: Stage) -> None:
    """A leak on one host, while a deploy has two generations of processes on another."""
    client = stage.start("sqlalchemy_app", "shop-web-01", lost=30, kept=5)
    client.since(2 * HOUR, kept=10)
    stage.start("psycopg_pool_app", "shop-web-02", kept=10).since(45, connected=20 * HOUR)
    stage.start("psycopg_pool_app", "shop-web-02", kept=10).since(25, connected=0)


def leak_before_a_lifo_tail(stage: Stage) -> None:
    """What leaked last night, beside a pool whose own tail has been idle since this morning."""
    client = stage.start("sqlalchemy_app", "shop-web-01", lost=30, kept=5)
    client.since(9 * HOUR, kept=4 * HOUR)
    stage.start("psycopg_pool_app", "shop-web-02", kept=8).since(20)


def leak_beside_an_idle_process(stage: Stage) -> None:
    """One worker process leaks; the other, on the same host, has had no request for hours."""
    stage.start("sqlalchemy_app", "shop-web-01", kept=5).since(4 * HOUR)
    client = stage.start("sqlalchemy_app", "shop-web-01", lost=28, kept=4)
    client.since(15 * MINUTE, kept=10)
    stage.start("psycopg_pool_app", "shop-web-02", kept=8).since(20)


def leak_beside_an_idle_process_seen(stage: Stage) -> None:
    """The same, on app hosts that tell which process holds which connection."""
    stage.start("sqlalchemy_app", "shop-web-01", on="web-01", kept=5).since(4 * HOUR)
    client = stage.start("sqlalchemy_app", "shop-web-01", on="web-01", lost=28, kept=4)
    client.since(15 * MINUTE, kept=10)
    stage.start("psycopg_pool_app", "shop-web-02", on="web-02", kept=8).since(20)


def undeclared_transactions(stage: Stage) -> None:
    """Nobody has declared any pool; only silence in a transaction proves something."""
    stage.start("sqlalchemy_app", "shop-web-01", lost=36, kept=5).since(30 * MINUTE, kept=5)
    client = stage.start("sqlalchemy_app", "shop-web-02", how="session", lost=8, kept=4)
    client.since(20 * MINUTE, kept=10)


def stalled_and_leak(stage: Stage) -> None:
    """Half of the slots are leaked, the rest is held by logins that go nowhere."""
    stage.start("sqlalchemy_app", "shop-web-01", lost=26, kept=4).since(30 * MINUTE, kept=10)
    stage.start("stalled", "", user="stalled", count=30)
    stage.rest(1.5)


def lock_and_over_budget(stage: Stage) -> None:
    """A pile-up behind a lock, in pools that would not fit without it either."""
    stage.start("plain", "billing-jobs-01", count=1, sql=["BEGIN", _LOCK]).since(3 * MINUTE)
    for host in ("web-01", "web-02", "web-03"):
        stage.start("psycopg_pool_app", f"shop-{host}", busy=13, work=_WANT).since(2 * MINUTE)
    stage.start("plain", "shop-web-04", count=18, takes_what_is_left=True).since(30)


def slow_and_leak(stage: Stage) -> None:
    """Slow statements fill two hosts; a third has leaked for hours."""
    slow = "SELECT count(*), pg_sleep(600) FROM stock"
    for host, count in (("web-01", 10), ("web-02", 10), ("web-04", 10)):
        stage.start("psycopg_pool_app", f"shop-{host}", busy=count, work=slow).since(2 * MINUTE)
    stage.start("django_app", "shop-web-03", lost=18, kept=4).since(2 * HOUR, kept=10)


MIXTURES = (
    Scenario(
        name="leak-then-surge",
        kind="mixture",
        says="A leak holds most of the slots; load takes the rest.",
        play=leak_and_surge,
        services={**SHOP, **service("billing", hosts="jobs", size=14)},
        cause="leaked-sessions",
        owner="shop on web-01",
        tolerated=("surge",),
    ),
    Scenario(
        name="surge-then-leak",
        kind="mixture",
        says="A surge, and a small leak beside it.",
        play=surge_and_leak,
        services={**service("shop", size=14, hosts="web-01, web-02, web-03"), **BILLING},
        cause="surge",
        also=("leaked-sessions",),
    ),
    Scenario(
        name="leak-and-idle-in-transaction",
        kind="mixture",
        says="One host loses connections after commit(), another before it.",
        play=leak_and_idle_in_transaction,
        services=SHOP,
        cause="leaked-sessions",
        also=("idle-in-transaction",),
        owner="shop on web-01",
        fast=True,
    ),
    Scenario(
        name="lock-and-leak",
        kind="mixture",
        says="A lock pile-up while another service leaks.",
        play=lock_and_leak,
        services={**SHOP, **BILLING},
        cause="lock-pile-up",
        also=("leaked-sessions",),
        owner="batch-01 from 127.0.0.1",
    ),
    Scenario(
        name="role-limit-by-a-leak",
        kind="mixture",
        says="A role's own limit, used up by a leak.",
        play=role_limit_and_leak,
        services=SHOP,
        cause="role-limit",
        also=("leaked-sessions",),
        owner="shop on web-01",
    ),
    Scenario(
        name="database-limit-and-idle-in-transaction",
        kind="mixture",
        says="A database's own limit, a third of it used up by forgotten transactions.",
        play=database_limit_and_idle_in_transaction,
        services=SHOP,
        cause="database-limit",
        also=("idle-in-transaction",),
    ),
    Scenario(
        name="superusers-and-leak",
        kind="mixture",
        says="A leak fills what superusers' sessions have left.",
        play=superusers_and_leak,
        services=service("shop", size=10, hosts="web-01, web-02"),
        cause="leaked-sessions",
        also=("superuser-sessions",),
        owner="shop on web-01",
    ),
    Scenario(
        name="slow-and-over-budget",
        kind="mixture",
        says="Pools that do not fit together, full of slow statements.",
        play=slow_and_over_budget,
        services=service("shop", size=20),
        cause="slow-queries",
        also=("pools-over-budget",),
    ),
    Scenario(
        name="leak-behind-pgbouncer",
        kind="mixture",
        says="Lost clients hold the server connections of a session-pooling PgBouncer.",
        play=leak_behind_pgbouncer,
        services=service("shop", size=10, hosts="web-01, web-02"),
        cause="pooler-exhausted",
        tolerated=("leaked-sessions",),
        needs=("pgbouncer",),
    ),
    Scenario(
        name="idle-in-transaction-behind-pgbouncer",
        kind="mixture",
        says="Forgotten transactions hold the server connections of a PgBouncer.",
        play=transactions_behind_pgbouncer,
        services=service("shop", size=10, hosts="web-01, web-02"),
        cause="idle-in-transaction",
        also=("pooler-exhausted",),
        needs=("pgbouncer",),
    ),
    Scenario(
        name="leak-and-churn",
        kind="mixture",
        says="A job connects for each request beside a service that leaks.",
        play=churn_and_leak,
        services={**SHOP, **service("billing", hosts="jobs", size=16)},
        cause="leaked-sessions",
        tolerated=("churn",),
        owner="shop on web-01",
    ),
    Scenario(
        name="one-of-two-services-leaks",
        kind="mixture",
        says="One of two services on the same hosts leaks; the other is idle for hours.",
        play=one_of_two_services,
        services={**SHOP, **service("mail", size=4)},
        cause="leaked-sessions",
        owner="mail on web-01",
        fast=True,
    ),
    Scenario(
        name="leak-in-an-undeclared-service",
        kind="mixture",
        says="What leaks is in no inventory: named, and never terminated.",
        play=undeclared_leak,
        services=SHOP,
        cause="unexplained",
        owner="crawler from 127.0.0.1",
    ),
    Scenario(
        name="leak-and-deploy",
        kind="mixture",
        says="A leak on one host, two generations of processes on another.",
        play=deploy_and_leak,
        services=SHOP,
        cause="leaked-sessions",
        owner="shop on web-01",
    ),
    Scenario(
        name="leak-before-a-lifo-tail",
        kind="mixture",
        says="A leak of last night, and a pool whose own tail has been idle since this morning.",
        play=leak_before_a_lifo_tail,
        services=SHOP,
        cause="leaked-sessions",
        owner="shop on web-01",
    ),
    Scenario(
        name="leak-beside-an-idle-process",
        kind="mixture",
        says="One worker process leaks; its neighbour's pool has been idle for longer than that.",
        play=leak_beside_an_idle_process,
        services=SHOP,
        cause="leaked-sessions",
        owner="shop on web-01",
    ),
    Scenario(
        name="leak-beside-an-idle-process-seen",
        kind="mixture",
        says="The same, with app hosts that tell which process holds which connection.",
        play=leak_beside_an_idle_process_seen,
        services=SHOP,
        cause="leaked-sessions",
        owner="shop on web-01",
        needs=("networks",),
    ),
    Scenario(
        name="stalled-logins-and-leak",
        kind="mixture",
        says="Half of the slots are leaked, the rest held by logins that go nowhere.",
        play=stalled_and_leak,
        services=SHOP,
        cause="stalled-logins",
        also=("leaked-sessions",),
    ),
    Scenario(
        name="lock-and-over-budget",
        kind="mixture",
        says="A lock pile-up, in pools that would not fit without it either.",
        play=lock_and_over_budget,
        services={**service("shop", size=20), **BILLING},
        cause="lock-pile-up",
        also=("pools-over-budget",),
        owner="billing on jobs-01",
    ),
    Scenario(
        name="slow-and-leak",
        kind="mixture",
        says="Slow statements on three hosts, a leak of hours on the fourth.",
        play=slow_and_leak,
        services=SHOP,
        cause="slow-queries",
        also=("leaked-sessions",),
    ),
    Scenario(
        name="undeclared-pools-and-idle-in-transaction",
        kind="mixture",
        says="Forgotten transactions, in pools whose size nobody has written down.",
        play=undeclared_transactions,
        services=SHOP_WITHOUT_POOL,
        cause="unexplained",
        also=("idle-in-transaction",),
        owner="shop on web-01",
    ),
)
