"""What our SQLite files have alike: for their owner alone, synced at each commit, versioned."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from runbook.model.errors import DoorError

#: One sequence of statements for each version: what makes a file of the one before into it. A new
#: file takes the same road as an old one.
Steps = Sequence[Sequence[str]]


def connect(path: Path, *, busy_s: float) -> sqlite3.Connection:
    """Open or create a file, mode 0600, WAL, synchronous=FULL, without implicit transactions.

    A write waits `busy_s` seconds for another process'. The connection may be used from any
    thread, by one at a time.

    Raises:
        OSError, sqlite3.Error: when it cannot be.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A file that is there is not opened: SQLite's locks belong to the process, and closing the file
    # here would free those that another connection of this process holds on it.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, timeout=busy_s, check_same_thread=False, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    return db


def migrate(db: sqlite3.Connection, steps: Steps, what: str) -> None:
    """Bring a file up to the last of its versions, in one transaction; `what` names it to people.

    Raises:
        DoorError: when a newer runbook has made it; it is left as it is.
        sqlite3.Error: when it cannot be written, or is no file of SQLite's.
    """
    if _version(db) < len(steps):
        _take(db, steps)
    if _version(db) != len(steps):
        raise DoorError(
            f"{what} is of version {_version(db)}; this runbook knows version {len(steps)}",
            hint="upgrade runbook, or set RUNBOOK_STATE to another directory",
        )


def _take(db: sqlite3.Connection, steps: Steps) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been here since.
        for step in steps[_version(db) :]:
            for statement in step:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {max(_version(db), len(steps))}")
        db.execute("COMMIT")
    except sqlite3.Error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
