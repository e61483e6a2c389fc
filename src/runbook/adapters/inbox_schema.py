"""The inbox's table, and how a file of an older runbook becomes one of this."""

from __future__ import annotations

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

STEPS = (_FIRST, _SECOND)
