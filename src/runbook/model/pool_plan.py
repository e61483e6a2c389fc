"""What `runbook pool plan` says: the budget of one server's connections, and sizes that fit.

These models are the documented JSON of `runbook pool plan --format json`; `schema_version` grows
when a key changes its meaning or goes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runbook.model.inventory import Closed
from runbook.model.pool_facts import Configured, OtherUse, ProcessUse

#: over         more than usable: the pools can fill the server by themselves
#: full         exactly usable: nobody else gets in
#: tight        70% of usable and more, or a declared deploy or autoscaling breaks it
#: comfortable  less than that
Verdict = Literal["over", "full", "tight", "comfortable"]

#: pool       its own hosts x processes x (size + overflow) counts
#: bouncer    it comes through a PgBouncer alone, whose pools count in its stead
#: observed   nobody says how large its pool is: what was seen of it counts
CountedBy = Literal["pool", "bouncer", "observed"]

#: starved    all that it may open was at work at once, or its need is more than that
#: oversized  it may open at least twice what it needs, and that matters to the budget
#: fits       neither
#: unknown    its sessions could not be told apart, or its pool is not declared
Standing = Literal["starved", "oversized", "fits", "unknown"]

GrowthKind = Literal["deploy", "autoscaling", "doubling"]


class Sum(Closed):
    """One line of the sum: hosts x processes x (size + overflow)."""

    hosts: int
    processes: int = Field(description="of one host")
    size: int = Field(description="of one process's pool")
    overflow: int
    connections: int = Field(description="hosts x processes x (size + overflow)")


class Proposed(Closed):
    """A service's pool as it is proposed: the same for each of its processes."""

    size: int
    overflow: int
    connections: int = Field(description="of all its processes")
    sums: tuple[Sum, ...] = Field(
        description="how that comes about; several where hosts have different numbers of processes"
    )


class HostPlan(Closed):
    """One service on one host: what it may hold, and what was seen."""

    host: str
    budget: int | None = Field(description="processes x (size + overflow), as it is configured")
    each: int | None = Field(description="of one process: size + overflow")
    now: int
    peak: int
    processes: tuple[ProcessUse, ...] = Field(
        (), description="by the host's own sockets; empty where it was not looked at"
    )


class ServicePlan(Closed):
    """One service: declared, configured, observed, needed, proposed."""

    name: str
    counted_by: CountedBy
    counted: int = Field(description="connections that it takes of the budget")
    sums: tuple[Sum, ...] = Field(
        (), description="how that comes about; several where hosts are configured differently"
    )
    declared: Sum | None = Field(None, description="by the inventory (and the what-if)")
    configured: tuple[Configured, ...] = Field(
        (), description="what its hosts are configured for, as far as they told"
    )
    now: int | None = Field(None, description="sessions at the last sample; null: not told apart")
    peak: int | None = Field(None, description="the most that were seen")
    busy_mean: float | None = Field(
        None, description="sessions in a transaction or a statement, the mean of the samples"
    )
    busy_peak: int | None = Field(None, description="the most of these at once")
    rate_per_s: float | None = Field(None, description="transactions in a second")
    hold_ms: float | None = Field(
        None, description="how long each holds its connection, by Little's law: busy_mean / rate"
    )
    statements_per_s: float | None = Field(None, description="by pg_stat_statements")
    statement_ms: float | None = Field(
        None, description="the mean of one; a connection is held for all of its transaction"
    )
    need: int | None = Field(
        None, description="connections at work at once, with 30% over the mean for its swings"
    )
    floor: int | None = Field(
        None, description="connections that each process must have: for its need, no deadlock, 1"
    )
    deadlock_floor: int | None = Field(
        None, description="of that: threads x (nested - 1) + 1; null where threads are not declared"
    )
    standing: Standing
    because: str = Field("", description="why it stands so, with the numbers")
    proposed: Proposed | None = Field(
        None, description="by the proposal; its floor, where not even the floors fit"
    )
    settable: bool = Field(
        False, description="the inventory says where its size lives (settings.size)"
    )
    hosts: tuple[HostPlan, ...] = Field(
        (), description="observed by host and process; hosts without a session are left out"
    )

    @property
    def changed(self) -> bool:
        """Whether the proposal is another than what runs."""
        return self.proposed is not None and any(
            (one.size, one.overflow) != (self.proposed.size, self.proposed.overflow)
            for one in self.sums
        )


