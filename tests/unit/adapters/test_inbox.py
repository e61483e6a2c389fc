"""The inbox: once for good, all or nothing, in order, and what is forgotten when."""

from __future__ import annotations

import sqlite3
import stat
import threading
import time
from pathlib import Path

import pytest

from runbook.adapters.group_commit import GroupCommit
from runbook.adapters.inbox import SqliteInbox
from runbook.adapters.inbox_schema import STEPS
from runbook.model.alert import Alert
from runbook.model.errors import DoorError
from runbook.model.intake import QueueFull, Settled


def _alert(key: str, **more: object) -> Alert:
    said = {"source": "pagerduty", "hook": "pd", "event": "incident.triggered", **more}
    return Alert(key=key, **said)  # type: ignore[arg-type]


def test_an_event_comes_back_as_it_was(tmp_path: Path) -> None:
    """After another process has opened the file."""
    whole = _alert("k", at=1.5, labels={"a": "ä\ud800"}, by="P1", title="x", incident="Q1234567")
    inbox = SqliteInbox(tmp_path / "s" / "serve.db", limit=10)
    inbox.put([whole], 100.0)
    inbox.close()
    again = SqliteInbox(tmp_path / "s" / "serve.db", limit=10)
    [entry] = again.queued()
    again.close()
    assert (entry.alert, entry.received_at, entry.state) == (whole, 100.0, "queued")
    assert stat.S_IMODE((tmp_path / "s" / "serve.db").stat().st_mode) == 0o600


def test_a_key_is_taken_once_whatever_became_of_it(tmp_path: Path) -> None:
    """In one call, in another one, and after it was settled."""
    inbox = SqliteInbox(tmp_path / "serve.db", limit=10)
    assert inbox.put([_alert("a"), _alert("a"), _alert("b")], 1.0) == 2
    for entry in inbox.queued():
        inbox.settle([Settled(number=entry.number, state="ignored", why="no rule")])
    assert inbox.put([_alert("a"), _alert("c")], 2.0) == 1
    assert [entry.alert.key for entry in inbox.queued()] == ["c"]
    inbox.close()


def test_a_call_that_is_larger_than_the_queue_fits_when_nothing_waits(tmp_path: Path) -> None:
    """Alertmanager sends a group in one call, again and again until it is taken."""
    inbox = SqliteInbox(tmp_path / "serve.db", limit=2)
    assert inbox.put([_alert(key) for key in "abc"], 1.0) == 3
    with pytest.raises(QueueFull):
        inbox.put([_alert("d")], 1.0)
    inbox.close()


def test_a_queue_that_is_full_takes_none_of_a_call(tmp_path: Path) -> None:
    """And what is settled makes room."""
    inbox = SqliteInbox(tmp_path / "serve.db", limit=2)
    inbox.put([_alert("a")], 1.0)
    with pytest.raises(QueueFull):
        inbox.put([_alert("b"), _alert("c")], 1.0)
    assert inbox.waiting() == 1
    inbox.settle([Settled(number=inbox.queued()[0].number, state="ignored", why="")])
    assert inbox.put([_alert("b"), _alert("c")], 1.0) == 2
    inbox.close()


def test_calls_of_many_threads_are_all_kept(tmp_path: Path) -> None:
    """One that does not fit spoils none that shares its transaction."""
    inbox = SqliteInbox(tmp_path / "serve.db", limit=100)
    inbox.put([_alert("waits")], 1.0)
    refused: list[int] = []

    def call(number: int) -> None:
        many = 1 if number % 10 else 200
        try:
            inbox.put([_alert(f"{number}-{n}") for n in range(many)], 1.0)
        except QueueFull:
            refused.append(number)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(refused) == list(range(0, 100, 10))
    assert len({entry.run_id for entry in inbox.queued(1000)}) == 91
    inbox.close()


