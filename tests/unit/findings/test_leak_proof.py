"""What may be terminated: only what is proved, never what is protected, and never all of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.model.leaks import LeakPolicy, ShortLimit, TerminationPlan
from runbook.model.sessions import Session, Snapshot
from unit.findings.world import JUDGE, SHOP, fleet, hidden, many, session, snapshot

IN_TRANSACTION = {"state": "idle in transaction", "xact_age_s": 500.0, "state_age_s": 400.0}


def prove(seen: Snapshot, inventory: Any = None, **policy: Any) -> TerminationPlan:
    return JUDGE.leaks(seen, inventory or fleet(), LeakPolicy(**policy))


def shop(**pool: Any) -> Any:
    return fleet({"shop": {**SHOP, "pool": {"size": 10, **pool}}})


def reasons(plan: TerminationPlan) -> set[str]:
    return {spared.reason for spared in plan.spared}


def test_the_excess_is_those_idle_longest() -> None:
    sessions = many(18)
    plan = prove(snapshot(sessions))
    # Eight are too many; two at either end may be strangers.
    assert [p.session.pid for p in plan.sessions] == [s.pid for s in reversed(sessions[-6:-2])]
    assert plan.sessions[0].proof.startswith("18 sessions, pool of 10; among those idle longest")
    assert plan.sessions[0].owner == "shop on web-01"


def test_what_was_seen_coming_back_to_its_pool_goes_last() -> None:
    returned = many(8, query="ROLLBACK", state_age_s=5000)
    plan = prove(snapshot([*returned, *many(6)]))
    assert not {s.pid for s in returned} & {p.session.pid for p in plan.sessions}


def test_what_was_busy_a_moment_ago_is_not_idle() -> None:
    assert prove(snapshot(many(14, state_age_s=-20))).sessions == ()


def test_a_pool_at_its_size_is_left_alone_however_long_it_idles() -> None:
    plan = prove(snapshot(many(10, state_age_s=90_000)))
    assert plan.sessions == ()
    assert len(plan.suspects) == 10
    assert plan.suspects[0].rule == "idle_age"


def test_outlived_leaves_the_floor() -> None:
    plan = prove(snapshot(many(10, age_s=4000)), shop(max_lifetime="30m", retires_idle=True))
    assert {p.rule for p in plan.sessions} == {"outlived"}
    assert len(plan.sessions) == 7
    assert "left as the floor of shop on web-01 (3 sessions)" in reasons(plan)


def test_outlived_has_two_minutes_of_grace() -> None:
    pool = shop(max_lifetime="30m", retires_idle=True)
    assert prove(snapshot(many(10, age_s=1900)), pool).sessions == ()


def test_where_age_is_checked_at_checkout_only_an_old_connection_is_a_suspect() -> None:
    """SQLAlchemy, Django and psycopg_pool let an idle connection outlive its maximum."""
    plan = prove(snapshot(many(10, age_s=9000, state_age_s=5000)), shop(max_lifetime="30m"))
    assert plan.sessions == ()
    assert {p.rule for p in plan.suspects} == {"idle_age"}


def test_idle_in_transaction_within_the_limit_is_left_alone() -> None:
    assert prove(snapshot(many(8, **{**IN_TRANSACTION, "state_age_s": 200.0}))).sessions == ()


def test_whom_others_wait_for_is_not_a_plain_leak() -> None:
    root, waiter = session(**IN_TRANSACTION), session(state="active", wait_event_type="Lock")
    waits = [{"pid": waiter.pid, "blockers": [root.pid]}]
    seen = snapshot([root, waiter, *many(3)], extra={"lock-waits": waits})
    assert prove(seen).sessions == ()
    assert any("--terminate-blocker" in reason for reason in reasons(prove(seen)))
    assert [p.session.pid for p in prove(seen, which="blockers").sessions] == [root.pid]


@pytest.mark.parametrize("question", ["lock-waits", "advisory-locks"])
def test_what_was_not_answered_spares(question: str) -> None:
    seen = snapshot(
        many(8, **IN_TRANSACTION), extra={question: None}, failed={question: "timed out"}
    )
    assert prove(seen).sessions == ()
    assert any("could not be seen" in reason for reason in reasons(prove(seen)))


def test_a_root_is_found_through_those_that_wait_for_each_other() -> None:
    root = session(**IN_TRANSACTION, has_xid=True)
    first, second = many(2, state="active", wait_event_type="Lock")
    waits = [
        {"pid": first.pid, "blockers": [root.pid]},
        {"pid": second.pid, "blockers": [first.pid]},
    ]
    plan = prove(snapshot([root, first, second], extra={"lock-waits": waits}), which="blockers")
    assert [p.session.pid for p in plan.sessions] == [root.pid]
    assert "2 sessions wait" in plan.sessions[0].proof
    assert "will be rolled back" in plan.sessions[0].proof


def test_a_prepared_transaction_has_no_session_to_end() -> None:
    waiter = session(state="active", wait_event_type="Lock")
    seen = snapshot([waiter], extra={"lock-waits": [{"pid": waiter.pid, "blockers": [0]}]})
    assert prove(seen, which="blockers").sessions == ()


PROTECT = {
    "roles": ["batch_*"],
    "applications": ["cron?"],
    "databases": ["billing"],
    "addresses": ["10.7.0.0/16"],
}


@pytest.mark.parametrize(
    "special",
    [
        {"superuser": True},
        {"replication": True},
        {"ours": True},
        {"backend_type": "walsender"},
        {"leader_pid": 7},
        {"has_xid": True},
        {"application_name": "Patroni heartbeat"},
        {"application_name": "pg_dump"},
        {"application_name": "pgBackRest [backup]"},
        {"application_name": "barman_cloud"},
        {"application_name": "alembic"},
        {"application_name": "Flyway by Redgate"},
        {"query": "UPDATE alembic_version SET version_num='1'"},
        {"query": "  listen jobs"},
        {"role": "batch_1"},
        {"application_name": "cron1"},
        {"database": "billing"},
        {"client_addr": "10.7.3.2"},
    ],
)
def test_the_protected_are_never_taken(special: dict[str, Any]) -> None:
    values = {"application_name": "other", "client_addr": "10.8.0.1", **IN_TRANSACTION, **special}
    kept = [session(**values) for _ in range(6)]
    plan = prove(snapshot(kept), fleet(protect=PROTECT))
    assert plan.sessions == ()


def test_an_advisory_lock_protects() -> None:
    held = many(6, **IN_TRANSACTION)
    plan = prove(snapshot(held, extra={"advisory-locks": [{"pid": s.pid} for s in held]}))
    assert plan.sessions == ()
    assert reasons(plan) == {"holds an advisory lock"}


def test_the_smaller_bound_wins() -> None:
    plan = prove(snapshot(many(60)), max_sessions=20)
    assert len(plan.sessions) == 20
    assert "beyond the bound of 20 sessions a run" in reasons(plan)


def test_wanted_is_the_headroom_that_is_missing() -> None:
    plan = prove(snapshot(many(97)))
    assert (plan.used, plan.usable, plan.wanted) == (97, 97, 20)
    assert prove(snapshot(many(10))).wanted == 0


def test_a_full_role_wants_room_though_the_server_has_it() -> None:
    limits = [{"name": "app", "connlimit": 20}]
    plan = prove(snapshot(many(20), extra={"role-limits": limits}))
    assert plan.wanted == 4
    assert plan.short == (ShortLimit(kind="role", name="app"),)


@pytest.mark.parametrize(
    ("limit", "given"),
    [
        ({"name": "app", "connlimit": 0}, {}),
        ({"name": "boss", "connlimit": 2}, {"role": "boss", "superuser": True}),
        ({"name": "monitor", "connlimit": 1}, {"role": "monitor"}),
    ],
    ids=["keeps everyone out", "superusers are exempt", "nothing leaked counts against it"],
)
def test_a_limit_that_terminating_cannot_relieve_wants_nothing(
    limit: dict[str, Any], given: dict[str, Any]
) -> None:
    others = many(2, application_name="other", **given)
    plan = prove(snapshot([*many(20), *others], extra={"role-limits": [limit]}))
    assert len(plan.sessions) == 6
    assert (plan.wanted, plan.short) == (0, ())


def test_those_under_a_full_limit_go_first() -> None:
    services = {"shop": SHOP, "api": {**SHOP, "application_name": "api-${host.name}"}}
    older = many(18, application_name="api-web-01", role="api", state_age_s=9000)
    younger = many(18)
    limits = [{"name": "app", "connlimit": 18}]
    seen = snapshot([*older, *younger], extra={"role-limits": limits})
    plan = prove(seen, fleet(services))
    assert [p.session.role for p in plan.sessions] == ["app"] * 4 + ["api"] * 4
    assert plan.wanted == 4


def test_an_exporter_on_the_same_machine_is_not_held_against_the_pool() -> None:
    inventory = fleet({"shop": {"hosts": "web", "database": "db", "pool": {"size": 10}}})
    exporter = many(4, application_name="postgres_exporter", role="exporter", state_age_s=9000)
    seen = snapshot([*many(10, application_name="gunicorn"), *exporter])
    assert prove(seen, inventory).sessions == ()
    assert len(prove(snapshot(many(18, application_name="gunicorn")), inventory).sessions) == 4


def test_behind_one_address_healthy_sessions_of_another_host_are_kept() -> None:
    """HAProxy on web-02: what web-01 holds is not web-02's."""
    plan = prove(snapshot([*many(10, client_addr="10.0.1.2"), *many(5), *_of_web_02(10)]))
    assert plan.sessions == ()