class BouncerPlan(Closed):
    """One pool of a PgBouncer in front of the server."""

    bouncer: str
    pool: str
    counted: int = Field(description="server connections that it may open")
    now: int
    clients: int
    waiting: int


class Growth(Closed):
    """What a deploy or autoscaling makes of the sum."""

    kind: GrowthKind
    service: str | None = Field(None, description="null: all of them")
    label: str = Field(description="in words: `deploy of shop (+1 host)`")
    connections: int = Field(description="the sum while it lasts")
    over: int = Field(description="by how much that is more than usable; 0 where it is not")
    proposed: int | None = Field(
        None, description="the sum while it lasts, with the proposed sizes"
    )
    worst_case: bool = Field(
        False, description="nobody declared it: shown to compare with, and counts for nothing"
    )


class Slots(Closed):
    """The server's slots, and how the usable ones come about."""

    max_connections: int
    superuser_reserved: int
    reserved: int = Field(description="reserved_connections, PostgreSQL 16 and later")
    usable: int = Field(description="max_connections less both reserves")
    superuser_sessions: int = Field(description="open at that moment: each takes an ordinary slot")
    used: int = Field(description="client backends at the last sample")
    peak: int = Field(description="the most that were seen")
    reserve_asked: str = Field(description="a count or a share of usable")
    reserve: int = Field(description="usable slots that stay free for a bad day")
    target: int = Field(description="usable less the reserve: what the proposal keeps to")


class Seen(Closed):
    """Of which server, when, for how long."""

    version_num: int
    in_recovery: bool
    at: str = Field(description="the server's clock, ISO 8601 in UTC")
    window_s: float
    samples: int
    peak_since: str = Field(description="the earliest look that the peaks take in; empty: this one")


class Direct(Closed):
    """Connections past every pool: people, cron jobs, migrations, monitoring."""

    declared: int = Field(description="databases.NAME.budget.direct")
    peak: int = Field(description="the most that were seen of sessions of no service")
    counted: int = Field(description="the larger of the two; a what-if's own")
    others: tuple[OtherUse, ...] = ()


class Proposal(Closed):
    """Sizes that add up to no more than the target, by the rule of docs/pool.md."""

    fits: bool = Field(description="false: even the floors are more than the target")
    holds_growth: bool = Field(description="declared deploys and autoscaling fit as well")
    together: int = Field(description="what the proposed sizes add up to, with all that is fixed")
    fixed: int = Field(description="of that: direct, PgBouncers, services without a known pool")
    free: int = Field(description="usable slots that stay free with it; negative: missing")
    ways: tuple[str, ...] = Field(
        (), description="where it does not fit: what would help, in numbers"
    )


class PoolPlan(Closed):
    """The budget of one server's connections."""

    schema_version: Literal[1] = 1
    target: str
    verdict: Verdict
    title: str = Field(description="the verdict in one line, with its numbers")
    what_if: tuple[str, ...] = Field((), description="what was supposed; nothing of it is applied")
    seen: Seen
    slots: Slots
    together: int = Field(description="what may be opened: services, PgBouncers, direct")
    declared: int = Field(description="the same, were each host configured as the inventory says")
    percent: int = Field(description="together of usable, rounded down")
    services: tuple[ServicePlan, ...] = ()
    bouncers: tuple[BouncerPlan, ...] = ()
    direct: Direct
    growth: tuple[Growth, ...] = ()
    proposal: Proposal
    notes: tuple[str, ...] = Field((), description="what stands out, in sentences")
    unseen: tuple[str, ...] = Field((), description="what could not be seen, in sentences")
    advice: str = Field("", description="what to do, in a sentence or two")
    command: str | None = Field(None, description="the one command to run next")
