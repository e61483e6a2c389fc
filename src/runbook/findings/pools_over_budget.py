"""May the declared pools together hold more than the server has?"""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING

from runbook.findings.finding_type import FindingType, Verdict, Weight
from runbook.findings.over_pool import excess_of
from runbook.findings.view import SATURATED
from runbook.findings.words import filled, look_again, remediate
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
    # Superusers who have taken ordinary slots are a finding of their own, not the pools' fault.
    if declared <= view.snapshot.limits.usable(superuser_sessions=0):
        return None
    return Verdict(finding=_finding(view, budgets, declared), weight=_weight(view))


def _weight(view: View) -> Weight:
    """Idle sessions within their pools must hold most of what is taken; else it is a warning."""
    within = sum(
        sum(s.pid not in view.orphans for s in h.sessions) - excess_of(view, h)
        for h in view.holders
        if h.budget is not None
    )
    idle = len(view.idle) + len(view.hidden)
    if view.saturated and within * 2 >= len(view.clients) and idle * 2 >= len(view.clients):
        return "cause"
    return "also"


def _budgets(view: View) -> Counter[str]:
    """Return what each service may open; behind a PgBouncer, what its pools may open for them."""
    budgets: Counter[str] = Counter()
    behind = behind_pgbouncer(view)
    for seat in view.seats:
        if seat.service not in behind:
            budgets[seat.service] += seat.budget or 0
    for pool in (pool for bouncer in view.bouncers for pool in bouncer.pools):
        budgets[f"PgBouncer {pool.bouncer}, pool {pool.name}"] += pool.budget
    return +budgets


def behind_pgbouncer(view: View) -> set[str]:
    """Return services that a PgBouncer has clients of, and that have no session of their own."""
    direct = {holder.service for holder in view.holders if not holder.bouncer}
    return {g.service for g in view.callers if g.service is not None} - direct


def _finding(view: View, budgets: Counter[str], declared: int) -> Finding:
    usable = view.snapshot.limits.usable(superuser_sessions=0)
    held = [s for h in view.holders if h.budget is not None for s in h.sessions]
    services = [name for name, _ in budgets.most_common() if name in _services(view)]
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
        advice=_advice(view.target, declared, usable),
        command=remediate(view, f"--rolling-restart --service {shlex.quote(services[0])}")
        if services
        else look_again(view),
    )


def _services(view: View) -> set[str]:
    return {seat.service for seat in view.seats}


def _line(view: View, name: str, budget: int) -> str:
    if name not in _services(view):
        return f"{name}: {budget} (pool size + reserve)"
    service = view.fleet.service(name)
    hosts = sum(seat.service == name for seat in view.seats)
    pool = service.pool or Pool(size=1)
    return (
        f"{name}: {hosts} x {pool.processes} x ({pool.size} + {pool.overflow}) = {budget}"
        " (hosts x processes x (size + overflow))"
    )


def _advice(target: str, declared: int, usable: int) -> str:
    together = usable * COMFORTABLE // 100
    factor = together * 100 // max(1, declared)
    return (
        f"Terminating helps for seconds: healthy pools open their connections again. Size the pools"
        f" to {together} together ({COMFORTABLE}% of usable), that is {factor}% of what is"
        f" declared: `runbook pool plan {shlex.quote(target)}` proposes sizes that add up. Or put"
        " PgBouncer in between. Once the new size is in the service's configuration, the rolling"
        " restart brings it in."
    )


FINDING = FindingType(
    name="pools-over-budget",
    summary="Every pool keeps to its size, and together they are larger than the server.",
    judge=judge,
    looks="No single pool is too large, and the slots are full of idle sessions, most of all after"
    " a deploy or when every host is under load at once; terminated ones are back within seconds.",
    told_apart="By the inventory: hosts x processes x (size + overflow), summed over all services"
    f" of the server, is more than the usable slots. It is the cause when {SATURATED}% of these are"
    " in use and at least half of the sessions are idle and within their pools; until then it is a"
    " warning. A pool that holds more than it may open is a leak. Services that come through a"
    " PgBouncer alone count by the size of its pools.",
    remedy=f"Size the pools to {COMFORTABLE}% of the usable slots together, the rest is for"
    " deploys, cron jobs and people: `runbook pool plan` proposes sizes that add up. The rolling"
    " restart brings them in, host by host. Or"
    " put PgBouncer in between. A larger `max_connections` needs a restart of the server and memory"
    " for each session.",
)
