"""Has a database used up its own CONNECTION LIMIT?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings.finding_type import FindingType, Verdict
from runbook.findings.own_limit import NEAR, OwnLimit, judge_limit
from runbook.model.effects import Question

if TYPE_CHECKING:
    from runbook.findings.view import View

QUESTION = Question(
    name="database-limits",
    sql="""
SELECT datname::text AS name, datconnlimit AS connlimit
  FROM pg_database WHERE datconnlimit >= 0 AND datallowconn""",
)


def judge(view: View) -> Verdict | None:
    """A database at its limit refuses everyone but superusers."""
    limit = OwnLimit(
        cause="database-limit",
        kind="database",
        alter="ALTER DATABASE",
    )
    return judge_limit(view, limit)


FINDING = FindingType(
    name="database-limit",
    summary="A database has reached its own connection limit; the server itself may have room.",
    judge=judge,
    looks="Whoever connects to one database is refused with `too many connections for database"
    ' "…"`, after the password was accepted; the other databases of the server work.',
    told_apart="By the catalogue (`pg_database.datconnlimit`): it is the cause when as many"
    f" sessions as the limit allows are in, and worth a word from {NEAR}% on. A limit of 0 is meant"
    " to keep everybody out. Superusers are exempt.",
    remedy="Now: if sessions in that database have leaked, terminate them. Else raise the limit"
    " where the server has room: `ALTER DATABASE … CONNECTION LIMIT …`, from another database.",
    questions=(QUESTION,),
)
