"""Connections that come and go: told by two looks from a deploy, whose sessions stay."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest

from runbook.findings import churn, later_look
from runbook.findings.view import View
from runbook.model.effects import Answers
from runbook.model.sessions import LaterLook
from unit.findings.world import JUDGE, fleet, heard, look, many, session, snapshot
from unit.postgres_server import Server, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.model.diagnosis import Diagnosis
    from runbook.model.sessions import Session, Snapshot


@pytest.fixture(scope="module")
def churned() -> Iterator[Server]:
    with running(max_connections=30) as started:
        yield started


@contextmanager
def reconnecting(server: Server, workers: int) -> Iterator[None]:
    """Connect, run one short statement, and close, again and again, as a web request may."""
    ends = threading.Event()

    def work() -> None:
        while not ends.is_set():
            with suppress(psycopg.OperationalError), server.connect(application_name="php") as one:
                one.execute("SELECT pg_sleep(0.2)")

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ends.set()
        for thread in threads:
            thread.join(10)
        server.settle([])


def twice(server: Server) -> Snapshot:
    """Look, wait a moment, and look again as the witness does."""
    first = look(server)
    time.sleep(0.5)
    with server.connect("oncall", options="-c TimeZone=UTC") as connection:
        cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
        rows = cursor.execute(later_look.QUESTION.sql.encode()).fetchall()
    answers = Answers(rows={later_look.QUESTION.name: rows}, rung="connect")
    return later_look.take(first, heard(answers))


def after(seen: Snapshot, stayed: list[Session], came: int = 0) -> Snapshot:
    """Return the snapshot with a second look, at which these were there and some were new."""
    there = {(s.pid, s.backend_start or "", "") for s in stayed}
    new = {(900_000 + n, "2026-01-01 02:17:01+00", "") for n in range(came)}
    return replace(seen, later=LaterLook(after_s=2.0, sessions=frozenset(there | new)))


def young(count: int, **given: object) -> list[Session]:
    return many(count, **{"state": "active", "age_s": 0.4, "query_age_s": 0.1, **given})


def causes(diagnosis: Diagnosis) -> list[str]:
    return [diagnosis.finding.cause, *(finding.cause for finding in diagnosis.also)]


def test_a_connect_disconnect_loop_is_churn(churned: Server) -> None:
    with reconnecting(churned, 16):
        seen = look(churned)
        for _ in range(100):
            if len(seen.clients) >= 10:
                break
            seen = look(churned)
        assert churn.suspects(View(snapshot=seen, fleet=fleet({})))
        diagnosis = JUDGE.diagnose(twice(churned), fleet({}))
    finding = diagnosis.finding
    assert (finding.cause, finding.confidence) == ("churn", "strong")
    assert finding.title.startswith("connections come and go: at least ")
    assert finding.owners[0].application_name == "php"
    # The work that they do is no second cause.
    assert [f.cause for f in diagnosis.also] == []
    assert any("on average" in line for line in finding.evidence)


def test_sessions_that_stay_are_no_churn(churned: Server) -> None:
    with churned.crowd(16, application_name="shop-web-01"):
        seen = twice(churned)
        assert seen.later is not None
        assert seen.later.error == ""
        assert "churn" not in causes(JUDGE.diagnose(seen, fleet({})))


def test_a_deploy_is_young_and_stays() -> None:
    deployed = young(90)
    seen = snapshot(deployed)
    assert churn.suspects(View(snapshot=seen, fleet=fleet({})))
    diagnosis = JUDGE.diagnose(after(seen, deployed, came=5), fleet({}))
    assert causes(diagnosis) == ["surge"]
    assert diagnosis.runners_up == ()


def test_rates_are_per_second() -> None:
    seen = snapshot(young(90))
    title = JUDGE.diagnose(after(seen, [], came=60), fleet({})).finding.title
    assert "at least 30 opened and 45 closed each second" in title


@pytest.mark.parametrize(("gone", "named"), [(17, False), (18, True)])
def test_a_fifth_must_be_gone(gone: int, named: bool) -> None:
    some = young(90)
    diagnosis = JUDGE.diagnose(after(snapshot(some), some[gone:]), fleet({}))
    assert ("churn" in causes(diagnosis)) is named


def test_one_look_names_no_cause() -> None:
    diagnosis = JUDGE.diagnose(snapshot(young(90)), fleet({}))
    assert diagnosis.finding.cause == "surge"
    assert [(f.cause, f.confidence) for f in diagnosis.runners_up] == [("churn", "weak")]


def test_a_second_look_that_failed_is_told() -> None:
    seen = replace(snapshot(young(90)), later=LaterLook(after_s=0.0, error="the server went away"))
    diagnosis = JUDGE.diagnose(seen, fleet({}))
    assert diagnosis.finding.cause == "surge"
    assert any("second look at the server failed: the server" in u for u in diagnosis.unseen)


@pytest.mark.parametrize(
    "calm",
    [
        [],
        many(2, age_s=0.5, state_age_s=0.1),
        many(90, age_s=20.0, state_age_s=10.0),
        many(90, age_s=900.0, state="active"),
        many(90, age_s=30.0, state="active", query_age_s=25.0),
        many(90, age_s=None, state_age_s=0.0),
        [*many(97), *young(3)],
        young(5),
    ],
    ids=["empty", "two", "settled", "old", "slow", "hidden ages", "few of many", "few slots"],
)
def test_a_calm_server_is_not_looked_at_twice(calm: list[Session]) -> None:
    assert not churn.suspects(View(snapshot=snapshot(calm), fleet=fleet({})))


def test_a_leak_beside_churn_is_named_as_well() -> None:
    leaked, passing = many(60), young(35, application_name="php")
    diagnosis = JUDGE.diagnose(after(snapshot([*leaked, *passing]), leaked, came=30), fleet())
    assert causes(diagnosis) == ["churn", "leaked-sessions"]


def test_who_waits_for_a_lock_and_gives_up_is_a_pile_up_only() -> None:
    root = session(state="idle in transaction", xact_age_s=90.0, has_xid=True)
    waiting = young(40, wait_event_type="Lock", wait_event="transactionid")
    waits = [{"pid": s.pid, "blockers": [root.pid]} for s in waiting]
    seen = snapshot([root, *waiting], extra={"lock-waits": waits})
    diagnosis = JUDGE.diagnose(after(seen, [root, *waiting[20:]], came=20), fleet({}))
    assert causes(diagnosis) == ["lock-pile-up"]
    assert "churn" in [f.cause for f in diagnosis.runners_up]