def test_two_databases_of_one_service_are_not_one_pool() -> None:
    seen = snapshot([*many(8), *many(8, database="analytics")])
    assert prove(seen).sessions == ()
    assert len(prove(snapshot(many(16))).sessions) == 2


def test_services_of_two_databases_on_one_server_are_not_one_pool() -> None:
    connect = {"host": "10.0.0.5", "user": "oncall"}
    databases = {"db": {"connect": connect}, "stats": {"connect": {**connect, "dbname": "stats"}}}
    services = {"shop": SHOP, "stats": {**SHOP, "database": "stats"}}
    assert prove(snapshot(many(18)), fleet(services, databases=databases)).sessions == ()
    apart = {**databases, "stats": {"connect": {**connect, "port": 5433}}}
    assert len(prove(snapshot(many(18)), fleet(services, databases=apart)).sessions) == 4


def test_what_a_database_on_the_same_server_protects_is_protected() -> None:
    connect = {"host": "10.0.0.5", "user": "oncall"}
    other = {"connect": connect, "protect": {"roles": ["app"]}}
    inventory = fleet(databases={"db": {"connect": connect}, "stats": other})
    assert prove(snapshot(many(14)), inventory).sessions == ()


def _of_web_02(count: int) -> list[Session]:
    return many(count, application_name="shop-web-02", client_addr="10.0.1.2")


