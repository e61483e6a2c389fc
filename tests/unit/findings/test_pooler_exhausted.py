"""When PostgreSQL has room and clients wait at a PgBouncer, that is the cause, and who holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runbook.model.effects import AskPgBouncer, ConsoleAnswers
from runbook.model.errors import Unreachable
from unit.findings import consoles
from unit.findings.world import JUDGE, SHOP, fleet, many, session, snapshot

if TYPE_CHECKING:
    from runbook.model.diagnosis import Diagnosis
    from runbook.model.fleet import Fleet
    from runbook.model.sessions import PoolerLook, Session

WAITS = {"maxwait": 3, "maxwait_us": 0}


def known(**more: Any) -> Fleet:
    return fleet(pgbouncers={"bouncer-01": consoles.BOUNCER}, **more)


def pooled(count: int = 5, **given: Any) -> list[Session]:
    """Return sessions of a PgBouncer: its own server connections."""
    return [
        session(**{"client_addr": "10.0.0.5", "client_port": 42000 + n, **given})
        for n in range(count)
    ]


def queue(count: int, **given: Any) -> list[dict[str, Any]]:
    """Return clients that wait: shop on web-02."""
    words = {"addr": "10.0.1.2", "application_name": "shop-web-02", **given}
    return [consoles.client(f"0xw{n}", state="waiting", **words) for n in range(count)]


def console(sessions: list[Session], waiting: int = 4, **given: Any) -> PoolerLook:
    servers, clients = consoles.linked(sessions)
    return consoles.look(
        servers, [*clients, *queue(waiting)], **{"pool": WAITS if waiting else {}, **given}
    )


def diagnose(sessions: list[Session], *looks: PoolerLook, **more: Any) -> Diagnosis:
    return JUDGE.diagnose(snapshot(sessions, poolers=looks, **more), known())


def test_a_full_pool_with_its_queue_is_the_cause() -> None:
    held = pooled(state="active", query_age_s=90.0)
    diagnosis = diagnose(held, console(held))
    finding = diagnosis.finding
    assert finding.cause == "pooler-exhausted"
    assert finding.title == (
        "4 clients wait for a server connection, the first for 3.0s: its 5 connections"
        " (default_pool_size) are taken (PgBouncer bouncer-01, pool shop/app)"
    )
    assert finding.confidence == "certain"
    assert "92 of 97 slots free" in finding.because
    assert finding.share == round(9 / 97, 3)
    assert [owner.label for owner in finding.owners] == ["shop on web-01 through bouncer-01"]
    assert "waiting: shop on web-02 (4)" in finding.evidence
    assert "the pool's sessions: 5 active (longest 1m 30s)" in finding.evidence
    assert "default_pool_size = 7" in finding.advice
    assert finding.command == "runbook diagnose db"


def test_silent_transactions_in_the_pool_are_ended_where_that_is_proved() -> None:
    held = pooled(4, state="idle in transaction", state_age_s=400.0, xact_age_s=400.0)
    look = console(held, 9, database={"pool_size": 4})
    finding = diagnose(held, look).finding
    assert finding.cause == "pooler-exhausted"
    assert finding.command == "runbook remediate db --terminate-idle"
    held = pooled(4, state="idle in transaction", state_age_s=40.0, xact_age_s=40.0)
    finding = diagnose(held, console(held, 9, database={"pool_size": 4})).finding
    assert finding.command == "runbook remediate db --rolling-restart --service shop"


def test_a_lock_pile_up_in_the_pool_is_the_cause_and_the_queue_follows() -> None:
    blocked = pooled(5, state="active", wait_event_type="Lock", wait_event="transactionid")
    root = session(state="idle in transaction", has_xid=True, xact_age_s=60.0)
    waits = [{"pid": s.pid, "blockers": [root.pid]} for s in blocked]
    look = console(blocked, 40)
    diagnosis = diagnose([root, *blocked], look, extra={"lock-waits": waits})
    assert diagnosis.finding.cause == "lock-pile-up"
    assert [f.cause for f in diagnosis.runners_up] == ["pooler-exhausted"]


def test_when_postgresql_is_full_the_queue_is_no_cause() -> None:
    held = pooled(state="active", query_age_s=90.0)
    diagnosis = diagnose([*held, *many(92)], console(held))
    assert diagnosis.finding.cause == "leaked-sessions"
    (also,) = [f for f in diagnosis.also if f.cause == "pooler-exhausted"]
    assert "PostgreSQL is full as well" in also.because
    strangers = many(92, application_name="cron", role="cron", client_addr="10.7.7.7")
    diagnosis = diagnose([*held, *strangers], console(held))
    assert diagnosis.finding.cause == "unexplained"
    assert [f.cause for f in diagnosis.also] == ["pooler-exhausted"]


@pytest.mark.parametrize(
    ("given", "title"),
    [
        ({"database": {"disabled": 1}}, "database shop is disabled: new clients are refused"),
        ({"database": {"paused": 1}}, "database shop is paused"),
        ({"config": {"max_client_conn": "5"}}, "max_client_conn 5 is reached too"),
    ],
)
def test_what_binds_is_said(given: dict[str, Any], title: str) -> None:
    held = pooled()
    finding = diagnose(held, console(held, **given)).finding
    assert finding.cause == "pooler-exhausted"
    assert any(title in text for text in (finding.title, *finding.evidence))


def test_a_pool_is_never_raised_beyond_what_postgresql_has() -> None:
    held = pooled(5, state="active", query_age_s=1.0)
    limits = {"max_connections": 10}
    finding = diagnose([*held, *many(1)], console(held), limits=limits).finding
    assert "default_pool_size = 5 " not in finding.advice
    assert "no slots for a larger pool" in finding.advice


def test_clients_over_their_declared_pool_are_a_leak_of_their_service() -> None:
    clients = [consoles.client(f"0xi{n}") for n in range(13)]
    look = consoles.look([], clients)
    diagnosis = diagnose([], look)
    assert diagnosis.finding.cause == "healthy"
    (also,) = diagnosis.also
    assert also.title == (
        "shop on web-01 holds 13 connections to PgBouncer bouncer-01, its pool is 10"
    )
    assert also.command == "runbook remediate db --rolling-restart --service shop"
    assert also.cause == "leaked-clients"
    assert diagnose([], consoles.look([], clients[:12])).also == ()


def test_clients_that_keep_sessions_are_a_cause_as_far_as_they_are_too_many() -> None:
    """In session mode: ten of twenty are the declared pool's, whatever they do."""
    for count, cause in ((20, "leaked-clients"), (19, "healthy")):
        held = pooled(count)
        look = console(held, 0, pool={"pool_mode": "session"}, database={"pool_size": 50})
        assert diagnose(held, look).finding.cause == cause
    busy = pooled(20, state="active", query_age_s=1.0)
    look = console(busy, 0, pool={"pool_mode": "session"}, database={"pool_size": 50})
    assert diagnose(busy, look).finding.cause == "healthy"


