"""Has a role used up its own CONNECTION LIMIT?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings.finding_type import FindingType, Verdict
from runbook.findings.own_limit import NEAR, OwnLimit, judge_limit
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
    looks='One application is refused with `too many connections for role "…"`, after its password'
    " was accepted; all others work.",
    told_apart="By the catalogue (`pg_roles.rolconnlimit`): it is the cause when as many sessions"
    f" as the limit allows are in, and worth a word from {NEAR}% on. A limit of 0 is meant to keep"
    " a role out. Superusers are exempt. Whatever else fills the server, who hits this limit is"
    " refused by it alone, so it comes first.",
    remedy="Now: if sessions of that role have leaked, terminate them. Else raise the limit where"
    " the server has room: `ALTER ROLE … CONNECTION LIMIT …`. It was set on purpose: find out why"
    " it is full.",
    questions=(QUESTION,),
)
