"""Has a role used up its own CONNECTION LIMIT?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings.finding_type import FindingType, Verdict
from runbook.findings.own_limit import OwnLimit, judge_limit
from runbook.model.effects import Question

if TYPE_CHECKING:
    from runbook.findings.view import View

QUESTION = Question(
    name="role-limits",
    sql="""
SELECT rolname::text AS name, rolconnlimit AS connlimit
  FROM pg_roles WHERE rolconnlimit >= 0 AND NOT rolsuper""",
)


def judge(view: View) -> Verdict | None:
    """A role at its limit is refused, however much room the server has; superusers are exempt."""
    limit = OwnLimit(
        cause="role-limit",
        kind="role",
        alter="ALTER ROLE",
    )
    return judge_limit(view, limit)


FINDING = FindingType(
    name="role-limit",
    summary="A role has reached its own connection limit; the server itself may have room.",
    judge=judge,
    questions=(QUESTION,),
)
