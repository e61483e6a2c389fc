"""The journal: every run and its events in one SQLite file, synced before anything is changed."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runbook.model.errors import DoorError
from runbook.model.events import Event
from runbook.model.ports import RunRecord

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY,
    playbook TEXT NOT NULL,
    target TEXT,
    rehearsal INTEGER NOT NULL,
    status TEXT NOT NULL,
    started_at REAL NOT NULL,
    ended_at REAL,
    who TEXT NOT NULL,
    incident TEXT,
    plan_hash TEXT NOT NULL,
    plan TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS events (
    run_id TEXT NOT NULL REFERENCES runs,
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    task TEXT,
    data TEXT NOT NULL,
    PRIMARY KEY (run_id, seq)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
"""

#: Events that must be on disk before `notice` returns, and so must the end of a task that intended
#: a change. The others wait in memory and ride along with the next one, so that no transaction
#: stays open beside another run's, and a look at 200 hosts does not wait for the disk 200 times. A
#: crash may lose how far a look had come, never that a change was intended.
_SYNCED = frozenset({"intended", "changed", "asked", "answered", "finished"})


#: Runs that `last_results` looks at: a database that was down for a while leaves some behind that
#: have no result.
_LOOKED_BACK = 20


class SqliteJournal:
    """One file, mode 0600, WAL, synchronous=FULL; used from several threads, one at a time."""

    def __init__(self, path: Path) -> None:
        """Open or create the journal.

        Raises:
            DoorError: when it cannot be created or is not a journal of this version.
        """
        self._path = path
        self._lock = threading.Lock()
        self._seq = 0
        self._run_id = ""
        self._waiting: list[tuple[Any, ...]] = []
        self._changing: set[str | None] = set()
        with self._translated("opened"):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(
                path, timeout=5.0, check_same_thread=False, isolation_level=None
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._migrate()

    def begin(self, record: RunRecord, plan: dict[str, Any]) -> None:
        """Open a run; its events follow by `notice`."""
        row = (
            record.run_id,
            record.playbook,
            record.target,
            int(record.rehearsal),
            record.status,
            record.started_at,
            record.ended_at,
            record.who,
            record.incident,
            record.plan_hash,
            json.dumps(plan),
        )
        with self._lock, self._translated("written"):
            self._run_id, self._seq = record.run_id, 0
            self._db.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def notice(self, event: Event) -> None:
        """Keep an event; on disk on return when it speaks of a change."""
        with self._lock, self._translated("written"):
            self._seq += 1
            row = (self._run_id, self._seq, event.at, event.kind, event.task)
            self._waiting.append((*row, json.dumps(event.data)))
            if self._urgent(event):
                self._flush()

    def end(self, run_id: str, status: str, at: float) -> None:
        """Close a run."""
        with self._lock, self._translated("written"):
            self._flush()
            self._db.execute(
                "UPDATE runs SET status = ?, ended_at = ? WHERE run_id = ?", (status, at, run_id)
            )

    def runs(self, limit: int = 20) -> Sequence[RunRecord]:
        """Return the newest runs first."""
        with self._lock, self._translated("read"):
            cursor = self._db.execute(
                "SELECT run_id, playbook, target, rehearsal, status, started_at, ended_at, who,"
                " incident, plan_hash FROM runs ORDER BY started_at DESC LIMIT ?",
                (limit,),
            )
            return [_record(row) for row in cursor]

    def run(self, run_id: str) -> tuple[RunRecord, dict[str, Any], Sequence[Event]] | None:
        """Return one run, its plan and its events; None when there is none of that id."""
        with self._lock, self._translated("read"):
            row = self._db.execute(
                "SELECT run_id, playbook, target, rehearsal, status, started_at, ended_at, who,"
                " incident, plan_hash, plan FROM runs WHERE run_id = ?",
                (run_id,),
            ).fetchone()
            if row is None:
                return None
            events = self._db.execute(
                "SELECT kind, at, task, data FROM events WHERE run_id = ? ORDER BY seq", (run_id,)
            )
            return _record(row[:-1]), json.loads(row[-1]), [_event(*each) for each in events]

    def last_results(
        self, playbook: str, targets: Sequence[str], before: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what the tasks of a playbook's latest runs returned; see `Journal`."""
        with self._lock, self._translated("read"):
            # Ids sort by time, to the second: walking their index down reads no older run.
            runs = self._db.execute(
                "SELECT started_at, run_id FROM runs WHERE playbook = ? AND run_id <> ?"
                " AND target IN (SELECT value FROM json_each(?)) ORDER BY run_id DESC LIMIT ?",
                (playbook, before, json.dumps(list(targets)), _LOOKED_BACK),
            ).fetchall()
        for _, run_id in sorted(runs, reverse=True):
            with self._lock, self._translated("read"):
                rows = self._db.execute(
                    "SELECT data FROM events WHERE run_id = ? AND kind = 'task_finished'"
                    " ORDER BY seq",
                    (run_id,),
                ).fetchall()
            for (data,) in rows:
                yield run_id, json.loads(data)["result"]["data"]

    def close(self) -> None:
        """Close the file; what was not yet synced is."""
        with self._lock, self._translated("closed"):
            self._flush()
            self._db.close()

    def _urgent(self, event: Event) -> bool:
        if event.kind == "intended":
            self._changing.add(event.task)
        ended = event.kind == "task_finished" and event.task in self._changing
        return ended or event.kind in _SYNCED

    def _flush(self) -> None:
        """Write what waits in one transaction; on failure it keeps waiting."""
        if not self._waiting:
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", self._waiting)
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._waiting.clear()

    def _migrate(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._db.executescript(_SCHEMA)
        elif version != 1:
            raise DoorError(
                f"the journal {self._path} is of version {version}; this runbook knows version 1",
                hint="upgrade runbook, or set RUNBOOK_STATE to another directory",
            )

    @contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise DoorError(
                f"the journal {self._path} cannot be {verb}: {why}",
                hint="free the disk or mend its permissions, or set RUNBOOK_STATE to a directory"
                " that can be written",
            ) from error


def _record(row: tuple[Any, ...]) -> RunRecord:
    names = (
        "run_id",
        "playbook",
        "target",
        "rehearsal",
        "status",
        "started_at",
        "ended_at",
        "who",
        "incident",
        "plan_hash",
    )
    values = dict(zip(names, row, strict=True))
    return RunRecord(**{**values, "rehearsal": bool(values["rehearsal"])})


def _event(kind: Any, at: float, task: str | None, data: str) -> Event:
    return Event(kind=kind, at=at, task=task, data=json.loads(data))
