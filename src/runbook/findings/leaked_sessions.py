"""Do applications hold connections that they have lost?"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from runbook.findings.finding_type import FindingType, Verdict, Weight
from runbook.findings.leak_proof import prove
from runbook.findings.orphans import QUESTION as SERVER_ADDRESS
from runbook.findings.over_pool import excess_of
from runbook.findings.words import age, common_statements, count, remediate, restart
from runbook.model.diagnosis import Confidence, Finding, Owner
from runbook.model.leaks import LeakPolicy, TerminationPlan

if TYPE_CHECKING:
    from runbook.findings.holders import Holder
    from runbook.findings.view import View
    from runbook.model.sessions import Session

#: Percent of the usable slots that leaked sessions must hold to be the cause of anything.
PERCENT_OF_SLOTS = 10
#: A session or two over a pool are a console or a deploy's overlap; more are said to be leaked
#: even while there is room.
AT_LEAST = 3


def judge(view: View) -> Verdict | None:
    """Leaks are judged by what is proved; suspects by age alone are a runner-up."""
    policy = view.policy
    plan = prove(view, policy)
    concerned = _concerned(view, plan)
    if not concerned and len(plan.suspects) >= AT_LEAST:
        return Verdict(finding=_suspicion(view, plan, policy), weight="runner_up")
    if not concerned:
        return None
    return Verdict(
        finding=_finding(view, plan, concerned),
        weight=_weight(view, len(concerned)),
        concerns=frozenset(s.pid for s in concerned),
    )


def _weight(view: View, leaked: int) -> Weight:
    if leaked >= AT_LEAST and view.share(leaked) * 100 >= PERCENT_OF_SLOTS:
        return "cause"
    return "also"


def _concerned(view: View, plan: TerminationPlan) -> list[Session]:
    """Return the sessions proved leaked, those without a client, and those over a pool besides.

    What is over a pool by count is leaked even where the single sessions cannot be told (all busy,
    hidden, protected): they are counted, and not in the plan. What is in a transaction, and has a
    client, is another finding's.
    """
    proved = {pid: orphan.session for pid, orphan in view.orphans.items()}
    proved |= {p.session.pid: p.session for p in plan.sessions if p.rule != "idle_in_transaction"}
    for holder in view.holders:
        alive = [s for s in holder.sessions if s.pid not in view.orphans]
        missing = excess_of(view, holder) - sum(s.pid in proved for s in alive)
        others = [s for s in alive if s.pid not in proved and s.state != "active"]
        others.sort(key=lambda s: -(s.state_age_s or 0.0))
        proved.update({s.pid: s for s in others[: max(0, missing)]})
    return list(proved.values())


def _finding(view: View, plan: TerminationPlan, concerned: list[Session]) -> Finding:
    owners = view.owners(concerned)
    proved = [p for p in plan.sessions if p.rule != "idle_in_transaction"]
    return Finding(
        cause="leaked-sessions",
        title=f"{count(len(concerned), 'leaked session')}: {_held(owners)}{_gone(view, concerned)}",
        confidence=_confidence(view, len(proved), len(concerned)),
        because=_because(view, owners, plan),
        share=view.share(len(concerned)),
        evidence=_evidence(view, plan, concerned, owners),
        owners=owners,
        advice=_advice(view, len(proved), owners),
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


def _gone(view: View, concerned: list[Session]) -> str:
    """Return how many have lost their client: all of them, or so many."""
    if not view.orphans:
        return ""
    many = len(view.orphans)
    return f"; the clients of {'all ' if many == len(concerned) else ''}{many} are gone"


def _confidence(view: View, proved: int, concerned: int) -> Confidence:
    """Most decide: what is proved by sockets, then what is proved by count or lifetime."""
    if len(view.orphans) * 2 >= concerned:
        return "certain"
    return "strong" if proved * 2 >= concerned and not view.hidden else "likely"


def _because(view: View, owners: tuple[Owner, ...], plan: TerminationPlan) -> str:
    reasons = []
    if view.orphans:
        reasons.append("the hosts that they come from have no socket for them, in two looks")
    if any(excess_of(view, holder) for holder in _holding(view, owners)):
        reasons.append(
            "a pool cannot hold more connections than it may open (declared in the inventory)"
        )
    if any(proved.rule == "outlived" for proved in plan.sessions):
        reasons.append("a pool retires idle connections at its maximum lifetime")
    if view.hidden:
        reasons.append("the states of some sessions are hidden from our role")
    return "; ".join(reasons)


def _missing_sockets(view: View) -> tuple[str, ...]:
    later = view.snapshot.later
    apart = f", {later.after_s:.0f}s apart" if later and later.after_s else ""
    counted = Counter((orphan.host, orphan.end[0]) for orphan in view.orphans.values())
    return tuple(
        f"{count(number, 'session')} from {address}: {host} has no socket for"
        f" {'it' if number == 1 else 'them'}, in two looks{apart}"
        for (host, address), number in counted.most_common(4)
    )


def _holding(view: View, owners: tuple[Owner, ...]) -> list[Holder]:
    """Return the holders of these owners, in their order."""
    labels = {owner.label for owner in owners}
    return [holder for holder in view.holders if holder.label in labels]


def _over_pools(view: View, owners: tuple[Owner, ...]) -> list[str]:
    """Return the holders over their pools; sessions without a client are nobody's pool."""
    lines = []
    for holder in _holding(view, owners):
        alive = sum(s.pid not in view.orphans for s in holder.sessions)
        if excess_of(view, holder) and holder.budget is not None:
            lines.append(
                f"{holder.label}: {alive} sessions, {alive - holder.budget} over its pool of"
                f" {holder.budget}"
            )
    return lines


