"""Consoles of several versions are read by name, and what binds a pool is named."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.findings.bouncers import Pool, bouncers_of
from unit.findings.consoles import client, linked, look, server
from unit.findings.world import many, session, snapshot

WAITS = {"maxwait": 3, "maxwait_us": 500_000}


def pool_of(count: int = 5, waiting: int = 2, **given: Any) -> Pool:
    """Return the one pool of a console with so many linked servers and waiting clients."""
    sessions = many(count)
    servers, clients = linked(sessions)
    clients += [client(f"0xw{n}", state="waiting") for n in range(waiting)]
    (bouncer,) = bouncers_of(snapshot(sessions, poolers=(look(servers, clients, **given),)))
    (pool,) = bouncer.pools
    return pool


def bound(pool: Pool) -> tuple[str | None, int, str]:
    return pool.binding, pool.bound, pool.setting


def test_a_pool_that_is_full_while_clients_wait() -> None:
    pool = pool_of(pool=WAITS)
    assert bound(pool) == ("pool_size", 5, "default_pool_size")
    assert (pool.maxwait_s, pool.sv_active, pool.cl_waiting, pool.stuck) == (3.5, 5, 2, True)


@pytest.mark.parametrize(
    ("waiting", "wait"), [(0, WAITS), (2, {"maxwait": 0, "maxwait_us": 900_000})]
)
def test_a_queue_of_milliseconds_is_what_pools_are_for(waiting: int, wait: dict[str, int]) -> None:
    pool = pool_of(waiting=waiting, pool=wait)
    assert (pool.binding, pool.stuck) == (None, False)


def test_the_size_of_a_database_and_of_a_user_have_names_of_their_own() -> None:
    assert bound(pool_of(3, pool=WAITS, database={"pool_size": 3})) == (
        "pool_size",
        3,
        "pool_size of database shop",
    )
    users = [{"name": "app", "pool_size": 4}]
    assert bound(pool_of(4, pool=WAITS, users=users))[1:] == (4, "pool_size of user app")


@pytest.mark.parametrize("column", ["reserve_pool", "reserve_pool_size"])
def test_the_reserve_under_either_of_its_names(column: str) -> None:
    pool = pool_of(7, pool=WAITS, database={column: 2})
    assert (pool.bound, pool.budget) == (7, 7)
    assert pool_of(7, pool=WAITS, database={column: 2, "reserve_pool": 2}).reserve == 2


def test_the_bounds_of_a_database_and_of_a_user() -> None:
    full = {"max_connections": 2}
    assert bound(pool_of(2, pool=WAITS, database=full)) == (
        "max_db_connections",
        2,
        "max_db_connections",
    )
    assert pool_of(2, pool=WAITS, database=full).budget == 2
    for given in (
        {"config": {"max_user_connections": "2"}},
        {"users": [{"name": "app", "max_user_connections": 2}]},
    ):
        assert bound(pool_of(2, pool=WAITS, **given))[:2] == ("max_user_connections", 2)


def test_what_somebody_has_switched_off_comes_first() -> None:
    assert pool_of(0, pool=WAITS, database={"paused": 1}).binding == "paused"
    assert pool_of(0, 0, database={"paused": 1}).stuck is False
    assert pool_of(0, 0, database={"disabled": 1}).stuck is True
    state = [{"key": "paused", "value": "yes"}]
    assert pool_of(0, pool=WAITS, state=state).binding == "paused"


def test_no_server_connection_although_no_limit_binds() -> None:
    """SHOW POOLS says 0 of clients whose login waits: how long they wait is in SHOW CLIENTS."""
    early = client("0xw1", state="waiting", request_time="2026-01-01 02:16:51 UTC")
    (bouncer,) = bouncers_of(snapshot([], poolers=(look([], [early]),)))
    (pool,) = bouncer.pools
    assert (pool.binding, pool.maxwait_s) == ("no_server", 9.0)


def test_our_own_console_is_not_what_fills_max_client_conn() -> None:
    assert pool_of(5, 0, config={"max_client_conn": "6"}).binding is None
    assert bound(pool_of(5, 0, config={"max_client_conn": "5"}))[:2] == ("max_client_conn", 5)


def test_a_pool_of_another_server_is_left_out() -> None:
    """One PgBouncer may stand before several servers: process ids and ports tell."""
    here, there = session(), session(client_port=41000)
    rows = [server("0x1", here), server("0x2", there, database="stock")]
    pools = [
        {"database": name, "user": "app", "cl_waiting": 3, "sv_idle": 1, **WAITS}
        for name in ("shop", "stock")
    ]
    (bouncer,) = bouncers_of(snapshot([here], poolers=(look(rows, [], pools=pools),)))
    assert [pool.database for pool in bouncer.pools] == ["shop"]
    # Nothing is found at all behind a translated address: then all of them may be this server's.
    (bouncer,) = bouncers_of(snapshot([], poolers=(look(rows, [], pools=pools),)))
    assert [pool.database for pool in bouncer.pools] == ["shop", "stock"]


def test_columns_that_are_missing_or_new_do_no_harm() -> None:
    bare = look(
        [],
        [],
        pools=[{"database": "shop", "user": "app", "brand_new": "x", "cl_waiting": None}],
        databases=[],
        users=[],
        lists=[],
        config={},
    )
    (bouncer,) = bouncers_of(snapshot([], poolers=(bare,)))
    assert bouncer.pools[0].binding is None
    assert bouncer.full is False


def test_a_client_that_has_not_said_who_it_is_does_no_harm() -> None:
    early = client("0x1", database=None, user=None, state="waiting", application_name=None)
    (bouncer,) = bouncers_of(snapshot([], poolers=(look([], [early]),)))
    assert bouncer.clients[-1].database == ""


def test_a_name_loses_the_address_that_pgbouncer_has_added() -> None:
    named = client("0x1", application_name="shop-web-01 - 10.0.1.1:50000")
    other = client("0x2", application_name="shop - 10.0.1.1:1")
    (bouncer,) = bouncers_of(snapshot([], poolers=(look([], [named, other]),)))
    assert [c.application_name for c in bouncer.clients] == ["shop-web-01", "shop - 10.0.1.1:1"]