def test_hidden_sessions_are_counted_and_never_taken() -> None:
    plan = prove(snapshot(hidden(60)))
    assert plan.sessions == ()
    assert plan.used == 60


ADDRESSES = ["10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.0.5"]
STATES = ["active", "idle", "idle in transaction", "idle in transaction (aborted)", None]
SESSIONS = st.builds(
    session,
    state=st.sampled_from(STATES),
    application_name=st.sampled_from(["shop-web-01", "shop-web-02", "shop", "psql", "alembic", ""]),
    client_addr=st.sampled_from([*ADDRESSES, "10.9.9.9", None]),
    role=st.sampled_from(["app", "report", None]),
    state_age_s=st.one_of(st.none(), st.floats(-1, 100_000)),
    age_s=st.one_of(st.none(), st.floats(0, 100_000)),
    has_xid=st.booleans(),
    superuser=st.booleans(),
    ours=st.booleans(),
    query=st.sampled_from(["", "ROLLBACK", "LISTEN x", "SELECT 1"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(SESSIONS, max_size=60), st.sampled_from(["leaked", "blockers"]))
def test_never_the_protected_the_busy_or_the_last(found: list[Session], which: Any) -> None:
    found = [replace(s, pid=n + 1) for n, s in enumerate(found)]
    seen = snapshot(found)
    plan = prove(seen, which=which)
    JUDGE.diagnose(seen, fleet())  # has an answer for whatever it sees
    taken = [p.session for p in plan.sessions]
    assert not any(s.superuser or s.ours or s.has_xid or s.state in {"active", None} for s in taken)
    assert not any(s.query == "LISTEN x" or s.application_name == "alembic" for s in taken)
    spared = {pid for entry in plan.spared for pid in entry.pids}
    assert not spared & {s.pid for s in taken}
    for name, address in (("shop-web-01", "10.0.1.1"), ("shop-web-02", "10.0.1.2")):
        pool = [s for s in seen.clients if (s.application_name, s.client_addr) == (name, address)]
        gone = [s for s in taken if s in pool and s.idle]
        # Ten are the declared pool: idle sessions go only where there are more, and only those.
        assert len(gone) <= max(0, len(pool) - 10) or len(seen.clients) > len(pool)
        assert not pool or len(pool) - len([s for s in taken if s in pool]) >= min(2, len(pool))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1_000_000), max_size=10), st.sampled_from(["active", "idle"]))
def test_a_pool_within_its_budget_is_never_touched(ages: list[float], state: str) -> None:
    pool = [session(state_age_s=age, age_s=age + 1, state=state) for age in ages]
    assert prove(
        snapshot([*pool, *many(40, application_name="shop-web-02", client_addr="10.0.1.2")])
    ).sessions
    taken = {p.session.pid for p in prove(snapshot(pool)).sessions}
    assert not taken
