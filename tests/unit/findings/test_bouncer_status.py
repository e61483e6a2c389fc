"""What a status says of consoles of several versions, and of what PostgreSQL sees of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runbook.findings.bouncer_status import judge
from runbook.model.effects import ConsoleAnswers
from runbook.model.errors import DatabaseLogin, DoorError, Unreachable, UsageError
from unit.findings.consoles import BOUNCER, client, linked, look
from unit.findings.world import fleet, many, session, snapshot

if TYPE_CHECKING:
    from runbook.model.bouncer_status import BouncersReport
    from runbook.model.sessions import Session

WAITS = {"maxwait": 12, "maxwait_us": 0}
DOWN = Unreachable("PgBouncer bouncer-02: nobody answers", hint="start it")


def console(name: str = "bouncer-01", version: str = "1.18.0", **given: Any) -> ConsoleAnswers:
    servers, clients = given.pop("servers", []), given.pop("clients", [])
    rows = look(servers, clients, name=name, **given).rows
    return ConsoleAnswers(pgbouncer=name, version=version, rows=rows)


def report(
    *told: ConsoleAnswers | DoorError, sessions: list[Session] | DoorError | None = None
) -> BouncersReport:
    names = [f"bouncer-0{number + 1}" for number in range(len(told))]
    known = fleet(pgbouncers=dict.fromkeys(names, BOUNCER))
    seen = sessions if isinstance(sessions, DoorError) else snapshot(sessions or [])
    return judge(None, known, dict(zip(names, told, strict=True)), {"db": seen})


def test_a_queue_its_bound_and_what_the_server_connections_are_at() -> None:
    held = [*many(3, state="active"), *many(2, state="idle in transaction")]
    servers, clients = linked(held)
    clients += [client(f"0xw{n}", state="waiting") for n in range(3)]
    told = report(console(servers=servers, clients=clients, pool=WAITS), sessions=held)
    assert told.verdict == (
        "bouncer-01: 3 clients wait up to 12s in shop/app for pool_size 5 (default_pool_size):"
        " its 5 server connections: 3 active, 2 idle in transaction"
    )
    assert (told.well, told.troubles[0].command) == (False, "runbook diagnose db")
    assert told.troubles[0].hint.startswith("waiting: shop on web-01 (3). ")


def test_a_server_connection_that_postgresql_does_not_have_and_one_that_is_not_its_own() -> None:
    here, gone, other = many(3)
    servers, clients = linked([here, gone])
    stray = session(client_addr=here.client_addr, client_port=50999)
    told = report(console(servers=servers, clients=clients), sessions=[here, stray])
    (pool,) = told.pgbouncers[0].pools
    assert pool.in_postgresql is not None
    assert (pool.in_postgresql.pids, pool.in_postgresql.missing) == ((here.pid,), 1)
    assert told.pgbouncers[0].strangers == 1
    assert any("none of its server connections" in line for line in told.unseen)
    # What is missing may have been closed between two looks: it is told, and is no trouble.
    assert told.well
    assert other.pid not in pool.in_postgresql.pids


def test_idle_clients_are_counted_by_their_links_and_since_1_25_by_their_state() -> None:
    busy = many(1)
    servers, clients = linked(busy)
    for version, state in (("1.18.0", "active"), ("1.25.0", "idle")):
        idle = [client(f"0xi{n}", state=state) for n in range(4)]
        told = report(console(version=version, servers=servers, clients=[*clients, *idle]))
        assert told.pgbouncers[0].pools[0].cl_idle == 4


@pytest.mark.parametrize(
    ("error", "kind"),
    [(DOWN, "unreachable"), (DatabaseLogin("wrong password", hint="look"), "unseen")],
)
def test_a_console_that_does_not_answer_hides_no_other(error: DoorError, kind: str) -> None:
    told = report(console(), error)
    assert [trouble.kind for trouble in told.troubles] == [kind]
    assert [bouncer.answers for bouncer in told.pgbouncers] == [True, False]
    assert told.verdict.startswith("bouncer-02: ")
    assert told.troubles[0].hint


def test_the_worst_comes_first() -> None:
    queue = [client("0xw", state="waiting")]
    paused = console(database={"paused": 1})
    stuck = console("bouncer-02", clients=queue, pool=WAITS, database={"disabled": 1})
    told = report(paused, stuck, DOWN)
    kinds = [(trouble.kind, trouble.pgbouncer) for trouble in told.troubles]
    assert kinds == [
        ("unreachable", "bouncer-03"),
        ("stuck", "bouncer-02"),
        ("paused", "bouncer-01"),
    ]
    assert "(and 2 more: below)" in told.verdict
    assert (told.troubles[2].command or "").endswith("-d pgbouncer -c 'RESUME shop'")


def test_the_smallest_bound_is_the_most_that_a_pool_may_have() -> None:
    (bouncer,) = report(console(database={"max_connections": 4, "reserve_pool": 2})).pgbouncers
    assert (bouncer.pools[0].most, bouncer.pools[0].most_setting) == (4, "max_db_connections")
    (bouncer,) = report(console(database={"reserve_pool": 2})).pgbouncers
    assert bouncer.pools[0].most_setting == "default_pool_size + reserve"


def test_prepared_statements_by_version_and_setting() -> None:
    def said(version: str, **config: str) -> bool:
        told = report(console(version=version, config=config))
        return any("prepare" in line for line in told.pgbouncers[0].remarks)

    assert said("1.18.0")
    assert said("1.21.0", max_prepared_statements="0")
    assert not said("1.24.1", max_prepared_statements="200")


def test_what_is_different_between_two_of_one_database() -> None:
    told = report(console(), console("bouncer-02", "1.24.1", config={"max_client_conn": "900"}))
    assert told.differences == (
        "db: version is 1.18.0 (bouncer-01), 1.24.1 (bouncer-02)",
        "db: max_client_conn is 100 (bouncer-01), 900 (bouncer-02)",
    )


def test_a_server_that_tells_nothing_is_told_and_the_consoles_speak_for_themselves() -> None:
    told = report(console(), sessions=Unreachable("db is away", hint="look there"))
    assert told.unseen == ("db: what PostgreSQL sees of it was not told: db is away; look there",)
    assert told.pgbouncers[0].pools[0].in_postgresql is None
    hidden = report(console(), sessions=[session(hidden=True)])
    assert "GRANT pg_monitor" in hidden.unseen[0]


def test_names_that_the_inventory_does_not_have() -> None:
    known = fleet(pgbouncers={"bouncer-01": BOUNCER})
    assert list(known.pgbouncers_of("db")) == ["bouncer-01"]
    with pytest.raises(UsageError, match="no PgBouncer or database named 'bouncer-1'") as caught:
        known.pgbouncers_of("bouncer-1")
    assert caught.value.hint == "did you mean 'bouncer-01'?"
    with pytest.raises(UsageError, match="no PgBouncer in front of 'db'"):
        fleet().pgbouncers_of("db")