def test_sessions_that_others_keep_are_not_held_against_leaked_clients() -> None:
    strangers = many(30, application_name="cron", role="cron", client_addr="10.7.7.7")
    clients = [consoles.client(f"0xi{n}") for n in range(40)]
    diagnosis = diagnose(strangers, consoles.look([], clients))
    assert diagnosis.finding.cause == "healthy"
    assert "keep: 0" in diagnosis.also[0].evidence[-1]


def test_clients_whose_service_cannot_be_told_are_held_against_nobody() -> None:
    services = {"shop": SHOP, "admin": {**SHOP, "pool": {"size": 1}}}
    clients = [consoles.client(f"0xi{n}") for n in range(30)]
    seen = snapshot([], poolers=(consoles.look([], clients),))
    diagnosis = JUDGE.diagnose(seen, known(services=services))
    assert diagnosis.also == ()


def test_idle_clients_in_session_mode_are_named_and_not_their_sessions() -> None:
    held = pooled(14)
    look = console(held, pool={**WAITS, "pool_mode": "session"}, database={"pool_size": 14})
    finding = diagnose(held, look).finding
    assert "shop on web-01 holds 14 connections" in " ".join(finding.evidence)
    assert "not the client that took it" in finding.advice
    assert finding.command == "runbook remediate db --rolling-restart --service shop"


