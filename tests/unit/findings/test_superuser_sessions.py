"""Superusers' sessions: each takes an ordinary slot, and together they eat the reserve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from unit.findings.world import JUDGE, fleet, look, many, snapshot
from unit.postgres_server import Server, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.model.diagnosis import Diagnosis
    from runbook.model.sessions import Session


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    with running(max_connections=14) as started:
        yield started


def superusers(count: int, **given: object) -> list[Session]:
    words = {"role": "postgres", "application_name": "exporter", "client_addr": "10.0.0.9"}
    return many(count, **{"superuser": True, **words, **given})


def causes(diagnosis: Diagnosis) -> list[str]:
    return [diagnosis.finding.cause, *(finding.cause for finding in diagnosis.also)]


def test_an_application_that_is_a_superuser_takes_the_reserve_too(small: Server) -> None:
    with (
        small.connect("rescue", replication="database", cursor_factory=psycopg.ClientCursor),
        small.crowd(9) as _,
        small.crowd(4, "postgres", application_name="billing"),
    ):
        with pytest.raises(psycopg.OperationalError, match=r"reserved|too many"):
            small.connect("app")
        diagnosis = JUDGE.diagnose(look(small, "postgres", application_name="runbook"), fleet({}))
    finding = diagnosis.finding
    assert (finding.cause, finding.confidence) == ("superuser-sessions", "certain")
    assert (diagnosis.slots.usable, diagnosis.slots.used) == (8, 9)
    assert finding.title.startswith("4 sessions of superusers: billing from ")
    assert any("pid " in line and "as postgres" in line for line in finding.evidence)
    assert finding.command is not None
    assert "usename IN ('\"'\"'postgres'\"'\"')" in finding.command


def test_a_few_are_named_beside_the_cause_once_the_reserve_is_gone() -> None:
    diagnosis = JUDGE.diagnose(snapshot([*many(94), *superusers(3)]), fleet())
    assert causes(diagnosis) == ["leaked-sessions", "superuser-sessions"]


@pytest.mark.parametrize("inside", [1, 2])
def test_a_console_and_an_exporter_are_no_finding(inside: int) -> None:
    diagnosis = JUDGE.diagnose(snapshot([*many(95), *superusers(inside)]), fleet())
    assert causes(diagnosis) == ["leaked-sessions"]


def test_many_are_worth_a_word_while_there_is_room() -> None:
    diagnosis = JUDGE.diagnose(snapshot(superusers(30)), fleet())
    assert causes(diagnosis) == ["healthy", "superuser-sessions"]
    assert causes(JUDGE.diagnose(snapshot(superusers(3)), fleet())) == ["healthy"]


def test_a_service_that_logs_in_as_a_superuser_is_named() -> None:
    app = superusers(10, application_name="shop-web-01", client_addr="10.0.1.1")
    more = superusers(20, application_name="shop-web-02", client_addr="10.0.1.2")
    diagnosis = JUDGE.diagnose(snapshot([*many(68, application_name="x"), *app, *more]), fleet())
    superuser = next(
        f for f in (diagnosis.finding, *diagnosis.also) if f.cause == "superuser-sessions"
    )
    assert superuser.owners[0].service == "shop"
    assert "shop logs in as a superuser needs a role" in superuser.advice


def test_leaked_sessions_and_superusers_are_both_named_in_order() -> None:
    diagnosis = JUDGE.diagnose(snapshot([*many(60), *superusers(37)]), fleet())
    assert causes(diagnosis) == ["leaked-sessions", "superuser-sessions"]


def test_no_superuser_is_ever_terminated() -> None:
    told = snapshot([*superusers(97, application_name="shop-web-01", client_addr="10.0.1.1")])
    diagnosis = JUDGE.diagnose(told, fleet())
    assert "superuser-sessions" in causes(diagnosis)
    assert diagnosis.finding.command != "runbook remediate db --terminate-idle"
