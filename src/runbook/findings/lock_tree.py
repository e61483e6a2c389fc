"""Who waits for whose lock, and who is at the root of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook.model.effects import Question

if TYPE_CHECKING:
    from runbook.model.sessions import Snapshot

#: Waiting sessions that are looked into. pg_blocking_pids() takes the lock manager's locks for a
#: moment, once for each, so it is never asked for thousands; the longest waiting tell the root,
#: as whoever queues later queues behind them.
LOOKED_INTO = 100

QUESTION = Question(
    name="lock-waits",
    sql=f"""
WITH waiting AS MATERIALIZED (
  SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'
   ORDER BY state_change LIMIT {LOOKED_INTO})
SELECT pid, pg_blocking_pids(pid) AS blockers FROM waiting""",  # noqa: S608 - a constant, made of constants
)

#: What pg_blocking_pids() calls a prepared transaction.
PREPARED_TRANSACTION = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class LockTree:
    """The waits between sessions, by pid."""

    #: Waiting pid -> the pids that it waits for directly.
    waits_for: dict[int, tuple[int, ...]]
    #: Root pid -> how many of those looked into wait for it, directly or through others.
    roots: dict[int, int]
    #: Sessions in a lock wait, whether looked into or not.
    waiting: int
    #: True when every lock wait was looked into and none of the answers is missing.
    complete: bool

    @property
    def blockers(self) -> frozenset[int]:
        """Every pid that somebody waits for."""
        return frozenset(pid for pids in self.waits_for.values() for pid in pids)


def lock_tree(snapshot: Snapshot) -> LockTree:
    """Return the tree of lock waits in a snapshot."""
    rows = snapshot.extra.get(QUESTION.name)
    waits = {row["pid"]: tuple(row["blockers"]) for row in rows or () if row["blockers"]}
    waiting = sum(s.wait_event_type == "Lock" for s in snapshot.sessions)
    return LockTree(
        waits_for=waits,
        roots=dict(_roots(waits).most_common()),
        waiting=waiting,
        complete=rows is not None and len(rows) < LOOKED_INTO,
    )


def _roots(waits: dict[int, tuple[int, ...]]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for pid in waits:
        counts.update(pid_above for pid_above in _above(pid, waits) if pid_above not in waits)
    return counts


def _above(pid: int, waits: dict[int, tuple[int, ...]]) -> set[int]:
    """Return all that `pid` waits for, directly or not; a deadlock's circle ends the walk."""
    seen: set[int] = set()
    todo = list(waits[pid])
    while todo:
        blocker = todo.pop()
        if blocker not in seen:
            seen.add(blocker)
            todo.extend(waits.get(blocker, ()))
    return seen
