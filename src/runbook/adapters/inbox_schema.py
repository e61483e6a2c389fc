"""The inbox's table, and how a file of an older runbook becomes one of this."""

from __future__ import annotations

import sqlite3

VERSION = 2

#: key     the same event, when it comes again, has it too
#: alert   the event, as JSON
#: run_id  made with the row: whatever becomes of this process, an event has one run at most
#: until   when the row may be forgotten, in seconds since the epoch; later for what led to a run
_FIRST = (
    """CREATE TABLE entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    alert TEXT NOT NULL,
    received_at REAL NOT NULL,
    until REAL NOT NULL,
    state TEXT NOT NULL,
    why TEXT NOT NULL,
    rule TEXT,
    target TEXT,
    run_id TEXT UNIQUE
) STRICT""",
    "CREATE INDEX entries_queued ON entries (number) WHERE state = 'queued'",
    "CREATE INDEX entries_ran ON entries (received_at) WHERE state = 'ran'",
    "CREATE INDEX entries_until ON entries (until) WHERE state <> 'queued'",
)

#: ran_at  when its run began: cool-downs count from then, however long the event had waited
_SECOND = (
    "ALTER TABLE entries ADD COLUMN ran_at REAL",
    "UPDATE entries SET ran_at = received_at WHERE state = 'ran'",
    "DROP INDEX entries_ran",
    "CREATE INDEX entries_ran ON entries (ran_at) WHERE state = 'ran'",
)

_STEPS = {0: _FIRST, 1: _SECOND}


def migrate(db: sqlite3.Connection) -> int:
    """Bring an inbox up to this version, in one transaction; return the version that it has.

    A file of a newer runbook is left as it is: its version is returned for the caller to refuse.

    Raises:
        sqlite3.Error: when it cannot be written, or is no inbox.
    """
    if _version(db) >= VERSION:
        return _version(db)
    db.execute("BEGIN IMMEDIATE")
    try:
        for version in range(_version(db), VERSION):
            for statement in _STEPS[version]:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except sqlite3.Error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return _version(db)


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