def _too_many(owners: tuple[Owner, ...]) -> list[str]:
    """Return the processes that hold more than one may open."""
    return [
        f"{process.label} on {process.host} holds {process.sessions} connections, a process may"
        f" open {process.budget}"
        for owner in owners
        for process in owner.processes
        if process.budget is not None and process.sessions > process.budget
    ]


def _evidence(
    view: View, plan: TerminationPlan, concerned: list[Session], owners: tuple[Owner, ...]
) -> tuple[str, ...]:
    lines = [*_missing_sockets(view), *_over_pools(view, owners)[:4], *_too_many(owners)[:4]]
    outlived = sum(proved.rule == "outlived" for proved in plan.sessions)
    if outlived:
        lines.append(f"{count(outlived, 'idle session')} older than the pool's maximum lifetime")
    idle = [s.state_age_s for s in concerned if s.idle and s.state_age_s is not None]
    if idle:
        lines.append(f"idle for up to {age(max(idle))}, at least {age(min(idle))}")
    lines += [f"last statement: {line}" for line in common_statements(concerned, 2)]
    return tuple(lines)


def _advice(view: View, proved: int, owners: tuple[Owner, ...]) -> str:
    lost = len(view.orphans)
    if lost and lost >= proved:
        return (
            f"{count(lost, 'session')} without a client: nobody can use them, and what they have"
            " not committed is lost. The server keeps them until TCP keepalive ends them, after 2h"
            " by default: with tcp_keepalives_idle = 60 it notices a dead host within minutes."
        )
    names = sorted({owner.service for owner in owners if owner.service})
    who = f" ({', '.join(names)})" if names else ""
    cure = f"The leak itself is in the code{who}: a rolling restart gives it back for a while."
    if not proved:
        return (
            "Which of them are lost cannot be told safely now (busy a moment ago, hidden or"
            f" protected), so none would be terminated. {cure}"
        )
    return (
        f"{count(proved, 'session')} may be ended now: that there are too many is proved by the"
        " count, which ones is inferred from how long they have been idle; a pool opens anew what"
        " it misses. Each is"
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
    questions=(SERVER_ADDRESS,),
    looks="The number of sessions of one service on one host grows and never falls, all of them"
    " idle; a restart of that service helps, for some hours.",
    told_apart=f"By proof, not by looks: at least {AT_LEAST} sessions, and {PERCENT_OF_SLOTS}% of"
    " the usable slots, are more than the declared pool may open, or older than the pool lets any"
    " connection become, or belong to no process of the application's host any more. Where no app"
    " host tells which process holds which, two generations of a deploy, a cron job under the"
    " service's name and a pool that sleeps are allowed for. A long idle"
    " time proves nothing: fixed-size pools keep connections idle for hours. Idle sessions within"
    " their pools, in sum more than the server has, are pools over budget; without declared pools"
    " it stays unexplained.",
    remedy="Now: end what is proved (`--terminate-idle`; each session is checked again first, and a"
    " quarter of each pool is left), or restart the service in batches. For good: the path in the"
    " code that takes a connection and does not give it back; until then, the pool's maximum"
    " lifetime and `idle_session_timeout` for the role (PostgreSQL 14 and later; not behind a"
    " pooler).",
)
