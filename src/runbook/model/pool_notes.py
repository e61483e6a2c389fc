"""What stands out in a budget, in sentences; and what could not be seen."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from runbook.model.fleet import some_of
from runbook.model.pool_case import number_of
from runbook.model.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runbook.model.pool_case import Case
    from runbook.model.pool_facts import PoolFacts
    from runbook.model.pool_plan import Growth, ServicePlan

#: A look shorter than this says nothing about the busiest hour, whatever it saw.
SHORT_S = 600.0


def notes_of(
    case: Case, services: Sequence[ServicePlan], facts: PoolFacts, growth: Sequence[Growth]
) -> tuple[str, ...]:
    """Return what stands out, the most pressing first."""
    notes = [f"{one.name} is {one.standing}: {one.because}" for one in services if _stands_out(one)]
    notes += (note for one in services for note in _held_too_many(one))
    notes += (note for one in services for note in _configured(one))
    notes += _bouncers(facts)
    notes += _server(case, facts)
    notes += _deploys(growth)
    return tuple(notes)


def _stands_out(service: ServicePlan) -> bool:
    return service.standing in {"starved", "oversized"} or service.counted_by == "observed"


def _held_too_many(service: ServicePlan) -> Iterator[str]:
    if service.counted_by == "pool" and (service.peak or 0) > service.counted:
        yield (
            f"{service.name} held {service.peak} and may open {service.counted}: it leaks, or its"
            " pool is larger than anybody says (runbook diagnose tells which)"
        )


def _configured(service: ServicePlan) -> Iterator[str]:
    """Yield where hosts are configured otherwise than declared, a line for each value."""
    found: dict[tuple[str, str, bool], list[tuple[str, str]]] = defaultdict(list)
    for one in service.configured:
        number = number_of(one)
        declared = getattr(service.declared, one.name, None)
        if one.name in {"size", "overflow", "processes"} and (number is None or number != declared):
            found[one.name, one.value, one.declared].append((one.host, one.source))
    for (name, value, trusted), places in found.items():
        declared = getattr(service.declared, name, None)
        hosts = some_of([host for host, _ in places])
        yield (
            f"{service.name}: {name} is {value} on {hosts} ({places[0][1]});"
            f" declared: {'nothing' if declared is None else declared}"
            + ("" if trusted else "; found beside, so it may be another pool's: not counted")
        )


def _bouncers(facts: PoolFacts) -> Iterator[str]:
    for pool in facts.bouncers:
        if pool.waiting:
            yield (
                f"PgBouncer {pool.bouncer}, pool {pool.pool}: {pool.waiting} of {pool.clients}"
                f" clients wait for one of {pool.budget} server connections"
            )


def _server(case: Case, facts: PoolFacts) -> Iterator[str]:
    sessions = facts.server.superuser_sessions
    if sessions:
        one = sessions == 1
        yield (
            f"{sessions} session{'' if one else 's'} of superusers {'is' if one else 'are'} open:"
            f" each takes an ordinary slot, so at this moment {max(0, case.usable - sessions)} are"
            " usable"
        )
    seen = sum(other.peak for other in facts.others)
    if seen and seen == case.direct:
        who = some_of([other.label for other in facts.others if other.peak])
        yield f"{seen} connections past every pool were seen ({who}): they count as direct"
    if facts.server.in_recovery:
        yield "it is a standby, with a budget of its own: the primary's is another"


def _deploys(growth: Sequence[Growth]) -> Iterator[str]:
    if any(one.over for one in growth):
        yield (
            "a restart in place, host by host (systemctl restart, as runbook's rolling restart"
            " does it), opens nothing twice: only deploys that start new hosts beside the old do"
        )


def unseen_of(services: Sequence[ServicePlan], facts: PoolFacts) -> tuple[str, ...]:
    """Return what the budget had to do without."""
    unseen = list(facts.unseen)
    silent = [one.name for one in services if one.counted_by == "pool" and one.need is None]
    if silent:
        unseen.append(f"the load of {some_of(silent)}: floors of 1 and what is declared stand in")
    if services and not facts.peak_since and facts.window_s < SHORT_S:
        unseen.append(
            f"the busiest hour: all that was seen is {format_duration(facts.window_s)} from"
            f" {facts.at}; look again when it matters, or with --window 10m"
        )
    return tuple(unseen)
