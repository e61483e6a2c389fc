"""From a server's answers to the snapshot that findings judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings import limits, sessions
from runbook.findings.processes import from_processes
from runbook.model.errors import DatabaseError
from runbook.model.sessions import Snapshot

if TYPE_CHECKING:
    from runbook.model.effects import Answers

#: Without these two there is nothing to judge.
NEEDED = (limits.QUESTION, sessions.QUESTION)


def assemble(database: str, answers: Answers) -> Snapshot:
    """Return what the server answered as one snapshot.

    Raises:
        DatabaseError: when who is connected, or how many may be, was not answered.
    """
    if answers.processes is not None:
        return from_processes(database, answers, answers.processes)
    for question in NEEDED:
        if not answers.rows.get(question.name):
            raise _unanswered(database, question.name, answers)
    needed = {question.name for question in NEEDED}
    return Snapshot(
        database=database,
        limits=limits.limits_from(answers.rows["limits"][0]),
        sessions=tuple(sessions.session_from(row) for row in answers.rows["sessions"]),
        extra={name: rows for name, rows in answers.rows.items() if name not in needed},
        rung=answers.rung,
        refusals=answers.refusals,
        failed=dict(answers.failed),
        connect_s=answers.connect_s,
        query_s=answers.query_s,
    )


def _unanswered(database: str, name: str, answers: Answers) -> DatabaseError:
    why = answers.failed.get(name, "the answer was empty")
    return DatabaseError(
        f"{database}: connected, but the question {name!r} was not answered: {why}",
        hint="run it again; if it stays so, the server is too busy to list its own sessions: look"
        " from its host with `ps -eo pid,lstart,args | grep 'postgres:'`",
    )
