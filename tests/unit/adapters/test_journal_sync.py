"""What is on disk when: a change's intent and its end at once, looks with whatever comes next."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from runbook.adapters.journal import SqliteJournal
from runbook.model.events import Event
from runbook.model.ports import RunRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runbook.model.events import Kind


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    opened = SqliteJournal(tmp_path / "journal.db")
    opened.begin(_record(), {})
    yield opened
    opened.close()


def _record() -> RunRecord:
    return RunRecord(
        run_id="r1",
        playbook="p",
        target=None,
        rehearsal=False,
        status="running",
        started_at=0.0,
        ended_at=None,
        who="somebody",
        incident=None,
        plan_hash="0",
    )


def _tell(journal: SqliteJournal, kind: Kind, task: str) -> None:
    journal.notice(Event(kind=kind, at=1.0, task=task, data={}))


def _on_disk(folder: Path) -> list[tuple[str, str]]:
    """What another process sees: what was committed."""
    with sqlite3.connect(folder / "journal.db") as other:
        return other.execute("SELECT kind, task FROM events ORDER BY seq").fetchall()


def test_looks_wait_for_the_next_event_that_does_not(
    journal: SqliteJournal, tmp_path: Path
) -> None:
    _tell(journal, "task_started", "look/act/web-1")
    _tell(journal, "task_finished", "look/act/web-1")
    assert _on_disk(tmp_path) == []
    _tell(journal, "intended", "roll/restart/web-1")
    assert [kind for kind, _ in _on_disk(tmp_path)] == ["task_started", "task_finished", "intended"]


def test_the_end_of_a_task_that_intended_a_change_is_kept_at_once(
    journal: SqliteJournal, tmp_path: Path
) -> None:
    _tell(journal, "intended", "roll/restart/web-1")
    _tell(journal, "task_finished", "roll/restart/web-2")
    assert len(_on_disk(tmp_path)) == 1
    _tell(journal, "task_finished", "roll/restart/web-1")
    assert _on_disk(tmp_path)[-1] == ("task_finished", "roll/restart/web-1")
    assert len(_on_disk(tmp_path)) == 3


def test_closing_loses_nothing(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    journal.begin(_record(), {})
    _tell(journal, "task_finished", "look/act/web-1")
    journal.close()
    assert _on_disk(tmp_path) == [("task_finished", "look/act/web-1")]


def test_a_change_that_was_made_outlives_its_process(
    journal: SqliteJournal, tmp_path: Path
) -> None:
    _tell(journal, "intended", "roll/restart/web-1")
    _tell(journal, "changed", "roll/restart/web-1")
    assert _on_disk(tmp_path)[-1] == ("changed", "roll/restart/web-1")
    synced = journal._db.execute("PRAGMA synchronous").fetchone()[0]
    assert synced == 2, "an intent after it is synced again"
