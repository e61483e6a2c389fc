"""Is there room, and nothing in the way?"""

from __future__ import annotations

from runbook.findings.finding_type import FindingType, Verdict
from runbook.findings.view import SATURATED, TIGHT, View
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
            confidence="likely" if _half_seen(view) else "strong",
            because="the server's own count; nothing waits, lingers or exceeds its pool by much"
            if not _half_seen(view)
            else f"the count is sure; {_half_seen(view)}",
            share=view.share(slots.used),
            advice=advice,
        ),
        weight="cause",
    )


def _half_seen(view: View) -> str:
    """Say what keeps the rest from being sure; "" when all was seen."""
    if view.snapshot.rung == "os":
        return "of the rest, the host's processes tell a part only"
    if view.hidden:
        return "the states of some sessions are hidden from our role"
    silent = [look.name for look in view.snapshot.poolers if look.error]
    if silent:
        return f"PgBouncer {', '.join(silent)} did not tell: who comes through it may not get in"
    return "some questions were not answered" if view.snapshot.failed else ""


FINDING = FindingType(
    name="healthy",
    summary="There is room, and no finding holds more than a little of it.",
    judge=judge,
    looks=f"Nobody is refused. From {TIGHT}% of the usable slots on it is called tight: a deploy,"
    " whose old and new processes hold connections at the same time, or a burst may take the rest.",
    told_apart=f"It is what is left when no other finding is a cause and less than {SATURATED}% of"
    " the usable slots are in use. If an application was refused a moment ago all the same, look"
    " again while it is: slots come and go, and PgBouncer and the pool in the application have"
    " limits of their own.",
    remedy="Nothing now. While it is tight, compare the declared pools with the usable slots before"
    " the next deploy does.",
)
