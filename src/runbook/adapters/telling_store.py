"""What was told of runs, and what is to be: one SQLite file beside the journal."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runbook.adapters.sqlite_file import connect, migrate
from runbook.model.errors import DoorError
from runbook.model.intake import Told

_FIRST = (
    # number: in which order things became due.
    """CREATE TABLE told (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL,
    recipient TEXT NOT NULL,
    key TEXT NOT NULL,
    content TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_at REAL NOT NULL,
    remote_id TEXT,
    why TEXT NOT NULL,
    since REAL NOT NULL,
    sent_at REAL,
    UNIQUE (run_id, recipient, key)
) STRICT""",
    "CREATE INDEX told_due ON told (number) WHERE state = 'due'",
    # What `diagnose --check --alert` has said last of a database, by dedup key.
    "CREATE TABLE alarms (key TEXT PRIMARY KEY, said TEXT NOT NULL) STRICT",
)
_COLUMNS = (
    "run_id, recipient, key, content, state, attempts, next_at, remote_id, why, since, sent_at"
)
#: Seconds that a write waits for another process'.
_BUSY_S = 5.0


class TellingStore:
    """One file, mode 0600, WAL, synchronous=FULL; used from several threads, one at a time."""

    def __init__(self, path: Path) -> None:
        """Open or create it.

        Raises:
            DoorError: when it cannot be opened.
        """
        self._path = path
        self._lock = threading.Lock()
        with self._translated("opened"):
            self._db = connect(path, busy_s=_BUSY_S)
            migrate(self._db, (_FIRST,), f"what was told of runs ({path})")

    def of(self, run_id: str, recipient: str) -> Mapping[str, Told]:
        """Return what one recipient was, or is to be, told of one run, by key, in order."""
        rows = self._rows("WHERE run_id = ? AND recipient = ? ORDER BY number", run_id, recipient)
        return {told.key: told for told in rows}

    def keep(self, told: Told) -> None:
        """Keep one thing as it is now; on disk on return."""
        values = (
            *(told.run_id, told.recipient, told.key, json.dumps(dict(told.content)), told.state),
            *(told.attempts, told.next_at, told.remote_id, told.why, told.since, told.sent_at),
        )
        with self._lock, self._translated("written"):
            self._db.execute(
                f"INSERT INTO told ({_COLUMNS}) VALUES ({', '.join('?' * len(values))})"  # noqa: S608
                " ON CONFLICT DO UPDATE SET content = excluded.content, state = excluded.state,"
                " attempts = excluded.attempts, next_at = excluded.next_at,"
                " remote_id = excluded.remote_id, why = excluded.why, since = excluded.since,"
                " sent_at = excluded.sent_at",
                values,
            )

    def pending(self) -> Sequence[Told]:
        """Return what is due still, the oldest first."""
        return self._rows("WHERE state = 'due' ORDER BY number")

    def given_up(self, limit: int = 50) -> Sequence[Told]:
        """Return what nobody tries to tell any more, the newest first."""
        return self._rows("WHERE state = 'given-up' ORDER BY number DESC LIMIT ?", limit)

    def forget(self, before: float) -> None:
        """Forget what became due before a moment and is not due any more."""
        with self._lock, self._translated("written"):
            self._db.execute("DELETE FROM told WHERE since < ? AND state <> 'due'", (before,))

    def said_of(self, key: str) -> Mapping[str, Any] | None:
        """Return what was kept last of an alert of our own; None when nothing was."""
        with self._lock, self._translated("read"):
            found = self._db.execute("SELECT said FROM alarms WHERE key = ?", (key,)).fetchone()
            said = json.loads(found[0]) if found else None
        return said if isinstance(said, dict) else None

    def say_of(self, key: str, said: Mapping[str, Any]) -> None:
        """Keep what was said last of an alert of our own."""
        with self._lock, self._translated("written"):
            self._db.execute(
                "INSERT INTO alarms (key, said) VALUES (?, ?)"
                " ON CONFLICT DO UPDATE SET said = excluded.said",
                (key, json.dumps(dict(said))),
            )

    def close(self) -> None:
        """Let go of the file."""
        with self._lock, self._translated("closed"):
            self._db.close()

    def _rows(self, where: str, *values: Any) -> list[Told]:
        with self._lock, self._translated("read"):
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM told {where}", values)  # noqa: S608
            return [_told(row) for row in rows]

    @contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise DoorError(
                f"what was told of runs ({self._path}) cannot be {verb}: {why}",
                hint="free the disk or mend its permissions; nothing is lost but news of runs",
            ) from error


def _told(row: tuple[Any, ...]) -> Told:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    return Told(**{**values, "content": json.loads(values["content"])})