def test_what_became_of_events(tmp_path: Path) -> None:
    """An event is settled once; those that ran are found by when they came."""
    inbox = SqliteInbox(tmp_path / "serve.db", limit=10)
    inbox.put([_alert("a"), _alert("b")], 10.0)
    inbox.put([_alert("c")], 20.0)
    a, b, c = inbox.queued()
    inbox.settle(
        [Settled(number=a.number, state="ran", why="", rule="r", target="t", run_id=a.run_id)]
    )
    inbox.settle([Settled(number=a.number, state="failed", why="too late")])
    inbox.settle([Settled(number=b.number, state="ignored", why="no rule")])
    inbox.settle([Settled(number=c.number, state="ran", why="", rule="r", run_id=c.run_id)])
    assert [entry.alert.key for entry in inbox.ran_since(0.0)] == ["a", "c"]
    assert [entry.alert.key for entry in inbox.ran_since(15.0)] == ["c"]
    assert [(e.alert.key, e.state, e.run_id is None) for e in inbox.recent()] == [
        ("c", "ran", False),
        ("b", "ignored", True),
        ("a", "ran", False),
    ]
    inbox.close()


def test_a_run_counts_from_when_it_began(tmp_path: Path) -> None:
    """Its event may have waited; an inbox of before knew only when that came."""
    path = tmp_path / "serve.db"
    with sqlite3.connect(path) as old:
        for statement in STEPS[0]:
            old.execute(statement)
        old.execute("PRAGMA user_version = 1")
    inbox = SqliteInbox(path, limit=10)
    inbox.put([_alert("a")], 10.0)
    [a] = inbox.queued()
    inbox.settle([Settled(number=a.number, state="ran", run_id=a.run_id, ran_at=90.0)])
    assert [entry.ran_at for entry in inbox.ran_since(80.0)] == [90.0]
    inbox.close()


def test_what_nobody_asks_for_is_forgotten(tmp_path: Path) -> None:
    """A key outlasts 72 hours after its event, and the events of a run weeks; queued ones stay."""
    now, day = time.time(), 86_400.0
    ages = {"old": 8, "young": 3.1, "ran": 30, "ran-old": 48, "waits": 60}
    inbox = SqliteInbox(tmp_path / "serve.db", limit=10)
    for key, days in ages.items():
        inbox.put([_alert(key)], now - days * day)
    inbox.put([_alert("later", at=now - day)], now - 8 * day)  # its clock was ahead
    for entry in inbox.queued():
        if entry.alert.key.startswith("ran"):
            inbox.settle([Settled(number=entry.number, state="ran", why="", run_id=entry.run_id)])
        elif entry.alert.key != "waits":
            inbox.settle([Settled(number=entry.number, state="ignored", why="")])
    inbox.close()
    again = SqliteInbox(tmp_path / "serve.db", limit=10)
    again.put([], now)
    kept = {entry.alert.key for entry in again.recent()}
    again.close()
    assert kept == {"young", "ran", "waits", "later"}


def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    """Each time the path is named, and what to do."""
    (tmp_path / "dir").mkdir()
    with pytest.raises(DoorError, match="cannot be opened"):
        SqliteInbox(tmp_path / "dir", limit=10)
    (tmp_path / "text").write_text("no database, but longer than its header would be" * 9)
    with pytest.raises(DoorError, match="cannot be opened"):
        SqliteInbox(tmp_path / "text", limit=10)
    SqliteInbox(tmp_path / "newer", limit=10).close()
    db = sqlite3.connect(tmp_path / "newer")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(DoorError, match="is of version 99"):
        SqliteInbox(tmp_path / "newer", limit=10)


def test_nothing_is_kept_after_it_was_closed(tmp_path: Path) -> None:
    """An answer that came too late is an error, not a loss."""
    inbox = SqliteInbox(tmp_path / "serve.db", limit=10)
    inbox.close()
    inbox.close()
    with pytest.raises(DoorError):
        inbox.put([_alert("a")], 1.0)


def test_a_transaction_that_cannot_be_written_fails_all_who_share_it(tmp_path: Path) -> None:
    """And the next one is written."""

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(
            tmp_path / "db", check_same_thread=False, isolation_level=None, timeout=0.1
        )

    commits = GroupCommit(connect())
    commits.do(lambda db: db.execute("CREATE TABLE t (x)"))
    other = connect()
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError):
        commits.do(lambda db: db.execute("INSERT INTO t VALUES (1)"))
    other.execute("ROLLBACK")
    commits.do(lambda db: db.execute("INSERT INTO t VALUES (2)"))
    commits.close()
    assert connect().execute("SELECT x FROM t").fetchall() == [(2,)]
