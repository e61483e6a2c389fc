"""Do applications hold connections that they have lost?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings.finding_type import FindingType, Verdict, Weight
from runbook.findings.leak_proof import excess_of, prove
from runbook.findings.words import age, common_statements, count, remediate, restart
from runbook.model.diagnosis import Confidence, Finding, Owner
from runbook.model.leaks import LeakPolicy, TerminationPlan

if TYPE_CHECKING:
    from runbook.findings.view import View
    from runbook.model.sessions import Session

#: Percent of the usable slots that leaked sessions must hold to be the cause of anything.
PERCENT_OF_SLOTS = 10
#: A session or two over a pool are a console or a deploy's overlap; more are said to be leaked
#: even while there is room.
AT_LEAST = 3


def judge(view: View) -> Verdict | None:
    """Leaks are judged by what is proved; suspects by age alone are a runner-up."""
    policy = LeakPolicy()
    plan = prove(view, policy)
    concerned = _concerned(view, plan)
    if not concerned and len(plan.suspects) >= AT_LEAST:
        return Verdict(finding=_suspicion(view, plan, policy), weight="runner_up")
    if not concerned:
        return None
    return Verdict(finding=_finding(view, plan, concerned), weight=_weight(view, len(concerned)))


def _weight(view: View, leaked: int) -> Weight:
    if leaked >= AT_LEAST and view.share(leaked) * 100 >= PERCENT_OF_SLOTS:
        return "cause"
    return "also"


def _concerned(view: View, plan: TerminationPlan) -> list[Session]:
    """Return the sessions proved leaked outside a transaction, and those over a pool besides.

    What is over a pool by count is leaked even where the single sessions cannot be told (all busy,
    hidden, protected): they are counted, and not in the plan.
    """
    proved = {p.session.pid: p.session for p in plan.sessions if p.rule != "idle_in_transaction"}
    for holder in view.holders:
        missing = excess_of(holder) - sum(s.pid in proved for s in holder.sessions)
        others = [s for s in holder.sessions if s.pid not in proved and s.state != "active"]
        others.sort(key=lambda s: -(s.state_age_s or 0.0))
        proved.update({s.pid: s for s in others[: max(0, missing)]})
    return list(proved.values())


def _finding(view: View, plan: TerminationPlan, concerned: list[Session]) -> Finding:
    owners = view.owners(concerned)
    proved = [p for p in plan.sessions if p.rule != "idle_in_transaction"]
    return Finding(
        cause="leaked-sessions",
        title=f"{count(len(concerned), 'leaked session')}: {_held(owners)}",
        confidence=_confidence(view, proved_share=len(proved) / len(concerned)),
        because=_because(view, owners, plan),
        share=view.share(len(concerned)),
        evidence=_evidence(plan, concerned, owners),
        owners=owners,
        advice=_advice(len(proved), owners),
        command=remediate(view, "--terminate-idle") if proved else restart(view, owners),
    )


def _held(owners: tuple[Owner, ...]) -> str:
    first = owners[0]
    over = first.budget is not None and first.sessions > first.budget
    held = (
        f"{first.label} holds {first.sessions}, its pool is {first.budget}"
        if over
        else f"{first.label} holds {first.concerned} of them"
    )
    return held + (f"; {len(owners) - 1} more owners" if len(owners) > 1 else "")


def _confidence(view: View, proved_share: float) -> Confidence:
    return "strong" if proved_share * 2 >= 1 and not view.hidden else "likely"


def _because(view: View, owners: tuple[Owner, ...], plan: TerminationPlan) -> str:
    reasons = []
    if any(owner.budget is not None and owner.sessions > owner.budget for owner in owners):
        reasons.append(
            "a pool cannot hold more connections than it may open (declared in the inventory)"
        )
    if any(proved.rule == "outlived" for proved in plan.sessions):
        reasons.append("a pool retires idle connections at its maximum lifetime")
    if view.hidden:
        reasons.append("the states of some sessions are hidden from our role")
    return "; ".join(reasons)


def _evidence(
    plan: TerminationPlan, concerned: list[Session], owners: tuple[Owner, ...]
) -> tuple[str, ...]:
    over = [o for o in owners if o.budget is not None and o.sessions > o.budget]
    lines = [
        f"{o.label}: {o.sessions} sessions, {o.sessions - o.budget} over its pool of {o.budget}"
        for o in over[:4]
        if o.budget is not None
    ]
    outlived = sum(proved.rule == "outlived" for proved in plan.sessions)
    if outlived:
        lines.append(f"{count(outlived, 'idle session')} older than the pool's maximum lifetime")
    idle = [s.state_age_s for s in concerned if s.idle and s.state_age_s is not None]
    if idle:
        lines.append(f"idle for up to {age(max(idle))}, at least {age(min(idle))}")
    lines += [f"last statement: {line}" for line in common_statements(concerned, 2)]
    return tuple(lines)


def _advice(proved: int, owners: tuple[Owner, ...]) -> str:
    names = sorted({owner.service for owner in owners if owner.service})
    who = f" ({', '.join(names)})" if names else ""
    cure = f"The leak itself is in the code{who}: a rolling restart gives it back for a while."
    if not proved:
        return (
            "Which of them are lost cannot be told safely now (busy a moment ago, hidden or"
            f" protected), so none would be terminated. {cure}"
        )
    return (
        f"{count(proved, 'session')} too many: how many is proved by the count, which ones is"
        " inferred from how long they have been idle; a pool opens anew what it misses. Each is"
        f" checked again before it is ended. {cure}"
    )


def _suspicion(view: View, plan: TerminationPlan, policy: LeakPolicy) -> Finding:
    suspects = [suspect.session for suspect in plan.suspects]
    return Finding(
        cause="leaked-sessions",
        title=f"{count(len(suspects), 'session')} idle for more than {age(policy.report_idle_s)}",
        confidence="weak",
        because="idle age alone proves nothing: fixed-size pools keep connections idle for hours,"
        " and no declared pool is over its size",
        share=view.share(len(suspects)),
        evidence=(f"the longest: {age(suspects[0].state_age_s)}",),
        owners=view.owners(suspects),
        advice="Declare the services' pools in the inventory (processes, size, overflow,"
        " max_lifetime): with them a leak can be told from a healthy pool.",
    )


FINDING = FindingType(
    name="leaked-sessions",
    summary="Applications hold connections that their pools do not know of any more.",
    judge=judge,
)
