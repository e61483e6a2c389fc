"""Makes the plan of a server's pools: what is, what was seen, what would fit."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from runbook.model.fleet import some_of
from runbook.model.pool_advice import advice_of, command_of, ways_of
from runbook.model.pool_budget import growths, percent, title_of, verdict_of
from runbook.model.pool_case import Case, ServiceCase, Shape, case_of, declared_direct
from runbook.model.pool_need import Need, hold_ms, need_of, standing_of
from runbook.model.pool_notes import notes_of, unseen_of
from runbook.model.pool_plan import (
    BouncerPlan,
    Direct,
    HostPlan,
    PoolPlan,
    Proposal,
    Proposed,
    Seen,
    ServicePlan,
    Slots,
)
from runbook.model.pool_proposal import Claim, Shares, share_out
from runbook.model.pool_what_if import suppose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runbook.model.fleet import Fleet
    from runbook.model.pool_facts import BouncerUse, Configured, HostUse, PoolFacts
    from runbook.model.pool_what_if import Supposition


def plan_pools(
    fleet: Fleet,
    facts: PoolFacts,
    *,
    reserve: str | None = None,
    what_if: Sequence[Supposition] = (),
    alike: bool = True,
) -> PoolPlan:
    """Return the budget of a database, as it is or as it is supposed, and sizes that fit.

    `reserve` is a count or a share of the usable slots; the inventory's own, when left out. Hosts
    that are configured differently become `alike` in a what-if, unless its values are put on each.

    Raises:
        UsageError: when the inventory has no such database, or too little is known of a service
            to suppose one number of it.
    """
    case = suppose(case_of(fleet, facts, reserve), what_if, alike=alike)
    needs = {one.name: need_of(one) for one in case.services}
    shares = _shares(case, needs)
    growth = growths(case, shares.each)
    verdict = verdict_of(case.together, case.usable, growth)
    services = _services(case, needs, shares, facts)
    proposal = _proposal(case, needs, shares)
    changes = [one for one in services if one.changed]
    return PoolPlan(
        target=case.database,
        verdict=verdict,
        title=title_of(case, verdict, growth),
        what_if=tuple(str(one) for one in what_if),
        seen=_seen(facts),
        slots=_slots(case, facts),
        together=case.together,
        declared=case.declared,
        percent=percent(case.together, case.usable),
        services=services,
        bouncers=tuple(_bouncer(pool) for pool in case.bouncers),
        direct=Direct(
            declared=declared_direct(fleet, case.database),
            peak=sum(other.peak for other in facts.others),
            counted=case.direct,
            others=facts.others,
        ),
        growth=growth,
        proposal=proposal,
        notes=(*notes_of(case, services, facts, growth), *_siblings(fleet, case.database)),
        unseen=unseen_of(services, facts),
        advice=advice_of(verdict, proposal, changes, bool(what_if)),
        command=command_of(case.database, proposal, changes, what_if),
    )


def _siblings(fleet: Fleet, database: str) -> tuple[str, ...]:
    names = [name for name in fleet.same_server(database) if name != database]
    return (f"{some_of(names)}: on the same server, so it is one budget",) if names else ()


def _shares(case: Case, needs: Mapping[str, Need]) -> Shares:
    """Return the connections of each process that are proposed; what is fixed comes off first."""
    claims = [_claim(one, needs[one.name]) for one in case.pooled]
    return share_out(claims, target=case.target - case.fixed, usable=case.usable - case.fixed)


def _claim(case: ServiceCase, need: Need) -> Claim:
    common = case.shapes[0]
    floor = max(need.floor, _kept_overflow(case) + 1)
    declared = case.declared or common
    # What was made smaller by hand stays so; what drifted above the inventory comes back.
    cap = min(declared.each, max(shape.each for shape in case.shapes))
    return Claim(
        name=case.name,
        processes=case.processes,
        floor=floor,
        # Never more than that, but where it is too little: then what is needed.
        cap=max(cap, floor),
        need=need.connections or 0,
        declared=declared.connections,
        surge=case.surge_hosts * common.processes,
        further=case.further_hosts * common.processes,
    )


def _kept_overflow(case: ServiceCase) -> int:
    """Return the overflow that a proposal cannot change: it lives nowhere that is known.

    Where not even the size has a known place, all of it is changed by hand, and can be.
    """
    settings = case.service.settings
    if settings.size is None or settings.overflow is not None:
        return 0
    return (case.declared or case.shapes[0]).overflow


def proposed_size(case: ServiceCase, each: int) -> Proposed:
    """Return a pool of `each` connections for each process.

    The overflow goes first: its connections are opened and closed with each burst. Where the
    overflow cannot be changed, it stays and the size shrinks. A pool that grows keeps its overflow.
    """
    declared = case.declared or case.shapes[0]
    kept = _kept_overflow(case)
    overflow = declared.overflow if kept or each > declared.each else max(0, each - declared.size)
    size = each - overflow
    hosts: Counter[int] = Counter()
    for shape in case.shapes:
        hosts[shape.processes] += shape.hosts
    sums = tuple(
        Shape(hosts=count, processes=processes, size=size, overflow=overflow).sum()
        for processes, count in hosts.most_common()
    )
    return Proposed(
        size=size,
        overflow=overflow,
        connections=sum(one.connections for one in sums),
        sums=sums,
    )


def _services(
    case: Case, needs: Mapping[str, Need], shares: Shares, facts: PoolFacts
) -> tuple[ServicePlan, ...]:
    configured: dict[str, list[Configured]] = {}
    for one in facts.configured:
        configured.setdefault(one.service, []).append(one)
    return tuple(
        _service(
            one,
            needs[one.name],
            shares.each.get(one.name),
            tuple(configured.get(one.name, ())),
            case.usable,
        )
        for one in case.services
    )


def _service(
    case: ServiceCase,
    need: Need,
    each: int | None,
    configured: tuple[Configured, ...],
    usable: int,
) -> ServicePlan:
    use = case.use
    standing, because = standing_of(case, need, usable)
    return ServicePlan(
        name=case.name,
        counted_by=case.counted_by,
        counted=case.counted,
        sums=tuple(shape.sum() for shape in case.shapes),
        declared=case.declared.sum() if case.declared is not None else None,
        configured=configured,
        now=use.now if use is not None else None,
        peak=use.peak if use is not None else None,
        busy_mean=use.busy_mean if use is not None else None,
        busy_peak=use.busy_peak if use is not None else None,
        rate_per_s=use.rate_per_s if use is not None else None,
        hold_ms=hold_ms(use) if use is not None else None,
        statements_per_s=use.statements_per_s if use is not None else None,
        statement_ms=use.statement_ms if use is not None else None,
        need=need.connections,
        floor=need.floor if each is not None else None,
        deadlock_floor=need.deadlock,
        standing=standing,
        because=because,
        proposed=proposed_size(case, each) if each is not None else None,
        settable=case.service.settings.size is not None,
        # No more than there are sessions, however many hosts.
        hosts=tuple(_host(case, one) for one in use.hosts if one.peak or one.now) if use else (),
    )


def _host(case: ServiceCase, use: HostUse) -> HostPlan:
    shape = case.of_host(use.host) if case.counted_by == "pool" else None
    return HostPlan(
        host=use.host,
        budget=shape.per_host if shape is not None else None,
        each=shape.each if shape is not None else None,
        now=use.now,
        peak=use.peak,
        processes=use.processes,
    )


def _proposal(case: Case, needs: Mapping[str, Need], shares: Shares) -> Proposal:
    together = case.fixed + sum(one.processes * shares.each[one.name] for one in case.pooled)
    return Proposal(
        fits=shares.fits,
        holds_growth=shares.holds_growth,
        together=together,
        fixed=case.fixed,
        free=case.usable - together,
        ways=() if shares.fits else ways_of(case, needs, together),
    )


def _slots(case: Case, facts: PoolFacts) -> Slots:
    return Slots(
        max_connections=case.max_connections,
        superuser_reserved=case.superuser_reserved,
        reserved=case.reserved,
        usable=case.usable,
        superuser_sessions=facts.server.superuser_sessions,
        used=facts.server.used,
        peak=facts.server.peak,
        reserve_asked=case.reserve_asked,
        reserve=case.reserve,
        target=case.target,
    )


def _seen(facts: PoolFacts) -> Seen:
    return Seen(
        version_num=facts.server.version_num,
        in_recovery=facts.server.in_recovery,
        at=facts.at,
        window_s=facts.window_s,
        samples=facts.samples,
        peak_since=facts.peak_since,
    )


def _bouncer(pool: BouncerUse) -> BouncerPlan:
    return BouncerPlan(
        bouncer=pool.bouncer,
        pool=pool.pool,
        counted=pool.budget,
        now=pool.now,
        clients=pool.clients,
        waiting=pool.waiting,
    )
