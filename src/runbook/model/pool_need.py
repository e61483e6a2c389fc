"""What a service's pool needs: Little's law for its load, and what keeps it from deadlock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runbook.model.inventory import Pool
    from runbook.model.pool_case import ServiceCase
    from runbook.model.pool_facts import ServiceUse
    from runbook.model.pool_plan import Standing

#: Connections over the mean that a load needs for its swings: 20 to 30% is the rule of thumb.
SWING = 1.3
#: A pool this many times its need is oversized …
OVERSIZED = 2
#: … when what it has too much is at least this share of the usable slots, in percent: less does not
#: matter to the budget, and small pools are always "twice what is needed".
MATTERS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """What a service needs; None where it could not be told."""

    #: Connections at work at once.
    connections: int | None
    #: Connections of each process, at least.
    floor: int
    #: The part of that which no load changes: no deadlock.
    deadlock: int | None
    #: All that it may open was at work at once: the true need is hidden by its own limit.
    hidden: bool


def need_of(case: ServiceCase) -> Need:
    """Return what a service needs, by what was seen of it."""
    deadlock = deadlock_floor(case.pool)
    load = connections_needed(case.use) if case.use is not None else None
    if case.use is None or load is None:
        return Need(connections=None, floor=deadlock or 1, deadlock=deadlock, hidden=False)
    hidden = case.counted_by == "pool" and 0 < case.counted <= (case.use.busy_peak or 0)
    if hidden:
        load = max(load, _swung(case.counted))
    by_load = -(-load // case.processes) if case.processes else 0
    return Need(
        connections=load,
        floor=max(1, deadlock or 1, by_load),
        deadlock=deadlock,
        hidden=hidden,
    )


def connections_needed(use: ServiceUse) -> int | None:
    """Return the larger of what was at work at once and 1.3 times the mean, rounded up.

    None where it was hidden from our role what its sessions do.

    The mean of the sessions at work is rate x hold time, by Little's law: L = λ x W.
    """
    if use.busy_mean is None or use.busy_peak is None:
        return None
    return max(use.busy_peak, _swung(use.busy_mean))


def deadlock_floor(pool: Pool | None) -> int | None:
    """Return threads x (nested - 1) + 1 connections of one process; None where nobody says.

    With fewer, all threads may hold all but their last connection and wait for each other for ever.
    (The formula is HikariCP's: https://github.com/brettwooldridge/HikariCP/wiki/About-Pool-Sizing)
    """
    if pool is None or pool.nested == 1:
        return 1 if pool is not None and pool.threads is not None else None
    return None if pool.threads is None else pool.threads * (pool.nested - 1) + 1


def standing_of(case: ServiceCase, need: Need, usable: int) -> tuple[Standing, str]:
    """Return how a service's pool stands to its need, and why in a sentence."""
    if case.counted_by == "bouncer":
        return "fits", "it comes through a PgBouncer alone, whose pools count in its stead"
    if case.counted_by == "observed":
        return "unknown", "nobody says how large its pool is: the most that were seen count"
    each = min(shape.each for shape in case.shapes)
    if need.deadlock is not None and each < need.deadlock:
        return "starved", (
            f"{each} for each process can deadlock: {need.deadlock} is the least"
            " (threads x (nested - 1) + 1)"
        )
    if case.use is None or need.connections is None:
        return "unknown", "what its sessions do could not be seen"
    return _by_load(case, case.use, need, usable)


def _by_load(case: ServiceCase, use: ServiceUse, need: Need, usable: int) -> tuple[Standing, str]:
    load = need.connections or 0
    if need.hidden:
        return "starved", (
            f"{use.busy_peak} were at work at once, and {case.counted} is all that it may open:"
            " whoever came then waited"
        )
    if load > case.counted:
        return "starved", f"it needs {load}, and may open {case.counted}"
    least = need.floor * case.processes
    surplus = case.counted - least
    if case.counted >= OVERSIZED * least and surplus * 100 >= MATTERS * usable:
        return "oversized", (
            f"it may open {case.counted}; {use.peak} were open at the most,"
            f" {use.busy_peak} at work at once, and {least} would do"
        )
    return "fits", f"it may open {case.counted}, and needs {load}"


def hold_ms(use: ServiceUse) -> float | None:
    """Return for how long each transaction holds its connection, in milliseconds."""
    if not use.rate_per_s or use.busy_mean is None:
        return None
    return round(use.busy_mean / use.rate_per_s * 1000, 3)


def _swung(mean: float) -> int:
    # 110 x 1.3 is 143.00000000000003 in floats, and 143 on paper.
    return math.ceil(round(mean * SWING, 6))
