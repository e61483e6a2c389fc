"""Nothing is wrong, and it looks as if: what must never be terminated, and seldom be accused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenarios.scenario import Scenario
from scenarios.services import BILLING, SHOP, SHOP_WITHOUT_POOL, service
from scenarios.stage import HOUR, MINUTE

if TYPE_CHECKING:
    from scenarios.stage import Stage


def quiet(stage: Stage) -> None:
    """An ordinary afternoon."""
    stage.start("psycopg_pool_app", "shop-web-01", kept=8).since(20)
    stage.start("sqlalchemy_app", "shop-web-02", kept=5).since(5)
    stage.start("asyncpg_app", "shop-web-03", kept=5).since(12)


def fixed_pools(stage: Stage) -> None:
    """Four pools of fixed size, unused since last night: HikariCP's default, and many others'."""
    for host in ("web-01", "web-02"):
        stage.start("psycopg_pool_app", f"shop-{host}", kept=10).since(9 * HOUR)
    stage.start("sqlalchemy_app", "shop-web-03", kept=10).since(9 * HOUR)
    stage.start("asyncpg_app", "shop-web-04", kept=10).since(9 * HOUR)


def never_used(stage: Stage) -> None:
    """Pools that were filled at the start, and whose connections nobody has used yet."""
    for host in ("web-01", "web-02", "web-03"):
        client = stage.start("psycopg_pool_app", f"shop-{host}", kept=10, never_used=True)
        client.since(3 * HOUR)


def lifo_tail(stage: Stage) -> None:
    """A pool hands out what came back last: at its other end, connections wait for hours."""
    for host in ("web-01", "web-02", "web-03"):
        client = stage.start("sqlalchemy_app", f"shop-{host}", kept=10)
        stage.age(client.kept[:3], 1)
        stage.age(client.kept[3:], 4 * HOUR)


def listeners(stage: Stage) -> None:
    """Each process has a session beside its pool that LISTENs, under the same name."""
    for host in ("web-01", "web-02"):
        stage.start("psycopg_pool_app", f"shop-{host}", kept=10).since(60)
        stage.start("plain", f"shop-{host}", count=2, sql=["LISTEN orders"]).since(20 * HOUR)


def listener_that_polls(stage: Stage) -> None:
    """The same, by a driver that asks SELECT 1 now and then: its last statement tells nothing."""
    for host in ("web-01", "web-02"):
        stage.start("psycopg_pool_app", f"shop-{host}", kept=10).since(60)
        stage.start("plain", f"shop-{host}", count=2, sql=["LISTEN orders", "SELECT 1"]).since(60)


def consoles_and_cron(stage: Stage) -> None:
    """People with psql, and jobs that sleep between two statements, all day."""
    stage.start("psycopg_pool_app", "shop-web-01", kept=8).since(20)
    for _ in range(3):
        stage.tool("psql", "-q", name="psql", user="person")
    stage.until_named("psql", 3)
    stage.age_named("psql", 6 * HOUR)
    stage.start("plain", "cron-reports", count=4, sql=["SELECT count(*) FROM stock"]).since(HOUR)


def cron_under_the_services_name(stage: Stage) -> None:
    """Two cron jobs use the service's settings, name included, while its pool is at its size."""
    stage.start("psycopg_pool_app", "shop-web-01", kept=10).since(60)
    stage.start("plain", "shop-web-01", count=2, sql=["SELECT count(*) FROM stock"]).since(20)
    stage.start("psycopg_pool_app", "shop-web-02", kept=10).since(60)


def exporter(stage: Stage) -> None:
    """A monitor with a limit of one connection for its role holds that one, always."""
    stage.admin("ALTER ROLE exporter CONNECTION LIMIT 1", "ALTER ROLE exporter CONNECTION LIMIT -1")
    read = ["SELECT count(*) FROM pg_stat_activity"]
    stage.start("plain", "postgres_exporter", user="exporter", count=1, sql=read).since(10)
    stage.start("psycopg_pool_app", "shop-web-01", kept=8).since(20)


