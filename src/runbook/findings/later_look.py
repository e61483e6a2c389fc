"""The server as a witness of itself: a second, smaller look some seconds after the first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runbook.findings import churn, orphans
from runbook.findings.witness import WAIT_S, Told, Witness
from runbook.model.effects import AskDatabase, Question
from runbook.model.errors import DoorError
from runbook.model.sessions import LaterLook

if TYPE_CHECKING:
    from runbook.findings.view import View
    from runbook.model.effects import Answers, Observe
    from runbook.model.processes import ServerProcesses
    from runbook.model.sessions import Snapshot

#: The same sessions as in the first look: client backends, and hidden ones that log in somewhere.
QUESTION = Question(
    name="sessions-later",
    sql="""
SELECT pid, coalesce(backend_start::text, '') AS backend_start,
       coalesce(state_change::text, '') AS state_change,
       extract(epoch FROM clock_timestamp() - backend_start)::float8 AS age_s
  FROM pg_stat_activity
 WHERE pid <> pg_backend_pid()
   AND (backend_type = 'client backend'
        OR (backend_type IS NULL AND usename IS NOT NULL AND datname IS NOT NULL))""",
)


def looks(view: View) -> tuple[Observe[Any], ...]:
    """Ask again when clients seem to be gone, or when sessions seem to come and go."""
    if not orphans.candidates(view) and not churn.suspects(view):
        return ()
    return (AskDatabase(database=view.target, questions=(QUESTION,)),)


def take(snapshot: Snapshot, told: tuple[Told, ...]) -> Snapshot:
    """Add who is there now; a look that failed says why there is nobody."""
    found = _second(snapshot, told[0].outcome)
    return replace(
        snapshot, later=replace(found, hosts=snapshot.later.hosts if snapshot.later else ())
    )


def _second(snapshot: Snapshot, outcome: Answers | DoorError) -> LaterLook:
    if isinstance(outcome, DoorError):
        return LaterLook(after_s=0.0, error=outcome.message)
    if (outcome.processes is not None) != (snapshot.rung == "os"):
        # Processes and rows name a session differently, so nobody could be found again.
        return LaterLook(after_s=0.0, error="the second look came in by another door")
    if outcome.processes is not None:
        return _of_processes(snapshot, outcome.processes)
    rows = outcome.rows.get(QUESTION.name)
    if rows is None:
        return LaterLook(after_s=0.0, error=outcome.failed.get(QUESTION.name, "no answer"))
    return LaterLook(
        after_s=_between(snapshot, {(r["pid"], r["backend_start"]): r["age_s"] for r in rows}),
        sessions=frozenset((r["pid"], r["backend_start"], r["state_change"]) for r in rows),
    )


def _of_processes(snapshot: Snapshot, processes: ServerProcesses) -> LaterLook:
    clients = [p for p in processes.processes if p.kind == "client"]
    return LaterLook(
        after_s=_between(snapshot, {(p.pid, p.backend_start): p.age_s for p in clients}),
        sessions=frozenset((p.pid, p.backend_start, p.state_change) for p in clients),
    )


def _between(snapshot: Snapshot, ages: dict[tuple[int, str], float | None]) -> float:
    """Return the seconds between the looks: by how much those who stayed have aged.

    Where nobody stayed, it is the wait itself, without the time that the questions took.
    """
    aged = [
        age - session.age_s
        for session in snapshot.clients
        if (age := ages.get((session.pid, session.backend_start or ""))) is not None
        and session.age_s is not None
    ]
    return max(aged, default=WAIT_S)


WITNESS = Witness(name="server-again", looks=looks, take=take, stage="later")
