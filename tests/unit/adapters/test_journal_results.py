"""What earlier runs of a playbook returned: the newest of one target, and never an error."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from runbook import wiring_looks
from runbook.adapters.journal import SqliteJournal
from runbook.findings.judge import FindingsJudge
from runbook.model.events import Event
from runbook.model.ports import RunRecord
from unit.findings.world import fleet, many, snapshot

if TYPE_CHECKING:
    from pathlib import Path

DIAGNOSIS = FindingsJudge().diagnose(snapshot(many(5)), fleet()).model_dump(mode="json")
PLAYBOOK = "diagnose-saturation"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNBOOK_STATE", str(tmp_path))
    return tmp_path / "journal.db"


def keep(path: Path, run_id: str, data: Any, **over: Any) -> None:
    """Keep a run with one result."""
    given: dict[str, Any] = {"playbook": PLAYBOOK, "target": "db", "started_at": 1.0, **over}
    journal = SqliteJournal(path)
    journal.begin(
        RunRecord(
            run_id=run_id, rehearsal=False, status="done", ended_at=None, who="x", incident=None,
            plan_hash="0", **given,
        ),
        {},
    )  # fmt: skip
    event = {"result": {"data": data}}
    journal.notice(Event(kind="task_finished", at=1.0, task="t", data=event))
    journal.close()


def earlier(before: str = "now") -> str | None:
    """Return the run that a diagnosis of `db` is compared with."""
    found = wiring_looks.earlier_diagnosis(fleet(), "db", before)
    return None if found is None else found[0]


def test_the_newest_of_this_target_is_taken(path: Path) -> None:
    keep(path, "20260101-000001-aaaa", {"diagnosis": DIAGNOSIS})
    keep(path, "20260101-000003-aaaa", {"diagnosis": DIAGNOSIS})
    keep(path, "20260101-000004-aaaa", {"diagnosis": DIAGNOSIS}, target="other")
    keep(path, "20260101-000005-aaaa", {"diagnosis": DIAGNOSIS}, playbook="mine")
    assert earlier() == "20260101-000003-aaaa"


def test_after_the_clock_was_set_back_the_newest_is_the_one_that_began_last(path: Path) -> None:
    keep(path, "20260101-000003-aaaa", {"diagnosis": DIAGNOSIS}, started_at=3.0)
    keep(path, "20260101-000002-aaaa", {"diagnosis": DIAGNOSIS}, started_at=2.0)
    assert earlier() == "20260101-000002-aaaa"


def test_of_two_in_one_second_the_later_is_taken(path: Path) -> None:
    keep(path, "20260101-000001-bbbb", {"diagnosis": DIAGNOSIS}, started_at=1.2)
    keep(path, "20260101-000001-aaaa", {"diagnosis": DIAGNOSIS}, started_at=1.7)
    assert earlier() == "20260101-000001-aaaa"


def test_the_run_that_asks_is_not_compared_with_itself(path: Path) -> None:
    keep(path, "20260101-000001-aaaa", {"diagnosis": DIAGNOSIS})
    keep(path, "20260101-000002-aaaa", {"diagnosis": DIAGNOSIS})
    assert earlier("20260101-000002-aaaa") == "20260101-000001-aaaa"


def test_runs_that_had_no_answer_are_passed_over(path: Path) -> None:
    keep(path, "20260101-000001-aaaa", {"diagnosis": DIAGNOSIS})
    keep(path, "20260101-000002-aaaa", {"error": "Unreachable"})
    assert earlier() == "20260101-000001-aaaa"


def test_two_names_of_one_server_are_one(path: Path) -> None:
    twin = {"connect": {"host": "10.0.0.5", "user": "oncall"}}
    known = fleet(hosts={}, services={}).inventory.model_dump(mode="json", exclude_defaults=True)
    known["databases"]["twin"] = twin
    inventory = type(fleet())(type(fleet().inventory).model_validate(known))
    keep(path, "20260101-000001-aaaa", {"diagnosis": DIAGNOSIS}, target="twin")
    assert wiring_looks.earlier_diagnosis(inventory, "db", "now") is not None


@pytest.mark.parametrize(
    "data",
    [
        {"diagnosis": {**DIAGNOSIS, "schema_version": 2}},
        {"diagnosis": {**DIAGNOSIS, "moon": 1}},
        {"diagnosis": "?"},
        [],
        None,
    ],
)
def test_what_cannot_be_read_is_no_comparison_and_no_error(path: Path, data: Any) -> None:
    keep(path, "20260101-000001-aaaa", data)
    assert earlier() is None


def test_a_journal_of_another_version_or_none_at_all(path: Path) -> None:
    assert earlier() is None
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    assert earlier() is None
    path.unlink()
    path.write_bytes(b"no database at all, but long enough to be looked at as one" * 20)
    assert earlier() is None


def test_many_runs_without_an_answer_are_not_read_through(path: Path) -> None:
    keep(path, "20260101-000000-aaaa", {"diagnosis": DIAGNOSIS})
    for number in range(1, 31):
        keep(path, f"20260101-0000{number:02d}-aaaa", {"error": "Unreachable"})
    assert earlier() is None


def test_earlier_looks_at_pools_and_diagnoses_are_both_read(path: Path) -> None:
    facts = {
        "database": "db", "at": "2026-01-01T00:00:00Z", "window_s": 3.0, "samples": 7,
        "server": {
            "version_num": 160000, "max_connections": 100, "superuser_reserved": 3, "reserved": 0,
            "superuser_sessions": 0, "in_recovery": False, "used": 4, "peak": 9,
        },
    }  # fmt: skip
    keep(path, "20260101-000001-aaaa", {"facts": facts}, playbook="pool-plan")
    keep(path, "20260101-000002-aaaa", {"facts": {"of": "a later runbook"}}, playbook="pool-plan")
    keep(path, "20260101-000003-aaaa", {"diagnosis": DIAGNOSIS})
    keep(path, "20260101-000004-aaaa", {"facts": facts}, playbook="pool-plan", target="other")
    keep(path, "20260101-000005-aaaa", {"facts": facts}, playbook="pool-plan")
    found = wiring_looks.earlier_pool_facts(fleet(), "db", "20260101-000005-aaaa")
    assert [type(look).__name__ for look in found] == ["PoolFacts", "Diagnosis"]


def test_no_journal_is_no_earlier_look(path: Path) -> None:
    path.write_text("no database")
    assert wiring_looks.earlier_pool_facts(fleet(), "db", "now") == ()
