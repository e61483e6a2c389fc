"""The inbox: every event that was accepted, in one SQLite file, on disk before anybody is told so.

One process has it at a time, `runbook serve`; anybody may read it.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runbook.adapters.group_commit import GroupCommit
from runbook.adapters.inbox_schema import STEPS
from runbook.adapters.sqlite_file import connect, migrate
from runbook.model.alert import Alert
from runbook.model.errors import DoorError
from runbook.model.intake import Entry, QueueFull, Settled, State

#: Seconds that a row is kept beyond its event. A source sends again for up to 48 hours
#: (PagerDuty), so that a key must outlast them; what led to a run is looked up for cool-downs, and
#: by people.
_KEPT_S = {"queued": 7 * 86_400.0, "ignored": 7 * 86_400.0}
_KEPT_LONGER_S = 40 * 86_400.0

#: Seconds that a write waits for somebody who reads or copies the file. A caller has five at most.
_BUSY_S = 2.0

#: Rows forgotten in one go, and seconds between two goes: nobody waits long for it.
_FORGOTTEN, _FORGET_EVERY_S = 500, 60.0

#: Seconds between two checkpoints by whoever settles; pages in the log (64 MB) at which whoever
#: writes has to see to it after all, because nobody settles.
_CHECKPOINT_EVERY_S, _LOG_PAGES = 2.0, 16_000

_ENTRY = "number, alert, received_at, state, why, rule, target, run_id, ran_at"


class SqliteInbox:
    """See `runbook.model.intake.Inbox`. One file, mode 0600, WAL, synchronous=FULL."""

    def __init__(self, path: Path, *, limit: int, busy_s: float = _BUSY_S) -> None:
        """Open or create it; more than `limit` queued events are refused.

        Raises:
            DoorError: when it cannot be created or is not an inbox of this version.
        """
        self._path = path
        self._limit = limit
        self._busy_s = busy_s
        self._lock = threading.Lock()
        self._forget_at = self._checkpoint_at = 0.0
        with self._translated("opened"):
            self._db = self._connect()
            migrate(self._db, STEPS, f"the inbox {path}")
            self._writer = GroupCommit(self._connect())
        self._trouble = ""

    def put(self, alerts: Sequence[Alert], at: float) -> int:
        """Keep events, each key once for good; see `Inbox`."""
        # Made before it is our turn: everybody waits for the one whose turn it is.
        rows = [_row(alert, at) for alert in alerts]
        try:
            with self._translated("written"):
                new = self._writer.do(lambda db: self._insert(db, rows))
        except DoorError as error:
            self._trouble = error.message
            raise
        self._trouble = ""
        return new

    def trouble(self) -> str:
        """Return why the last events could not be kept; see `Inbox`."""
        return self._trouble

    def queued(self, limit: int = 100) -> Sequence[Entry]:
        """Return events that nobody has looked at, the oldest first."""
        return self._read("WHERE state = 'queued' ORDER BY number LIMIT ?", limit)

    def waiting(self) -> int:
        """Return how many events nobody has looked at."""
        with self._lock, self._translated("read"):
            return _count_queued(self._db)

    def settle(self, settled: Sequence[Settled]) -> None:
        """Note what became of events; see `Inbox`."""
        rows = [_settling(one) for one in settled]
        with self._translated("written"):
            self._writer.do(
                lambda db: db.executemany(
                    "UPDATE entries SET state = ?, why = ?, rule = ?, target = ?, run_id = ?,"
                    " ran_at = CASE ? WHEN 'ran' THEN coalesce(?, received_at) END,"
                    " until = until + ? WHERE number = ? AND state = 'queued'",
                    rows,
                )
            )
            self._checkpoint()

    def recent(self, limit: int = 50) -> Sequence[Entry]:
        """Return the newest events, the newest first."""
        return self._read("ORDER BY number DESC LIMIT ?", limit)

    def ran_since(self, since: float) -> Sequence[Entry]:
        """Return the events that led to a run since a moment, by when it began."""
        return self._read("WHERE state = 'ran' AND ran_at >= ? ORDER BY ran_at, number", since)

    def close(self) -> None:
        """Write what was asked for, and let go of the file; may be called twice."""
        self._writer.close()
        with self._lock, suppress(sqlite3.Error):
            self._db.close()

    # ---- writing -----------------------------------------------------------------------------

    def _insert(self, db: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        self._forget_old(db)
        before = db.total_changes
        db.executemany(
            "INSERT INTO entries (key, alert, received_at, until, state, why, run_id)"
            " VALUES (?, ?, ?, ?, 'queued', '', ?) ON CONFLICT (key) DO NOTHING",
            rows,
        )
        new = db.total_changes - before
        waiting = _count_queued(db) if new else 0
        # A call that is larger than the queue would never fit: an empty one takes it all the same.
        if waiting > max(self._limit, new):
            raise QueueFull(f"{self._limit} events wait already")
        return new

    def _checkpoint(self) -> None:
        """Bring the log into the file beside those who write: none of them waits for it."""
        if time.monotonic() < self._checkpoint_at:
            return
        self._checkpoint_at = time.monotonic() + _CHECKPOINT_EVERY_S
        with self._lock:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _forget_old(self, db: sqlite3.Connection) -> None:
        """Forget what nobody asks for any more; it rides along with a transaction."""
        if time.monotonic() < self._forget_at:
            return
        self._forget_at = time.monotonic() + _FORGET_EVERY_S
        db.execute(
            "DELETE FROM entries WHERE number IN (SELECT number FROM entries"
            " WHERE state <> 'queued' AND until < ? LIMIT ?)",
            (time.time(), _FORGOTTEN),
        )

    # ---- reading -----------------------------------------------------------------------------

    def _read(self, which: str, value: float) -> Sequence[Entry]:
        with self._lock, self._translated("read"):
            rows = self._db.execute(f"SELECT {_ENTRY} FROM entries {which}", (value,))  # noqa: S608
            return [_entry(*row) for row in rows]

    def _connect(self) -> sqlite3.Connection:
        db = connect(self._path, busy_s=self._busy_s)
        db.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        return db

    @contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, KeyError, TypeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise DoorError(
                f"the inbox {self._path} cannot be {verb}: {why}",
                hint="free the disk or mend its permissions, or set RUNBOOK_STATE to a directory"
                " that can be written",
            ) from error


def _row(alert: Alert, at: float) -> tuple[Any, ...]:
    until = max(at, alert.at or 0.0) + _KEPT_S["queued"]
    # JSON may spell half a character; SQLite takes none.
    key = alert.key.encode(errors="backslashreplace").decode()
    return (key, json.dumps(asdict(alert)), at, until, _run_id(at))


def _run_id(at: float) -> str:
    """Return an id that sorts by time; longer than a person's, for a storm has many in a second."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(at))}-{secrets.token_hex(4)}"


def _count_queued(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM entries WHERE state = 'queued'").fetchone()[0])


def _settling(one: Settled) -> tuple[Any, ...]:
    longer = 0.0 if one.state in _KEPT_S else _KEPT_LONGER_S - _KEPT_S["queued"]
    of_run = (one.rule, one.target, one.run_id, one.state, one.ran_at)
    return (one.state, one.why, *of_run, longer, one.number)


def _entry(  # noqa: PLR0917 - a row
    number: int,
    alert: str,
    received_at: float,
    state: State,
    why: str,
    rule: str | None,
    target: str | None,
    run_id: str | None,
    ran_at: float | None,
) -> Entry:
    return Entry(
        number=number,
        alert=Alert(**json.loads(alert)),
        received_at=received_at,
        state=state,
        why=why,
        rule=rule,
        target=target,
        run_id=run_id,
        ran_at=ran_at,
    )
