"""Which of several findings is called the cause, and what is said of the others."""

from __future__ import annotations

import pytest

from runbook.findings.examination import questions
from runbook.findings.snapshot import assemble
from runbook.findings.table import FINDINGS
from runbook.model.diagnosis import Diagnosis
from runbook.model.effects import Answers
from runbook.model.errors import DatabaseError
from unit.findings.world import JUDGE, SHOP, fleet, hidden, many, session, snapshot


def causes(diagnosis: Diagnosis) -> list[str]:
    return [diagnosis.finding.cause, *(finding.cause for finding in diagnosis.also)]


def test_the_table_has_each_finding_once_and_asks_each_question_once() -> None:
    names = [kind.name for kind in FINDINGS]
    assert len(set(names)) == len(names)
    names = [question.name for question in questions()]
    assert names[:2] == ["limits", "sessions"]
    assert len(set(names)) == len(names)


def test_a_small_cause_does_not_hide_a_large_one() -> None:
    silent = many(20, application_name="job", state="idle in transaction")
    leak = many(70)
    assert causes(JUDGE.diagnose(snapshot([*silent, *leak]), fleet())) == [
        "leaked-sessions",
        "idle-in-transaction",
    ]


def test_a_full_role_comes_first_whatever_fills_the_server() -> None:
    seen = snapshot(
        [*many(80), *many(5, role="cron", application_name="cron")],
        extra={"role-limits": [{"name": "cron", "connlimit": 5}]},
    )
    assert causes(JUDGE.diagnose(seen, fleet())) == ["role-limit", "leaked-sessions"]


def test_leaks_under_a_role_limit_are_the_remedy() -> None:
    seen = snapshot(many(20), extra={"role-limits": [{"name": "app", "connlimit": 20}]})
    finding = JUDGE.diagnose(seen, fleet()).finding
    assert finding.command == "runbook remediate db --terminate-idle"


def test_a_role_limit_of_zero_is_meant() -> None:
    seen = snapshot(many(3), extra={"role-limits": [{"name": "gone", "connlimit": 0}]})
    assert JUDGE.diagnose(seen, fleet()).finding.cause == "healthy"


def test_raising_a_limit_quotes_the_role() -> None:
    limits = [{"name": 'x"; DROP ROLE y; --', "connlimit": 3}]
    seen = snapshot(many(3, role=limits[0]["name"]), extra={"role-limits": limits})
    command = JUDGE.diagnose(seen, fleet()).finding.command or ""
    assert command.endswith("""-c 'ALTER ROLE "x""; DROP ROLE y; --" CONNECTION LIMIT 5'""")


def test_a_monitor_behind_its_own_fence_is_no_cause() -> None:
    limits = [{"name": "exporter", "connlimit": 1}]
    seen = snapshot([session(role="exporter")], extra={"role-limits": limits})
    assert causes(JUDGE.diagnose(seen, fleet())) == ["healthy", "role-limit"]


def test_old_idle_sessions_alone_are_a_runner_up() -> None:
    diagnosis = JUDGE.diagnose(snapshot(many(8, state_age_s=7200)), fleet())
    assert diagnosis.healthy
    assert [(f.cause, f.confidence) for f in diagnosis.runners_up] == [("leaked-sessions", "weak")]


def test_idle_in_undeclared_pools_is_not_called_a_leak() -> None:
    diagnosis = JUDGE.diagnose(snapshot(many(97)), fleet({}))
    assert diagnosis.finding.cause == "unexplained"
    assert "Declare the pools" in diagnosis.finding.advice


def test_pools_that_could_be_too_many_are_a_warning_while_there_is_room() -> None:
    services = {"shop": {**SHOP, "pool": {"size": 50}}}
    diagnosis = JUDGE.diagnose(snapshot(many(10)), fleet(services))
    assert causes(diagnosis) == ["healthy", "pools-over-budget"]


def test_a_few_reports_on_a_quiet_database_are_no_incident() -> None:
    reports = many(4, state="active", query_age_s=900.0, application_name="report")
    assert JUDGE.diagnose(snapshot(reports), fleet()).healthy


@pytest.mark.parametrize("count", [1, 2])
def test_a_lock_wait_or_two_are_contention(count: int) -> None:
    waits = many(count, state="active", wait_event_type="Lock")
    assert JUDGE.diagnose(snapshot(waits), fleet()).healthy


def test_a_question_that_failed_is_told() -> None:
    seen = snapshot(many(3), extra={"lock-waits": None}, failed={"lock-waits": "timed out"})
    diagnosis = JUDGE.diagnose(seen, fleet())
    assert (
        "the question 'lock-waits' was not answered: timed out; lock-pile-up: judged without it."
        " Look again"
    ) in diagnosis.unseen
    assert (diagnosis.finding.cause, diagnosis.finding.confidence) == ("healthy", "likely")


def test_without_the_list_of_sessions_there_is_no_diagnosis() -> None:
    answers = Answers(rows={}, rung="connect", failed={"limits": "statement timeout"})
    with pytest.raises(DatabaseError, match="statement timeout"):
        assemble("db", answers)


def test_half_hidden_is_said_to_be_likely_only() -> None:
    diagnosis = JUDGE.diagnose(snapshot([*hidden(40), *many(5)]), fleet())
    assert diagnosis.finding.confidence == "likely"
    assert diagnosis.slots.used == 45


def test_pools_without_sessions_are_listed() -> None:
    pools = JUDGE.diagnose(snapshot(many(2)), fleet()).pools
    assert [(pool.host, pool.sessions) for pool in pools] == [
        ("web-01", 2),
        ("web-02", 0),
        ("web-03", 0),
    ]
