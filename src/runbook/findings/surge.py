"""Is there simply more work than connections?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings.finding_type import FindingType, Verdict
from runbook.findings.slow_queries import OLD_S
from runbook.findings.view import TIGHT, View
from runbook.findings.words import age, common_statements, count, filled, whose
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
    short = [s for s in view.active if (s.query_age_s or 0.0) < OLD_S]
    if view.slots.percent < TIGHT or not short:
        return None
    percent = view.percent_of_used(len(short))
    if percent < PERCENT // 2:
        return None
    finding = _finding(view, short, percent)
    return Verdict(finding=finding, weight="cause" if percent >= PERCENT else "runner_up")


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
        command=f"runbook diagnose {view.target}",
    )


FINDING = FindingType(
    name="surge",
    summary="More short statements at once than there are connections for: load, not a fault.",
    judge=judge,
)
