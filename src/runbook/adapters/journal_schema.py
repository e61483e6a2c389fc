"""The journal's tables, and how a file of an older runbook becomes one of this."""

from __future__ import annotations

#: What version 1 had.
_FIRST = (
    """CREATE TABLE runs (
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
) STRICT""",
    """CREATE TABLE events (
    run_id TEXT NOT NULL REFERENCES runs,
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    task TEXT,
    data TEXT NOT NULL,
    PRIMARY KEY (run_id, seq)
) STRICT, WITHOUT ROWID""",
)

#: number  in which order runs began: neither the clock nor an id says so for sure
#: request  what was asked for, as JSON; NULL for runs of version 1
#: kept, last, seal  the hash chain, see journal_chain.py; NULL for runs of version 1
_SECOND = (
    "ALTER TABLE runs ADD COLUMN number INTEGER",
    "ALTER TABLE runs ADD COLUMN request TEXT",
    "ALTER TABLE runs ADD COLUMN seal TEXT",
    "ALTER TABLE runs ADD COLUMN kept INTEGER",
    "ALTER TABLE runs ADD COLUMN last TEXT",
    "ALTER TABLE events ADD COLUMN hash TEXT",
    "UPDATE runs SET number = rowid",
    "CREATE UNIQUE INDEX runs_by_number ON runs (number)",
)

STEPS = (_FIRST, _SECOND)