def full_speed(stage: Stage) -> None:
    """pgbench as fast as it can, on the 20 connections that it may have."""
    for host in ("web-01", "web-02"):
        stage.bench(f"shop-{host}", 10, "SELECT name FROM stock WHERE id = 1", "-R", "500")
        stage.until_named(f"shop-{host}", 10)


def migration_with_a_lock(stage: Stage) -> None:
    """A migration tool holds its advisory lock under the name of a service with a full pool."""
    lock = ["SELECT pg_advisory_lock(72707369)"]
    stage.start("psycopg_pool_app", "shop-web-01", kept=10).since(60)
    stage.start("plain", "shop-web-01", count=1, sql=lock).since(10 * MINUTE)
    stage.start("psycopg_pool_app", "shop-web-02", kept=10).since(60)


def backup(stage: Stage) -> None:
    """pg_dump is at work, and whoever reads from it is slow."""
    stage.tool("pg_dump", "--table=past_orders", name=None, user="postgres")
    stage.until_named("pg_dump", 1)
    stage.age_named("pg_dump", HOUR)
    stage.start("psycopg_pool_app", "shop-web-01", kept=10).since(60)


def warm_standby(stage: Stage) -> None:
    """Two hosts stand by: their pools are open, and have been idle since they were started."""
    for host in ("web-01", "web-02"):
        stage.start("psycopg_pool_app", f"shop-{host}", kept=9).since(15)
    for host in ("web-03", "web-04"):
        stage.start("sqlalchemy_app", f"shop-{host}", kept=10).since(40 * HOUR)


def deploy(stage: Stage) -> None:
    """Old processes finish their work while the new ones are up: twice the pool, for a minute."""
    for host in ("web-01", "web-02"):
        stage.start("psycopg_pool_app", f"shop-{host}", kept=10).since(45, connected=20 * HOUR)
        stage.start("psycopg_pool_app", f"shop-{host}", kept=10).since(25, connected=0)


def deploy_seen(stage: Stage) -> None:
    """The same, on app hosts that tell which process holds which connection."""
    for host in ("web-01", "web-02"):
        for _ in range(2):
            stage.start("psycopg_pool_app", f"shop-{host}", on=host, kept=5).since(
                45, connected=20 * HOUR
            )
            stage.start("psycopg_pool_app", f"shop-{host}", on=host, kept=5).since(25, connected=0)


def behind_pgbouncer(stage: Stage) -> None:
    """PgBouncer keeps its server connections, idle; its clients come and go."""
    port = stage.pgbouncer("bouncer-01", size=12, mode="transaction")
    stage.bench("shop-web-01", 12, "SELECT pg_sleep(0.2)", port=port)
    stage.until("count(*) FILTER (WHERE client_addr = '::1') = 12", "server connections")


def console_in_a_transaction(stage: Stage) -> None:
    """Somebody has typed BEGIN at a console, and gone home; nobody waits for it."""
    stage.start("psycopg_pool_app", "shop-web-01", kept=8).since(20)
    sql = ["BEGIN", "SELECT * FROM stock WHERE id = 1"]
    stage.start("plain", "psql", user="person", count=1, sql=sql).since(3 * HOUR)


def undeclared_and_idle(stage: Stage) -> None:
    """Idle for hours, with room left, and nobody has written down the size of the pools."""
    stage.start("psycopg_pool_app", "shop-web-01", kept=15).since(5 * HOUR)
    stage.start("django_app", "shop-web-02", kept=12).since(5 * HOUR)


def overflow(stage: Stage) -> None:
    """A pool has opened its overflow for a moment of load: within what is declared."""
    stage.start("psycopg_pool_app", "shop-web-01", kept=15).since(30)
    stage.start("psycopg_pool_app", "shop-web-02", kept=10).since(30)


