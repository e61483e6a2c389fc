"""Who holds connections, counted by the server: so cheap a look that it is taken repeatedly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runbook.findings.processes import from_processes
from runbook.findings.sessions import BYTES, text_of
from runbook.model.effects import Question
from runbook.model.sessions import Session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runbook.model.effects import Answers
    from runbook.model.sessions import Rung

#: Idle in a transaction is busy as well: the connection is nobody else's until it ends.
_BUSY = (
    "('active', 'idle in transaction', 'idle in transaction (aborted)', 'fastpath function call')"
)

# One row for all sessions that attribution cannot tell apart. `blind` counts those whose state is
# hidden from our role, or not kept (track_activities = off): idle or at work, nobody knows.
QUESTION = Question(
    name="pool-sample",
    sql=f"""
SELECT {BYTES.format("g.datname::text")} AS database, {BYTES.format("g.usename::text")} AS role,
       g.application_name, host(g.client_addr) AS client_addr,
       coalesce(r.rolsuper, false) AS superuser, g.hidden, g.sessions, g.busy, g.blind
  FROM (SELECT datname, usename, usesysid, application_name, client_addr,
               backend_type IS NULL AND backend_start IS NULL AS hidden,
               count(*)::int AS sessions,
               (count(*) FILTER (WHERE state IN {_BUSY}))::int AS busy,
               (count(*) FILTER (WHERE state IS NULL OR state = 'disabled'))::int AS blind
          FROM pg_catalog.pg_stat_activity
         WHERE pid <> pg_catalog.pg_backend_pid()
           AND (backend_type = 'client backend'
                OR (backend_type IS NULL AND usename IS NOT NULL AND datname IS NOT NULL))
         GROUP BY 1, 2, 3, 4, 5, 6) AS g
  LEFT JOIN pg_catalog.pg_roles r ON r.oid = g.usesysid""",  # noqa: S608 - made of constants
)


#: What sessions of one row have in common, by the values of these columns; and the row's number.
_ALIKE = ("database", "role", "application_name", "client_addr", "superuser", "hidden")
Numbers = dict[tuple[Any, ...], int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """How many sessions one row stands for."""

    sessions: int
    busy: int
    #: Sessions of which nobody knows whether they are busy.
    blind: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Client sessions at one moment: one for each group that is alike, and how many each is."""

    rung: Rung
    sessions: tuple[Session, ...]
    #: By the session's pid.
    counts: dict[int, Count]

    @property
    def used(self) -> int:
        """Client backends, our own aside."""
        return sum(count.sessions for count in self.counts.values())


def sample_from(database: str, answers: Answers, numbers: Numbers) -> Sample | None:
    """Return what the server counted; None where it did not answer the question.

    `numbers` is shared by all samples of a window: what is alike has one number in all of them.
    """
    if answers.processes is not None:
        return one_by_one("os", from_processes(database, answers, answers.processes).clients)
    rows = answers.rows.get(QUESTION.name)
    if rows is None:
        return None
    numbered = {_number(row, numbers): row for row in rows}
    return Sample(
        rung=answers.rung,
        sessions=tuple(_session(pid, row) for pid, row in numbered.items()),
        counts={
            pid: Count(sessions=row["sessions"], busy=row["busy"], blind=row["blind"])
            for pid, row in numbered.items()
        },
    )


def together(samples: Iterable[Sample]) -> Sample:
    """Return all sessions of some samples, each once, to be attributed at one go."""
    every = tuple(samples)
    sessions = {session.pid: session for sample in every for session in sample.sessions}
    return replace(every[0], sessions=tuple(sessions.values()), counts={})


def _number(row: dict[str, Any], numbers: Numbers) -> int:
    """Return the number of a row's group; no process has a negative id."""
    alike = tuple(row[key] for key in _ALIKE)
    return numbers.setdefault(alike, -1 - len(numbers))


def one_by_one(rung: Rung, sessions: Iterable[Session]) -> Sample:
    """Return sessions that were seen one by one as a sample."""
    seen = tuple(sessions)
    return Sample(rung=rung, sessions=seen, counts={s.pid: _count(s) for s in seen})


def _count(session: Session) -> Count:
    blind = session.state is None or session.state == "disabled"
    busy = session.state in {"active", "fastpath function call"} or session.idle_in_transaction
    return Count(sessions=1, busy=int(busy), blind=int(blind))


def _session(pid: int, row: dict[str, Any]) -> Session:
    """Return a session that stands for a group: all that attribution looks at, and no more."""
    return Session(
        pid=pid,
        backend_type=None if row["hidden"] else "client backend",
        database=text_of(row["database"]),
        role=text_of(row["role"]),
        application_name=row["application_name"] or "",
        client_addr=row["client_addr"],
        client_port=None,
        backend_start=None,
        state_change=None,
        state=None,
        wait_event_type=None,
        wait_event=None,
        age_s=None,
        xact_age_s=None,
        query_age_s=None,
        state_age_s=None,
        has_xid=False,
        leader_pid=None,
        query="",
        superuser=row["superuser"],
        replication=False,
        hidden=row["hidden"],
    )