def test_the_largest_queue_speaks_and_the_others_are_counted() -> None:
    held = pooled(2, state="active", query_age_s=1.0)
    small = console(held[:1], 1, database={"pool_size": 1})
    servers, clients = consoles.linked(held[1:])
    large = consoles.look(
        servers,
        [*clients, *queue(7)],
        name="bouncer-02",
        pool=WAITS,
        database={"pool_size": 1},
    )
    title = diagnose(held, small, large).finding.title
    assert title.startswith("7 clients wait")
    assert "PgBouncer bouncer-02" in title
    assert title.endswith("; 1 other pool likewise")


# ---- the pools' sum


def test_behind_a_pgbouncer_its_pools_are_what_may_be_opened() -> None:
    """Three hosts may open 30 connections to it, and it opens five."""
    held = pooled(3)
    limits = {"max_connections": 23}
    diagnosis = diagnose(held, console(held, 0), limits=limits)
    assert [f.cause for f in diagnosis.also] == []
    diagnosis = diagnose(held, console(held, 0, database={"pool_size": 21}), limits=limits)
    (also,) = diagnosis.also
    assert also.cause == "pools-over-budget"
    assert "PgBouncer bouncer-01, pool shop/app: 21 (pool size + reserve)" in also.evidence
    assert also.command == "runbook diagnose db"
    diagnosis = diagnose([*held, *many(1)], console(held, 0), limits=limits)
    assert "the pools may open 35 connections" in diagnosis.also[0].title


# ---- the witness


def drive(outcome: Any, fleet_: Fleet) -> tuple[list[Any], Any]:
    """Examine an empty server; every PgBouncer gives the same outcome."""
    from runbook.findings.pooler import WITNESS
    from runbook.findings.view import View
    from runbook.findings.witness import Told

    seen = snapshot([])
    looks = WITNESS.looks(View(snapshot=seen, fleet=fleet_))
    return list(looks), WITNESS.take(seen, tuple(Told(look, outcome) for look in looks))


def test_every_pgbouncer_in_front_of_this_server_is_asked_and_no_other() -> None:
    connect = {"host": "10.0.0.5", "user": "oncall"}
    databases = {
        "db": {"host": "db-01", "connect": connect},
        "alias": {"connect": {**connect, "dbname": "stock"}},
        "other": {"connect": {**connect, "port": 5433}},
    }
    bouncers = {
        name: {**consoles.BOUNCER, "database": database}
        for name, database in (("a", "db"), ("b", "alias"), ("c", "other"))
    }
    looks, _ = drive(
        ConsoleAnswers(pgbouncer="a", version="", rows={}),
        fleet(databases=databases, pgbouncers=bouncers),
    )
    assert [look.pgbouncer for look in looks] == ["a", "b"]
    assert all(isinstance(look, AskPgBouncer) and "fds" not in look.shows for look in looks)


def test_what_is_kept_is_what_is_needed_and_nothing_more() -> None:
    rows = {
        "config": [{"key": "auth_query", "value": "SELECT"}, {"key": "pool_mode", "value": "x"}],
        "clients": [{"ptr": "0x1", "tls": "TLSv1.3", "database": "shop"}],
    }
    answers = ConsoleAnswers(
        pgbouncer="bouncer-01",
        version="1.18.0",
        rows=rows,
        failed={"state": "invalid command", "pools": "too slow"},
    )
    (look,) = drive(answers, known())[1].poolers
    assert look.rows == {
        "config": [{"key": "pool_mode", "value": "x"}],
        "clients": [{"ptr": "0x1", "database": "shop"}],
    }
    # Old versions do not know SHOW STATE; that is no gap worth a word.
    assert look.error == "SHOW POOLS: too slow"


def test_a_failed_look_is_told_with_its_remedy() -> None:
    error = Unreachable("PgBouncer bouncer-01 (h:1) cannot be reached: refused", hint="start it")
    seen = drive(error, known())[1]
    diagnosis = JUDGE.diagnose(seen, known())
    assert diagnosis.poolers == ()
    (line,) = diagnosis.unseen
    assert line == (
        "PgBouncer bouncer-01: (h:1) cannot be reached: refused; what comes through it was not"
        " told apart; start it"
    )