LOOKALIKES = (
    Scenario(
        name="quiet",
        kind="lookalike",
        says="An ordinary afternoon.",
        play=quiet,
        services=SHOP,
        cause="healthy",
        fast=True,
    ),
    Scenario(
        name="fixed-pools-idle",
        kind="lookalike",
        says="Four pools of fixed size, unused for nine hours.",
        play=fixed_pools,
        services=SHOP,
        cause="healthy",
    ),
    Scenario(
        name="pools-never-used",
        kind="lookalike",
        says="Pools filled at the start whose connections nobody has used.",
        play=never_used,
        services=SHOP,
        cause="healthy",
    ),
    Scenario(
        name="lifo-tail",
        kind="lookalike",
        says="Pools that hand out last what has waited longest: most wait for hours.",
        play=lifo_tail,
        services=SHOP,
        cause="healthy",
    ),
    Scenario(
        name="listeners",
        kind="lookalike",
        says="Sessions that LISTEN, beside full pools and under the same name.",
        play=listeners,
        services=SHOP,
        cause="healthy",
    ),
    Scenario(
        name="listeners-that-poll",
        kind="lookalike",
        says="The same, by a driver whose last statement is SELECT 1.",
        play=listener_that_polls,
        services=SHOP,
        cause="healthy",
    ),
    Scenario(
        name="consoles-and-cron",
        kind="lookalike",
        says="Consoles and jobs that are idle for hours.",
        play=consoles_and_cron,
        services=SHOP,
        cause="healthy",
    ),
    Scenario(
        name="cron-under-the-service-name",
        kind="lookalike",
        says="Two cron jobs with the service's settings, beside its full pool.",
        play=cron_under_the_services_name,
        services=SHOP,
        cause="healthy",
    ),
    Scenario(
        name="exporter-with-a-limit",
        kind="lookalike",
        says="A monitor whose role may have one connection, and has it.",
        play=exporter,
        services=SHOP,
        cause="healthy",
        tolerated=("role-limit",),
    ),
    Scenario(
        name="pgbench-full-speed",
        kind="lookalike",
        says="pgbench at work on a third of the slots.",
        play=full_speed,
        services=SHOP,
        cause="healthy",
        fast=True,
    ),
    Scenario(
        name="migration-with-a-lock",
        kind="lookalike",
        says="A migration holds its advisory lock, under the service's name.",
        play=migration_with_a_lock,
        services=SHOP,
        cause="healthy",
    ),
    Scenario(
        name="pg-dump",
        kind="lookalike",
        says="pg_dump at work for an hour.",
        play=backup,
        services=SHOP,
        cause="healthy",
    ),
    Scenario(
        name="warm-standby",
        kind="lookalike",
        says="Two hosts on standby, their pools open and idle for two days.",
        play=warm_standby,
        services=SHOP,
        cause="healthy",
    ),
    Scenario(
        name="deploy-overlap",
        kind="lookalike",
        says="Two generations of processes during a deploy: twice the pool, for a minute.",
        play=deploy,
        services=SHOP,
        cause="healthy",
        tolerated=("leaked-sessions",),
    ),
    Scenario(
        name="deploy-overlap-seen",
        kind="lookalike",
        says="The same, with app hosts that tell which process holds which connection.",
        play=deploy_seen,
        services=SHOP,
        cause="healthy",
        needs=("networks",),
    ),
    Scenario(
        name="pgbouncer-idle",
        kind="lookalike",
        says="PgBouncer with its own pool, large enough.",
        play=behind_pgbouncer,
        services=service("shop", size=5, hosts="web-01"),
        cause="healthy",
        needs=("pgbouncer",),
    ),
    Scenario(
        name="console-in-a-transaction",
        kind="lookalike",
        says="A console silent in a transaction for hours, in nobody's way.",
        play=console_in_a_transaction,
        services=SHOP,
        cause="healthy",
    ),
    Scenario(
        name="undeclared-and-idle",
        kind="lookalike",
        says="Idle for hours, in pools that nobody has declared, with room left.",
        play=undeclared_and_idle,
        services=SHOP_WITHOUT_POOL,
        cause="healthy",
    ),
    Scenario(
        name="overflow-in-use",
        kind="lookalike",
        says="A pool has opened its declared overflow.",
        play=overflow,
        services={**service("shop", size=10, overflow=5, hosts="web-01, web-02"), **BILLING},
        cause="healthy",
    ),
)
