"""Do sessions sit silent inside transactions?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings.finding_type import FindingType, Verdict
from runbook.findings.leak_proof import prove
from runbook.findings.words import age, common_statements, count, remediate, restart, whose
from runbook.model.diagnosis import Finding
from runbook.model.leaks import LeakPolicy

if TYPE_CHECKING:
    from runbook.findings.view import View
    from runbook.model.sessions import Session

#: Seconds of silence inside a transaction that are counted: a healthy application pauses for
#: milliseconds between two statements; in 5 s it talks to something else than the database.
SILENT_S = 5.0
#: Percent of the sessions from which on it is a cause of its own.
PERCENT = 20
#: Fewer than this many are an accident of one request, whatever their percentage.
AT_LEAST = 3


def judge(view: View) -> Verdict | None:
    """Silent transactions are a cause once they hold their share of the sessions."""
    silent = [
        s
        for s in view.clients
        # Whose client is gone has leaked, transaction or not.
        if s.idle_in_transaction
        and (s.state_age_s or 0.0) >= SILENT_S
        and s.pid not in view.orphans
    ]
    if len(silent) < AT_LEAST:
        return None
    percent = view.percent_of_used(len(silent))
    finding = _finding(view, silent, percent)
    concerns = frozenset(s.pid for s in silent)
    if percent >= PERCENT:
        return Verdict(finding=finding, weight="cause", concerns=concerns)
    return Verdict(
        finding=finding,
        weight="also" if finding.confidence == "strong" else "runner_up",
        concerns=concerns,
    )


def _finding(view: View, silent: list[Session], percent: int) -> Finding:
    policy = view.policy
    long = [s for s in silent if (s.state_age_s or 0.0) > policy.idle_in_transaction_s]
    proved = [p for p in prove(view, policy).sessions if p.rule == "idle_in_transaction"]
    owners = view.owners(silent)
    limit = age(policy.idle_in_transaction_s)
    return Finding(
        cause="idle-in-transaction",
        title=f"{count(len(silent), 'session')} idle in transaction: {whose(owners)}",
        confidence="strong" if len(long) * 2 >= len(silent) else "likely",
        because=f"{len(long)} of them have been silent for over {limit}"
        if long
        else f"none has been silent for over {limit} yet; they may still go on by themselves",
        share=view.share(len(silent)),
        evidence=_evidence(view, silent, percent),
        owners=owners,
        advice=_advice(len(proved), limit),
        command=remediate(view, "--terminate-idle") if proved else restart(view, owners),
    )


def _evidence(view: View, silent: list[Session], percent: int) -> tuple[str, ...]:
    longest = max(s.state_age_s or 0.0 for s in silent)
    writers = sum(s.has_xid for s in silent)
    held = [s for s in silent if s.pid in view.locks.blockers]
    lines = [
        f"{len(silent)} of {len(view.clients)} sessions ({percent}%)",
        f"the longest has been silent for {age(longest)}",
        _written(writers),
    ]
    if held:
        lines.append(f"{len(held)} of them {'blocks' if len(held) == 1 else 'block'} others")
    return tuple(lines) + tuple(f"last statement: {line}" for line in common_statements(silent))


def _written(writers: int) -> str:
    if not writers:
        return "none of them has written anything"
    return f"{writers} of them {'has' if writers == 1 else 'have'} written: ending rolls that back"


def _advice(proved: int, limit: str) -> str:
    cure = (
        "The code holds a transaction open while it does something else, or lost the connection"
        " without giving it back. A server-side bound is idle_in_transaction_session_timeout."
    )
    if proved:
        return f"{count(proved, 'session')} may be ended safely. {cure}"
    return (
        f"None may be ended safely yet: that takes {limit} of silence, nothing written and nobody"
        f" waiting. Restarting the service that owns them gives them back. {cure}"
    )


FINDING = FindingType(
    name="idle-in-transaction",
    summary="Sessions have begun a transaction and gone silent, holding slots and often locks.",
    judge=judge,
    looks="The slots fill although the server has next to nothing to do; tables grow, because"
    " VACUUM may not clean up behind an open transaction; now and then others wait for a lock.",
    told_apart=f"At least {AT_LEAST} sessions, and {PERCENT}% of them, are idle in a transaction"
    f" and have been silent for {age(SILENT_S)}: a healthy application pauses for milliseconds"
    " there. One that holds a lock for which others wait is the root of a lock pile-up and named"
    " there. Idle outside a transaction is another matter: a pool's, or a leak.",
    remedy=f"Now: end those silent for over {age(LeakPolicy().idle_in_transaction_s)} that have"
    " written nothing and that nobody waits for (`--terminate-idle`); restart the service for the"
    " others. For good: no calls to other services within a transaction, connections given back on"
    " every path, and `idle_in_transaction_session_timeout` for the application's role.",
)
