"""Is there simply more work than connections?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings.finding_type import FindingType, Verdict
from runbook.findings.slow_queries import OLD_S
from runbook.findings.view import TIGHT, View
from runbook.findings.words import age, common_statements, count, filled, look_again, whose
from runbook.model.diagnosis import Finding

if TYPE_CHECKING:
    from runbook.model.sessions import Session

#: Percent of the sessions at work on short statements from which on it is a surge: pools that are
#: large enough have most of their connections idle at any moment.
PERCENT = 50
#: Seconds: a session younger than this came with the present load.
YOUNG_S = 60.0


def judge(view: View) -> Verdict | None:
    """Many short statements at once are a surge, once slots are tight."""
    # How long a statement runs may be unknown (no door but the host's processes): such a one is
    # at work, and neither short nor long.
    short = [s for s in view.active if s.query_age_s is None or s.query_age_s < OLD_S]
    if view.slots.percent < TIGHT or not short:
        return None
    percent = view.percent_of_used(len(short))
    if percent < PERCENT // 2:
        return None
    known = any(s.query_age_s is not None for s in short)
    finding = _finding(view, short, percent) if known else _of_unknown_age(view, short, percent)
    return Verdict(
        finding=finding,
        weight="cause" if percent >= PERCENT else "runner_up",
        concerns=frozenset(s.pid for s in short),
    )


def _finding(view: View, short: list[Session], percent: int) -> Finding:
    owners = view.owners(short)
    young = [s for s in view.clients if (s.age_s or YOUNG_S) < YOUNG_S]
    evidence = [
        f"{filled(view)}; {percent}% of the sessions run a statement younger than {age(OLD_S)}",
        f"{len(young)} sessions were opened in the last minute",
        *(f"at work: {line}" for line in common_statements(short)),
    ]
    return Finding(
        cause="surge",
        title=f"a surge: {count(len(short), 'session')} at work on short statements:"
        f" {whose(owners)}",
        confidence="likely" if percent >= PERCENT else "weak",
        because="the slots are held by work, not by idleness, locks or long statements; one look"
        " cannot tell how long it has been so",
        share=view.share(len(short)),
        evidence=tuple(evidence),
        owners=owners,
        advice="Nothing here is broken, so there is nothing to terminate. Lower the load (shed"
        " traffic, pause batch jobs and crawlers), or let requests queue in the app by smaller"
        " pools or in PgBouncer. Look again in a minute: a surge that stays is a new normal.",
        command=look_again(view),
    )


def _of_unknown_age(view: View, at_work: list[Session], percent: int) -> Finding:
    owners = view.owners(at_work)
    return Finding(
        cause="surge",
        title=f"{count(len(at_work), 'session')} at work; on short statements or slow ones cannot"
        f" be seen: {whose(owners)}",
        confidence="weak",
        because="the slots are held by work, not by idleness or locks; how long each statement has"
        " run is not told from here, so these may be slow statements as well",
        share=view.share(len(at_work)),
        evidence=(f"{filled(view)}; {percent}% of the sessions are at work",),
        owners=owners,
        advice="Open a door into the server (the reports of the others are under Not seen) and look"
        " again; until then, lower the load: shed traffic, pause batch jobs and reports.",
        command=look_again(view),
    )


FINDING = FindingType(
    name="surge",
    summary="More short statements at once than there are connections for: load, not a fault.",
    judge=judge,
    looks="Traffic is high, requests queue for a connection, and the server does what it is asked,"
    " quickly: each look finds other statements at work.",
    told_apart=f"At least {PERCENT}% of the sessions are at work on statements younger than"
    f" {age(OLD_S)}, and {TIGHT}% of the usable slots are in use. Older statements are slow ones;"
    " work on connections that come and go is churn; sessions that are idle are a leak or pools"
    " over budget. One look cannot tell how long it has been so, so it is never more than likely.",
    remedy="Now: shed traffic, pause batch jobs and crawlers; there is nothing to terminate. For"
    " good: let requests queue in the application by smaller pools or in PgBouncer, and make the"
    " commonest statement cheaper. A surge that stays is a new normal.",
)
