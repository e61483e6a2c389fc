"""What a pool plan says in words, for the screen and for Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import nlargest
from typing import TYPE_CHECKING

from runbook.model.pool_budget import ONE_INCIDENT_AWAY, TIGHT
from runbook.model.pool_case import number_of
from runbook.model.pool_need import SWING
from runbook.model.units import format_duration

if TYPE_CHECKING:
    from runbook.model.pool_plan import HostPlan, PoolPlan, ServicePlan, Sum

HEADS = ("Service", "declared", "configured", "now/peak", "need", "proposed")
#: Lines of each kind that are shown: the fullest first.
LINES_SHOWN = 8
#: Processes of a host that are named.
PROCESSES_SHOWN = 3


def cells(service: ServicePlan, *, fits: bool) -> tuple[str, ...]:
    """Return a service's row under HEADS."""
    return (
        service.name + (" (by PgBouncer)" if service.counted_by == "bouncer" else ""),
        _declared(service.declared),
        _configured(service),
        "?" if service.now is None else f"{service.now}/{service.peak}",
        "?" if service.need is None else str(service.need),
        _proposed(service) if fits else "",
    )


def _declared(one: Sum | None) -> str:
    return "?" if one is None else f"{one.connections}"


def _configured(service: ServicePlan) -> str:
    """Return what its hosts are configured for, of the places that the inventory names."""
    told = any(one.declared and number_of(one) is not None for one in service.configured)
    return str(sum(one.connections for one in service.sums)) if told else ""


def _proposed(service: ServicePlan) -> str:
    if service.proposed is None:
        return ""
    return str(service.proposed.connections) if service.changed else "as is"


def seen_line(plan: PoolPlan) -> str:
    """Return of which server, when and for how long."""
    seen = plan.seen
    standby = ", a standby" if seen.in_recovery else ""
    version = f"{seen.version_num // 10000}.{seen.version_num % 10000}"
    samples = f"{seen.samples} sample{'' if seen.samples == 1 else 's'}"
    peaks = f"; peaks since {seen.peak_since}" if seen.peak_since else ""
    return (
        f"PostgreSQL {version}{standby}, seen at {seen.at} for"
        f" {format_duration(seen.window_s)} ({samples}){peaks}"
    )


def usable_line(plan: PoolPlan) -> str:
    """Return how the usable slots come about; only what is not 0 is subtracted."""
    slots = plan.slots
    taken = (
        (slots.superuser_reserved, "reserved for superusers"),
        (slots.reserved, "reserved_connections"),
    )
    terms = [f"max_connections {slots.max_connections}"]
    terms += [f"{number} {words}" for number, words in taken if number]
    declared = (
        ""
        if plan.declared == plan.together
        else f"; as the inventory declares them: {plan.declared}"
    )
    return f"{' - '.join(terms)} = {slots.usable} usable{declared}"


def band_line(plan: PoolPlan) -> str:
    """Return the share that may be taken, and what the bands mean."""
    return (
        f"{plan.percent}% of usable ({TIGHT} and more is tight, {ONE_INCIDENT_AWAY} one incident"
        " away)"
    )


def load_lines(plan: PoolPlan) -> Iterator[str]:
    """Yield each service's need as arithmetic, the neediest first."""
    told = [one for one in plan.services if one.busy_mean is not None and one.need]
    told.sort(key=lambda one: -(one.need or 0))
    for one in told[:LINES_SHOWN]:
        yield f"{one.name}: {_load(one)}"
    for one in plan.services:
        if one.deadlock_floor is not None and one.deadlock_floor > 1 and one.declared is not None:
            yield (
                f"{one.name}: {one.deadlock_floor} for each process, or requests that hold several"
                " connections can deadlock: threads x (nested - 1) + 1"
            )


def _load(one: ServicePlan) -> str:
    mean = f"{one.busy_mean:.1f} at work in the mean"
    if one.rate_per_s and one.hold_ms is not None:
        mean = f"{one.rate_per_s:.1f}/s x {one.hold_ms:.1f} ms = {mean}"
    statements = ""
    if one.statements_per_s and one.statement_ms is not None:
        statements = f" ({one.statements_per_s:.1f} statements/s of {one.statement_ms:.1f} ms)"
    return f"{mean}{statements}, x {SWING}; at most {one.busy_peak} at once; need {one.need}"


def host_lines(plan: PoolPlan) -> Iterator[str]:
    """Yield services on hosts that hold the most of what they may, the fullest first."""
    rows = [(one.name, host) for one in plan.services for host in one.hosts]
    for name, host in nlargest(LINES_SHOWN, rows, key=lambda row: _filled(row[1])):
        may = "" if host.budget is None else f" of {host.budget}"
        held = f"{host.now} now, {host.peak}{may} at the peak"
        yield f"{name} on {host.host}: {held}{_processes(host)}"
    if len(rows) > LINES_SHOWN:
        yield f"and {len(rows) - LINES_SHOWN} more (--format json lists all)"


def _filled(host: HostPlan) -> float:
    return host.peak / host.budget if host.budget else 0.0


def _processes(host: HostPlan) -> str:
    """Return `; gunicorn pid 812 (5 of 5), …`, the fullest first."""
    if not host.processes:
        return ""
    may = "" if host.each is None else f" of {host.each}"
    fullest = nlargest(PROCESSES_SHOWN, host.processes, key=lambda process: process.now)
    shown = ", ".join(f"{one.name} pid {one.pid} ({one.now}{may})" for one in fullest)
    more = len(host.processes) - len(fullest)
    return f"; {shown}" + (f" and {more} processes more" if more else "")
