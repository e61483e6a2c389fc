"""Has a database used up its own CONNECTION LIMIT?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings.finding_type import FindingType, Verdict
from runbook.findings.own_limit import OwnLimit, judge_limit
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
    questions=(QUESTION,),
)
