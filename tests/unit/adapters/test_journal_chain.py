"""The hash chain: whatever is edited in the file by hand is found, and named."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runbook.adapters.journal import SqliteJournal
from runbook.adapters.journal_chain import link, seal
from runbook.adapters.journal_schema import _FIRST
from runbook.model.errors import DoorError
from runbook.model.events import Event, Kind
from runbook.model.ports import Request, RunRecord


def record(run_id: str = "r1", **over: Any) -> RunRecord:
    """Return a run's record."""
    values: dict[str, Any] = {
        "run_id": run_id, "playbook": "p", "target": "db", "rehearsal": False,
        "status": "running", "started_at": 1.0, "ended_at": None, "who": "ada@desk",
        "incident": "P1", "plan_hash": "abc", **over,
    }  # fmt: skip
    return RunRecord(**values)


def event(number: int, kind: Kind = "said") -> Event:
    """Return an event that is like no other."""
    return Event(kind=kind, at=float(number), task="t", data={"stage": "s", "text": str(number)})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of two runs with six events each, the first one over."""
    journal = SqliteJournal(tmp_path / "journal.db")
    for run_id in ("r1", "r2"):
        journal.begin(record(run_id), {"nodes": []}, Request(playbook="p", target="db"))
        for number in range(1, 6):
            journal.notice(event(number, "intended" if number == 3 else "said"))
        journal.notice(Event(kind="finished", at=9.0, data={"status": "done", "reason": ""}))
        journal.end(run_id, "done", 9.0)
    journal.close()
    return tmp_path / "journal.db"


def edit(path: Path, *statements: str) -> None:
    """Edit the file as somebody with a shell would."""
    with sqlite3.connect(path) as db:
        for statement in statements:
            db.execute(statement)


def found(path: Path, run_id: str | None = None) -> list[tuple[str, int | None, str]]:
    """Return the faults that a fresh look finds."""
    journal = SqliteJournal(path)
    faults = journal.verify(run_id)
    journal.close()
    return [(fault.run_id, fault.seq, fault.what) for fault in faults]


def test_what_was_written_is_as_it_was_written(path: Path) -> None:
    assert found(path) == []
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*), count(hash) FROM events").fetchone() == (12, 12)


@pytest.mark.parametrize(("status", "ended"), [("done", 9.0), ("waiting", None)])
def test_a_process_that_is_lost_right_after_the_last_event_leaves_a_row_that_agrees(
    tmp_path: Path, status: str, ended: float | None
) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    journal.begin(record(), {"nodes": []})
    journal.notice(Event(kind="finished", at=9.0, data={"status": status, "reason": ""}))
    (kept,) = journal.runs(1)  # and `end` is never called
    assert (kept.status, kept.ended_at) == (status, ended)
    assert journal.verify() == []
    journal.take_up("r1")
    journal.notice(Event(kind="resumed", at=10.0, data={}))
    journal.close()
    journal = SqliteJournal(tmp_path / "journal.db")
    assert journal.runs(1)[0].status == "running"
    journal.close()


@pytest.mark.parametrize("column", ["at", "kind", "task", "data", "hash"])
def test_a_changed_event_is_named(path: Path, column: str) -> None:
    value = "7.5" if column == "at" else "'x'"
    edit(path, f"UPDATE events SET {column} = {value} WHERE run_id = 'r1' AND seq = 2")
    faults = found(path)
    assert ("r1", 2, "this event was changed, or does not stand where it was written") in faults
    # Only a changed hash shows in the next event as well: that one was linked to the true one.
    assert {fault[1] for fault in faults} == ({2, 3} if column == "hash" else {2})
    assert found(path, "r2") == []


def test_missing_events_are_counted(path: Path) -> None:
    edit(path, "DELETE FROM events WHERE run_id = 'r1' AND seq IN (2, 3)")
    assert found(path) == [("r1", 4, "2 events are missing before it")]


def test_events_that_are_missing_and_closed_up_are_found(path: Path) -> None:
    edit(
        path,
        "DELETE FROM events WHERE run_id = 'r1' AND seq = 2",
        "UPDATE events SET seq = seq - 1 WHERE run_id = 'r1' AND seq > 2",
    )
    assert ("r1", 5, "1 event is missing after it") in found(path)
    assert ("r1", 2) in {fault[:2] for fault in found(path)}


def test_events_that_changed_places_are_found(path: Path) -> None:
    edit(
        path,
        "UPDATE events SET seq = 100 WHERE run_id = 'r1' AND seq = 2",
        "UPDATE events SET seq = 2 WHERE run_id = 'r1' AND seq = 3",
        "UPDATE events SET seq = 3 WHERE run_id = 'r1' AND seq = 100",
    )
    assert {fault[1] for fault in found(path)} == {2, 3, 4}


def test_an_end_that_was_cut_off_is_found(path: Path) -> None:
    edit(path, "DELETE FROM events WHERE run_id = 'r1' AND seq > 4")
    assert found(path) == [("r1", 4, "2 events are missing after it")]


def test_an_event_that_no_run_wrote_is_found(path: Path) -> None:
    edit(path, "INSERT INTO events VALUES ('r1', 7, 9.5, 'paid', NULL, '{}', 'x')")
    faults = found(path)
    assert ("r1", 6, "after it, 1 event is not written by a run") in faults


@pytest.mark.parametrize(
    "change", ["plan = '{}'", "who = 'nobody'", "request = NULL", "rehearsal = 1", "incident = ''"]
)
def test_a_changed_plan_or_person_is_found(path: Path, change: str) -> None:
    edit(path, f"UPDATE runs SET {change} WHERE run_id = 'r1'")
    [(run_id, seq, what)] = found(path)
    assert (run_id, seq) == ("r1", None)
    assert what.startswith("the run's own row was changed")


def test_a_plan_that_was_sealed_anew_does_not_fit_its_events(path: Path) -> None:
    columns = "run_id, playbook, target, rehearsal, started_at, who, incident, plan_hash, plan"
    with sqlite3.connect(path) as db:
        db.execute("UPDATE runs SET plan = '{}' WHERE run_id = 'r1'")
        row = db.execute(f"SELECT {columns}, request FROM runs WHERE run_id = 'r1'").fetchone()
        db.execute("UPDATE runs SET seal = ? WHERE run_id = 'r1'", (seal(row),))
    assert [fault[1] for fault in found(path)] == [1]


def test_a_status_that_was_made_prettier_is_found(path: Path) -> None:
    edit(path, "UPDATE runs SET status = 'failed' WHERE run_id = 'r1'")
    assert found(path) == [("r1", None, "the run's row says 'failed', its last event 'done'")]


def test_the_links_are_what_the_docs_say(path: Path) -> None:
    """Whoever audits a journal with a tool of their own comes to the same hashes."""
    with sqlite3.connect(path) as db:
        before = db.execute("SELECT seal FROM runs WHERE run_id = 'r1'").fetchone()[0]
        for *row, kept in db.execute(
            "SELECT run_id, seq, at, kind, task, data, hash FROM events WHERE run_id = 'r1'"
        ):
            before = link(before, row)
            assert kept == before


# ---- from another process ----------------------------------------------------------------------


def test_others_append_between_the_events_of_a_run_that_goes_on(tmp_path: Path) -> None:
    mine, other = (SqliteJournal(tmp_path / "journal.db") for _ in range(2))
    mine.begin(record(), {})
    mine.notice(event(1))
    other.append("r1", Event(kind="interrupted", at=2.0, data={"by": "grace"}))
    mine.notice(event(3, "intended"))
    other.append("r1", Event(kind="answered", at=4.0, data={"by": "grace"}))
    assert [each.kind for each in mine.news()] == ["interrupted", "answered"]
    assert list(mine.news()) == []
    mine.notice(event(5, "changed"))
    kept = other.run("r1")
    assert kept is not None
    kinds = [each.kind for each in kept.events]
    assert kinds == ["interrupted", "said", "intended", "answered", "changed"]
    assert list(other.verify()) == []
    assert list(mine.news()) == []


def test_a_second_look_in_one_process_takes_no_locks_from_the_first(tmp_path: Path) -> None:
    """Else another process, at its end, takes the log away that the first one still reads."""
    path = tmp_path / "journal.db"
    first, second = SqliteJournal(path), SqliteJournal(path)
    first.begin(record(), {})
    assert len(first.runs()) == 1
    script = (
        "import sys; from pathlib import Path; from runbook.adapters.journal import SqliteJournal;"
        "journal = SqliteJournal(Path(sys.argv[1])); journal.end('r1', sys.argv[2], 2.0);"
        "journal.close()"
    )
    seen = []
    for status in ("failed", "done"):
        argv = [sys.executable, "-c", script, str(path), status]
        subprocess.run(argv, check=True, timeout=60)
        seen.append(first.runs()[0].status)
    assert seen == ["failed", "done"]
    second.close()


def test_what_a_process_wrote_itself_is_no_news(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    journal.begin(record(), {})
    journal.notice(event(1, "intended"))
    assert list(journal.news()) == []
    journal.close()
    again = SqliteJournal(tmp_path / "journal.db")
    again.take_up("r1")
    assert list(again.news()) == []


def test_a_run_that_is_not_there_gets_no_word_and_is_not_taken_up(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    with pytest.raises(DoorError, match="has no run 'r9'"):
        journal.append("r9", event(1))
    with pytest.raises(DoorError, match="has no run 'r9'"):
        journal.take_up("r9")


# ---- an older file -----------------------------------------------------------------------------


def older(path: Path) -> None:
    """Write a file as version 1 did."""
    with sqlite3.connect(path) as db:
        for statement in _FIRST:
            db.execute(statement)
        db.execute("PRAGMA user_version = 1")
        db.execute(
            "INSERT INTO runs VALUES"
            " ('old', 'p', 'db', 0, 'running', 1, NULL, 'x', NULL, 'h', '{}')"
        )
        said = json.dumps({"stage": "s", "text": ""})
        db.execute("INSERT INTO events VALUES ('old', 1, 1.0, 'said', 't', ?)", (said,))


def test_an_older_file_is_brought_up_and_its_runs_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    older(path)
    journal = SqliteJournal(path)
    journal.begin(record("new"), {})
    assert [run.run_id for run in journal.runs()] == ["new", "old"]
    assert list(journal.verify()) == []
    assert list(journal.unsealed()) == ["old"]
    kept = journal.run("old")
    assert kept is not None
    assert kept.request is None
    journal.take_up("old")
    journal.notice(event(2, "intended"))
    assert list(journal.verify()) == []
    kept = journal.run("old")
    assert kept is not None
    assert [each.kind for each in kept.events] == ["said", "intended"]


def test_two_processes_that_find_an_older_file_bring_it_up_once(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    older(path)
    first, second = SqliteJournal(path), SqliteJournal(path)
    first.begin(record("a"), {})
    second.begin(record("b"), {})
    assert [run.run_id for run in first.runs()] == ["b", "a", "old"]


# ---- the length of it --------------------------------------------------------------------------


def test_pruning_forgets_what_ended_before_and_keeps_what_is_open(path: Path) -> None:
    journal = SqliteJournal(path)
    journal.begin(record("lost"), {})
    journal.begin(record("waits"), {})
    journal.notice(event(1, "asked"))
    journal.end("waits", "waiting", 2.0)
    journal.begin(record("later"), {})
    journal.end("later", "done", 99.0)
    assert journal.prune(50.0) == 2
    assert [run.run_id for run in journal.runs()] == ["later", "waits", "lost"]
    assert list(journal.verify()) == []
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT DISTINCT run_id FROM events").fetchall() == [("waits",)]
    journal.begin(record("r1", started_at=0.5), {})
    assert journal.runs(1)[0].run_id == "r1"


def test_a_journal_that_cannot_be_written_says_so_and_keeps_what_waits(path: Path) -> None:
    journal = SqliteJournal(path)
    journal.begin(record("r3"), {})
    journal._db.execute("PRAGMA query_only = ON")
    with pytest.raises(DoorError, match="cannot be written"):
        journal.notice(event(1, "changed"))
    journal._db.execute("PRAGMA query_only = OFF")
    journal.notice(event(2, "intended"))
    kept = journal.run("r3")
    assert kept is not None
    assert [each.data["text"] for each in kept.events] == ["1", "2"]
    assert list(journal.verify()) == []


@pytest.mark.parametrize("kind", ["intended", "owed"])
def test_what_was_refused_because_it_could_not_be_kept_is_never_kept(
    path: Path, kind: Kind
) -> None:
    """It was not done; a row that comes later would say that it may have been."""
    journal = SqliteJournal(path)
    journal.begin(record("r3"), {})
    journal.notice(event(1))
    journal._db.execute("PRAGMA query_only = ON")
    with pytest.raises(DoorError, match="cannot be written"):
        journal.notice(event(2, kind))
    journal._db.execute("PRAGMA query_only = OFF")
    journal.close()
    kept = SqliteJournal(path).run("r3")
    assert kept is not None
    assert [each.data["text"] for each in kept.events] == ["1"]


def test_a_run_is_open_again_once_it_was_resumed_and_not_before(path: Path) -> None:
    journal = SqliteJournal(path)
    journal.begin(record("r3"), {})
    journal.end("r3", "waiting", 2.0)
    journal.take_up("r3")
    assert journal.runs()[0].status == "waiting"
    journal.notice(event(1, "resumed"))
    assert journal.runs()[0].status == "running"


@pytest.mark.parametrize("damage", ["{", "[]"])
def test_a_damaged_event_is_told_as_one(path: Path, damage: str) -> None:
    journal = SqliteJournal(path)
    journal.begin(record("r3"), {})
    journal.notice(event(1, "intended"))
    with sqlite3.connect(path) as db:
        db.execute("UPDATE events SET data = ?", (damage,))
    with pytest.raises(DoorError, match="not as it was written") as caught:
        journal.run("r3")
    assert "runs verify" in (caught.value.hint or "")
    journal._seen = 0
    with pytest.raises(DoorError, match="not as it was written"):
        journal.news()


def owing(journal: SqliteJournal, run_id: str, *kinds: Kind) -> None:
    """Keep a run that ended long ago, and what it came to owe and paid."""
    journal.begin(record(run_id), {})
    for kind in kinds:
        journal.notice(Event(kind=kind, at=1.0, task="t", data={"key": "undrain web-1"}))
    journal.end(run_id, "failed", 2.0)


def test_pruning_keeps_what_still_owes(path: Path) -> None:
    journal = SqliteJournal(path)
    owing(journal, "paid", "owed", "paid")
    owing(journal, "owes", "owed", "paid", "owed")
    journal.prune(50.0)
    assert [run.run_id for run in journal.runs()] == ["owes"]


def test_pruning_locks_nobody_out_for_long(path: Path) -> None:
    """The file is not written anew, and a few runs at a time are forgotten."""
    journal = SqliteJournal(path)
    for number in range(45):
        owing(journal, f"n{number}")
    asked: list[str] = []
    journal._db.set_trace_callback(asked.append)
    assert journal.prune(50.0) == 47
    assert not any("VACUUM" in each.upper() for each in asked)
    assert asked.count("BEGIN IMMEDIATE") == 3


def test_what_must_precede_a_change_waits_longer_for_another_process(path: Path) -> None:
    journal = SqliteJournal(path, busy_s=0.05, patient_s=7.0)
    journal.begin(record("r3"), {})
    asked: list[str] = []
    journal._db.set_trace_callback(asked.append)
    journal.notice(event(1, "changed"))
    assert not any("busy_timeout" in each for each in asked)
    journal.notice(event(2, "intended"))
    waits = [each for each in asked if "busy_timeout" in each or "BEGIN" in each]
    assert waits[1:] == [
        "PRAGMA busy_timeout = 7000",
        "BEGIN IMMEDIATE",
        "PRAGMA busy_timeout = 50",
    ]
