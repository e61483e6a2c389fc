"""Terminates sessions, each checked again and signalled in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runbook.adapters.postgres_errors import missing_grant
from runbook.adapters.postgres_talk import PIN_PATH, Row, StatementError, Talk
from runbook.model.errors import ConnectionLost, MissingGrant

if TYPE_CHECKING:
    from runbook.model.sessions import SessionId

#: Seconds that the server may be silent; a signal takes milliseconds.
_TIMEOUT_S = 5.0
_DENIED = "42501"
#: The role's own statement_timeout may be too short, and would end a statement half-way.
_PREAMBLE = ("BEGIN", PIN_PATH, f"SET LOCAL statement_timeout = {round(_TIMEOUT_S * 1000)}")

#: Checks again and signals in one statement. MATERIALIZED keeps the function out of the filters'
#: evaluation order, CASE keeps it from sessions that the server would refuse, which would abort
#: the statement half-way. `may` is the server's own rule (signalfuncs.c, pg_signal_backend): a
#: superuser's session needs a superuser; another role's needs that role or pg_signal_backend.
#: Times are UTC whatever zone their text names, so that the session's TimeZone does not matter.
_SIGNAL = """
WITH wanted (pid, backend_start, state_change, state) AS (VALUES {values}),
seen AS MATERIALIZED (
    SELECT a.pid,
           (NOT owner.rolsuper OR us.rolsuper)
           AND (pg_catalog.pg_has_role(a.usesysid, 'USAGE')
                OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'))
           AS may
      FROM pg_catalog.pg_stat_activity a
      JOIN wanted w ON a.pid = w.pid
       AND a.backend_start = w.backend_start::timestamp AT TIME ZONE 'UTC'
       AND a.state_change = w.state_change::timestamp AT TIME ZONE 'UTC'
       AND a.state = w.state
      JOIN pg_catalog.pg_roles owner ON owner.oid = a.usesysid
      JOIN pg_catalog.pg_roles us ON us.rolname = current_user
     WHERE a.backend_type = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid()
)
SELECT pid, may, CASE WHEN may THEN pg_catalog.pg_terminate_backend(pid) END AS signalled FROM seen
"""

_ALIVE = """
SELECT a.pid FROM pg_catalog.pg_stat_activity a
JOIN (VALUES {values}) AS w (pid, backend_start) ON a.pid = w.pid
 AND a.backend_start = w.backend_start::timestamp AT TIME ZONE 'UTC'
"""


def signal(talk: Talk, sessions: Sequence[SessionId]) -> tuple[int, ...]:
    """Signal what is still as it was seen; return the pids that were signalled, in order.

    One that is denied while others are signalled is missing there, and still as it was seen.

    Raises:
        MissingGrant: when all that are still as they were seen are denied.
        ConnectionLost: it broke off half-way; some may have been signalled.
    """
    # A session whose times are hidden from us cannot be re-checked, hence not be signalled.
    known = [s for s in sessions if s.backend_start and s.state_change and s.state]
    if not known:
        return ()
    try:
        signalled, denied = _signal_batch(talk, known)
    except StatementError as failure:
        if failure.error.sqlstate != _DENIED:
            raise _in_doubt(talk, failure) from None
        # Refused in spite of `may` (managed services have rules of their own), half-way through.
        signalled, denied = _signal_singly(talk, known)
    if denied and not signalled:
        role = talk.door.user
        raise MissingGrant(
            f"{talk.door.database}: {role!r} may not terminate the sessions"
            f" {', '.join(map(str, sorted(denied)))}",
            hint=f"{missing_grant('terminate', role)}; a superuser's session needs a superuser",
            sqlstate="42501",
        )
    return tuple(s.pid for s in known if s.pid in signalled)


def _signal_batch(talk: Talk, sessions: Sequence[SessionId]) -> tuple[set[int], set[int]]:
    values = ", ".join(
        f"({s.pid:d},{talk.literal(s.backend_start)},{talk.literal(s.state_change)},"
        f"{talk.literal(s.state)})"
        for s in sessions
    )
    rows = _run(talk, _SIGNAL.format(values=values), change=True)
    return (
        {row["pid"] for row in rows if row["signalled"]},
        {row["pid"] for row in rows if not row["may"]},
    )


def _signal_singly(talk: Talk, sessions: Sequence[SessionId]) -> tuple[set[int], set[int]]:
    """Signal one by one after a statement that the server aborted half-way.

    What that statement had signalled already is on its way out and no longer as it was seen; it
    is told by being gone.
    """
    signalled: set[int] = set()
    denied: set[int] = set()
    for session in sessions:
        try:
            done, refused = _signal_batch(talk, [session])
            signalled |= done
            denied |= refused
        except StatementError as failure:
            if failure.error.sqlstate != _DENIED:
                raise _in_doubt(talk, failure) from None
            denied.add(session.pid)
    return signalled | _gone(talk, sessions), denied


def _gone(talk: Talk, sessions: Sequence[SessionId]) -> set[int]:
    values = ", ".join(f"({s.pid:d},{talk.literal(s.backend_start)})" for s in sessions)
    try:
        rows = _run(talk, _ALIVE.format(values=values))
    except StatementError as failure:
        raise _in_doubt(talk, failure) from None
    return {s.pid for s in sessions} - {row["pid"] for row in rows}


def _run(talk: Talk, sql: str, *, change: bool = False) -> list[Row]:
    """Run one statement by the catalogue's own names alone, whatever the role's settings are."""
    statements = [*_PREAMBLE, sql, "COMMIT"]
    try:
        return talk.run(statements, _TIMEOUT_S, change=change)[len(_PREAMBLE)].rows
    except StatementError:
        talk.recover()
        raise


def _in_doubt(talk: Talk, failure: StatementError) -> ConnectionLost:
    """Return what to say of a statement that broke off after it may have signalled some."""
    return ConnectionLost(
        f"{talk.door.database}: the signalling broke off: {failure.error.message}",
        hint="some may have been signalled: run it again to look",
    )
