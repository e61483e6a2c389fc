"""The pools of PgBouncers in a few lines, when clients wait there or are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.model.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.model.diagnosis import Diagnosis, PoolerPool

#: Pools that are listed; those beyond are summed up, and `--format json` has them all.
POOLS_SHOWN = 5


def pooler_lines(diagnosis: Diagnosis) -> Iterator[str]:
    """Yield one line for each pool at which clients wait or are refused, the longest queue first.

    Nothing is said of pools that do what they are there for, nor of the one that the finding is
    about: its evidence has the same figures.
    """
    told = [pool for pool in diagnosis.poolers if pool.binds or pool.cl_waiting]
    if diagnosis.finding.cause == "pooler-exhausted" and len(told) == 1:
        return
    told.sort(key=lambda pool: (-pool.cl_waiting, -pool.maxwait_s))
    for pool in told[:POOLS_SHOWN]:
        yield f"{pool.pgbouncer}, pool {pool.database}/{pool.user} ({pool.mode}): {_use(pool)}"
    if rest := told[POOLS_SHOWN:]:
        waiting = sum(pool.cl_waiting for pool in rest)
        yield f"and {len(rest)} more pools with {waiting} waiting (--format json lists all)"


def _use(pool: PoolerPool) -> str:
    most = pool.pool_size + pool.reserve
    servers = f"{pool.sv_active} of {most} server connections have a client"
    clients = f"{pool.cl_active} clients active, {pool.cl_waiting} waiting"
    wait = f" for up to {format_duration(pool.maxwait_s)}" if pool.cl_waiting else ""
    return f"{servers}, {clients}{wait}{_binds(pool)}"


def _binds(pool: PoolerPool) -> str:
    if pool.binds is None:
        return ""
    if pool.bound is not None:
        return f"; {pool.binds} {pool.bound} is reached"
    words = {
        "no_server": "it gets no server connection",
        "untold": "why they wait was not told",
    }
    return f"; {words.get(pool.binds, pool.binds)}"
