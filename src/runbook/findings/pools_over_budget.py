"""May the declared pools together hold more than the server has?"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from runbook.findings.finding_type import FindingType, Verdict, Weight
from runbook.findings.leak_proof import excess_of
from runbook.findings.words import filled, remediate
from runbook.model.diagnosis import Finding
from runbook.model.inventory import Pool

if TYPE_CHECKING:
    from runbook.findings.view import View

#: Percent of the usable slots that the pools may take together; the rest is for deploys, cron jobs
#: and people.
COMFORTABLE = 80


def judge(view: View) -> Verdict | None:
    """Pools that fit singly, not together, are a cause when healthy idleness fills the slots."""
    budgets = _budgets(view)
    declared = sum(budgets.values())
    if declared <= view.slots.usable:
        return None
    return Verdict(finding=_finding(view, budgets, declared), weight=_weight(view))


def _weight(view: View) -> Weight:
    """Idle sessions within their pools must hold most of what is taken; else it is a warning."""
    within = sum(len(h.sessions) - excess_of(h) for h in view.holders if h.budget is not None)
    idle = len(view.idle) + len(view.hidden)
    if view.saturated and within * 2 >= len(view.clients) and idle * 2 >= len(view.clients):
        return "cause"
    return "also"


def _budgets(view: View) -> Counter[str]:
    budgets: Counter[str] = Counter()
    for seat in view.seats:
        budgets[seat.service] += seat.budget or 0
    return +budgets


def _finding(view: View, budgets: Counter[str], declared: int) -> Finding:
    usable = view.slots.usable
    held = [s for h in view.holders if h.budget is not None for s in h.sessions]
    service, _ = budgets.most_common(1)[0]
    return Finding(
        cause="pools-over-budget",
        title=f"the pools may open {declared} connections, and the server has {usable} for them",
        confidence="strong",
        because="the sum is the inventory's own; each pool keeps to its size, and idle connections"
        " are what a full pool looks like",
        share=view.share(len(held)),
        evidence=(
            *(_line(view, name, budget) for name, budget in budgets.most_common(6)),
            f"together {declared}; usable {usable}; {filled(view)}",
        ),
        owners=view.owners(held),
        advice=_advice(declared, usable),
        command=remediate(view, f"--rolling-restart --service {service}"),
    )


def _line(view: View, name: str, budget: int) -> str:
    service = view.fleet.service(name)
    hosts = sum(seat.service == name for seat in view.seats)
    pool = service.pool or Pool(size=1)
    return (
        f"{name}: {hosts} x {pool.processes} x ({pool.size} + {pool.overflow}) = {budget}"
        " (hosts x processes x (size + overflow))"
    )


def _advice(declared: int, usable: int) -> str:
    target = usable * COMFORTABLE // 100
    factor = target * 100 // max(1, declared)
    return (
        f"Terminating helps for seconds: healthy pools open their connections again. Size the pools"
        f" to {target} together ({COMFORTABLE}% of usable), that is {factor}% of what is declared,"
        " or put PgBouncer in between; once the new size is in the service's configuration, the"
        " rolling restart brings it in."
    )


FINDING = FindingType(
    name="pools-over-budget",
    summary="Every pool keeps to its size, and together they are larger than the server.",
    judge=judge,
)
