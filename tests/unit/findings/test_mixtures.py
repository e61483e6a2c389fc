"""Several causes at once, the last rung, a standby, strange clients: named in order, or not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from runbook.findings.snapshot import assemble
from runbook.model.effects import Answers
from runbook.model.processes import ServerProcess, ServerProcesses
from unit.findings.world import JUDGE, SHOP, fleet, hidden, many, session, snapshot

if TYPE_CHECKING:
    from runbook.model.diagnosis import Diagnosis
    from runbook.model.sessions import Session, Snapshot


def causes(diagnosis: Diagnosis) -> list[str]:
    return [diagnosis.finding.cause, *(finding.cause for finding in diagnosis.also)]


def waiting(count: int, **given: Any) -> list[Session]:
    words = {"state": "active", "wait_event_type": "Lock", "application_name": "batch"}
    return many(count, **{**words, "query_age_s": 40.0, **given})


def behind(waits: list[Session], root: Session) -> dict[str, Any]:
    return {"lock-waits": [{"pid": s.pid, "blockers": [root.pid]} for s in waits]}


def test_leak_and_surge() -> None:
    work = many(52, state="active", query_age_s=0.2, application_name="api")
    assert causes(JUDGE.diagnose(snapshot([*many(45), *work]), fleet())) == [
        "surge",
        "leaked-sessions",
    ]


def test_a_large_leak_is_the_cause_and_the_work_besides_no_surge() -> None:
    work = many(27, state="active", query_age_s=0.2, application_name="api")
    diagnosis = JUDGE.diagnose(snapshot([*many(70), *work]), fleet())
    assert causes(diagnosis) == ["leaked-sessions"]


def test_silent_transactions_that_block_are_one_pile_up() -> None:
    roots = many(4, state="idle in transaction", xact_age_s=90.0, application_name="job")
    waits = waiting(12)
    extra = {
        "lock-waits": [{"pid": s.pid, "blockers": [roots[n % 4].pid]} for n, s in enumerate(waits)]
    }
    diagnosis = JUDGE.diagnose(snapshot([*roots, *waits], extra=extra), fleet({}))
    assert causes(diagnosis) == ["lock-pile-up"]
    assert "idle-in-transaction" in [f.cause for f in diagnosis.runners_up]


def test_silent_transactions_besides_the_root_are_named_too() -> None:
    silent = many(20, state="idle in transaction", xact_age_s=90.0, application_name="job")
    waits = waiting(20)
    seen = snapshot([*silent, *waits], extra=behind(waits, silent[0]))
    assert causes(JUDGE.diagnose(seen, fleet({}))) == ["lock-pile-up", "idle-in-transaction"]


def test_statements_that_wait_for_a_lock_are_not_slow() -> None:
    root = session(state="active", query_age_s=300.0, application_name="report")
    waits = waiting(60, query_age_s=200.0)
    seen = snapshot([root, *waits], extra=behind(waits, root))
    diagnosis = JUDGE.diagnose(seen, fleet({}))
    assert causes(diagnosis) == ["lock-pile-up"]
    assert "pg_cancel_backend" in (diagnosis.finding.command or "")


def test_a_role_limit_a_leak_and_a_pile_up() -> None:
    root = session(state="idle in transaction", application_name="job", role="job")
    waits = waiting(30, role="batch")
    cron = many(5, role="cron", application_name="cron")
    seen = snapshot(
        [*many(50), root, *waits, *cron],
        extra={**behind(waits, root), "role-limits": [{"name": "cron", "connlimit": 5}]},
    )
    assert causes(JUDGE.diagnose(seen, fleet())) == [
        "role-limit",
        "lock-pile-up",
        "leaked-sessions",
    ]


def test_a_standby_whose_recovery_holds_the_lock_is_not_to_be_ended() -> None:
    startup = session(
        backend_type="startup", role=None, database=None, state=None, application_name=""
    )
    waits = waiting(20)
    seen = snapshot([startup, *waits], extra=behind(waits, startup), limits={"in_recovery": True})
    finding = JUDGE.diagnose(seen, fleet({})).finding
    assert finding.cause == "lock-pile-up"
    assert "recovery itself" in finding.advice
    assert finding.command == "runbook diagnose db"


def test_autovacuum_as_a_root_is_told_as_what_it_is() -> None:
    vacuum = session(backend_type="autovacuum worker", role=None, state="active")
    waits = waiting(20)
    finding = JUDGE.diagnose(snapshot([vacuum, *waits], extra=behind(waits, vacuum)), fleet({}))
    assert "The root is autovacuum" in finding.finding.advice
    assert "pg_cancel_backend" not in (finding.finding.command or "")


# ---- the last rung: processes only ---------------------------------------------------------


def process(pid: int, **given: Any) -> ServerProcess:
    words: dict[str, Any] = {
        "kind": "client",
        "role": "app",
        "database": "shop",
        "client_addr": "10.0.1.1",
        "client_port": 40000 + pid % 20000,
        "state": "idle",
        "waiting": False,
        "age_s": 900.0,
        "start_ticks": pid,
        "switches": 3,
        "title": "postgres: app shop 10.0.1.1(40000) idle",
    }
    return ServerProcess(pid=pid, **{**words, **given})


def from_host(
    *processes: ServerProcess, unseen: tuple[str, ...] = (), as_owner: bool = True
) -> Snapshot:
    told = ServerProcesses(
        host="db-01",
        processes=processes,
        settings={"max_connections": "100", "superuser_reserved_connections": "3"},
        version="15.18",
        at="2026-01-01T02:17:00Z",
        unseen=unseen,
        as_owner=as_owner,
    )
    return assemble("db", Answers(rows={}, rung="os", processes=told))


@pytest.mark.parametrize(
    ("given", "cause", "confidence"),
    [
        ({"state": "idle"}, "unexplained", "weak"),
        ({"state": "active"}, "surge", "weak"),
        ({"state": "active", "waiting": True}, "lock-pile-up", "likely"),
        (
            {"kind": "logging_in", "state": "", "role": None, "client_addr": None},
            "stalled-logins",
            "certain",
        ),
    ],
    ids=["idle", "at work", "waiting", "logging in"],
)
def test_processes_alone_are_not_overstated(
    given: dict[str, Any], cause: str, confidence: str
) -> None:
    seen = from_host(*(process(2000 + n, **given) for n in range(97)), as_owner=False)
    diagnosis = JUDGE.diagnose(seen, fleet({}))
    assert (diagnosis.finding.cause, diagnosis.finding.confidence) == (cause, confidence)
    assert "short statements:" not in diagnosis.finding.title
    assert any("from its host's processes" in line for line in diagnosis.unseen)
    assert not any("GRANT" in line for line in diagnosis.unseen)


def test_silence_in_a_transaction_of_unknown_length_is_said() -> None:
    seen = from_host(*(process(2000 + n, state="idle in transaction") for n in range(97)))
    diagnosis = JUDGE.diagnose(seen, fleet({}))
    assert (diagnosis.finding.cause, diagnosis.finding.confidence) == ("unexplained", "weak")
    assert "0 idle, 97 idle in transaction, 0 at work" in diagnosis.finding.title


def test_what_the_host_would_not_tell_is_told() -> None:
    seen = from_host(process(2000), unseen=("it has no ss",))
    diagnosis = JUDGE.diagnose(seen, fleet())
    assert (diagnosis.finding.cause, diagnosis.finding.confidence) == ("healthy", "likely")
    assert "db-01: it has no ss" in diagnosis.unseen


def test_walsenders_are_counted_from_outside_too() -> None:
    told = from_host(*(process(3000 + n, kind="walsender", state="streaming") for n in range(4)))
    told = replace(told, limits=replace(told.limits, max_wal_senders=4))
    assert JUDGE.diagnose(told, fleet()).finding.cause == "replication-limit"


# ---- clients as they come ------------------------------------------------------------------

STRANGE = [
    {"application_name": "\x1b[31mred\x07\n\r\x00'; DROP TABLE x; --"},
    {"application_name": "ä" * 63},
    {"application_name": "\udcff\udcfe"},
    {"application_name": "", "client_addr": None, "client_port": -1},
    {"client_addr": "2001:db8::1"},
    {"client_addr": "fe80::1%eth0"},
    {"client_addr": "::ffff:10.0.1.1"},
    {"role": None, "database": None},
    {"role": 'o"x', "database": "d'b; --"},
    {"query": "\x00\x1b]0;x\x07" * 20},
    {"age_s": -3.0, "state_age_s": -3.0, "query_age_s": -3.0, "xact_age_s": -3.0},
]


@pytest.mark.parametrize("strange", STRANGE, ids="-".join)
@pytest.mark.parametrize(
    "state", [{"state": "idle"}, {"state": "active"}, {"state": "idle in transaction"}]
)
def test_strange_clients_are_judged_like_others(
    strange: dict[str, Any], state: dict[str, Any]
) -> None:
    root = session(state="idle in transaction", has_xid=True, **strange)
    some = [session(**{**state, **strange}) for _ in range(60)]
    waits = waiting(30, **strange)
    superusers = [session(superuser=True, **{**state, **strange}) for _ in range(25)]
    seen = snapshot(
        [root, *some, *waits, *superusers],
        extra={**behind(waits, root), "role-limits": [{"name": 'o"x', "connlimit": 5}]},
    )
    diagnosis = JUDGE.diagnose(seen, fleet())
    assert diagnosis.finding.title
    assert diagnosis.slots.used == 91


def test_hidden_sessions_are_never_work_idleness_or_youth() -> None:
    seen = snapshot(hidden(97), limits={"can_read_all": False})
    diagnosis = JUDGE.diagnose(seen, fleet({}))
    assert causes(diagnosis) == ["unexplained"]
    assert diagnosis.runners_up == ()
    assert "why cannot be seen by role oncall" in diagnosis.finding.title
    assert diagnosis.finding.advice.startswith("As a superuser: GRANT pg_monitor")


def test_all_questions_but_the_needed_ones_may_fail() -> None:
    """A server under load answers who is there, and times out on its catalogues."""
    pools = {"shop": {**SHOP, "application_name": "shop-${host.name}"}}
    seen = snapshot(many(97), extra=dict.fromkeys(snapshot([]).extra))
    seen = replace(seen, failed={"lock-waits": "statement timeout", "role-limits": "the same"})
    diagnosis = JUDGE.diagnose(seen, fleet(pools))
    assert diagnosis.finding.cause == "leaked-sessions"
    assert any("role-limit: judged without it" in line for line in diagnosis.unseen)
