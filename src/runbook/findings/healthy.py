"""Is there room, and nothing in the way?"""

from __future__ import annotations

from runbook.findings.finding_type import FindingType, Verdict
from runbook.findings.view import TIGHT, View
from runbook.findings.words import filled
from runbook.model.diagnosis import Finding


def judge(view: View) -> Verdict:
    """Always has an answer; it stands last in the table, so it speaks when nobody else does."""
    slots = view.slots
    tight = slots.percent >= TIGHT
    advice = ""
    if tight:
        advice = "A deploy or a burst may take the rest: size the pools before it does."
    return Verdict(
        finding=Finding(
            cause="healthy",
            title=f"{'tight, not saturated' if tight else 'healthy'}: {filled(view)}"
            f" ({slots.percent}%), {slots.free} free",
            confidence="likely" if view.hidden else "strong",
            because="the server's own count; nothing waits, lingers or exceeds its pool by much"
            if not view.hidden
            else "the count is sure; the states of some sessions are hidden from our role",
            share=view.share(slots.used),
            advice=advice,
        ),
        weight="cause",
    )


FINDING = FindingType(
    name="healthy",
    summary="There is room, and no finding holds more than a little of it.",
    judge=judge,
)
