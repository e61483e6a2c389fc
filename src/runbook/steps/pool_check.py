"""`pool_check`: see whether services keep to the sizes their pools shall have; it only looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from runbook.model.effects import Drive
from runbook.model.errors import UsageError
from runbook.model.fleet import Fleet, ResolvedHost
from runbook.model.inventory import Closed, Name
from runbook.model.plan import Result
from runbook.model.pool_facts import Configured, PoolFacts, ServiceUse
from runbook.model.step import StepContext, StepType
from runbook.model.units import Duration, format_duration
from runbook.steps.pool_settings import configured


class PoolSize(Closed):
    """The pool of one service; what is left out is as the inventory declares it."""

    service: Name
    size: Annotated[int, Field(ge=1)] | None = None
    overflow: Annotated[int, Field(ge=0)] | None = None
    processes: Annotated[int, Field(ge=1)] | None = None


class PoolCheckArgs(Closed):
    """What `pool_check` is given."""

    database: Name = Field(description="the inventory's name of the database")
    pools: Annotated[tuple[PoolSize, ...], Field(min_length=1, max_length=100)] = Field(
        description="service, and what its pool shall keep to: size, overflow, processes"
    )
    watch: Annotated[Duration, Field(ge=0, le=600)] = Field(
        30.0, description="for how long sessions are counted, every half second; 10m at most"
    )
    only_count: bool = Field(False, description="tell what is held, and judge nothing")


def act(args: PoolCheckArgs, ctx: StepContext) -> Drive[Result]:
    """Count for a while; `data` has the peak of each host beside what it may hold."""
    facts = yield from ctx.judge.pool_use(
        args.database, ctx.fleet, window_s=args.watch, hosts=False
    )
    # Hosts may differ in what is not given: one has more processes than the inventory declares.
    read = yield from configured(tuple(pool.service for pool in args.pools), ctx.fleet)
    pools = [_pool(pool, facts, ctx.fleet, read.configured) for pool in args.pools]
    over = [one for pool in pools for one in pool["over"]]
    server = facts.server
    data = {"used": server.used, "peak": server.peak, "usable": server.usable, "pools": pools}
    slots = f"{server.used} of {server.usable} slots are in use"
    if args.only_count:
        return Result(status="ok", summary=slots, data=data)
    watched = format_duration(args.watch)
    if over:
        return Result(
            status="failed",
            summary=f"over the new size: {'; '.join(over)} (watched for {watched})",
            hint="does the app read its new setting, and does it close what it had? `runbook"
            f" diagnose {args.database}` tells who holds them",
            data=data,
        )
    kept = "; ".join(said for pool in pools for said in pool["kept"])
    return Result(status="ok", summary=f"{kept}, watched for {watched}; {slots}", data=data)


def _pool(
    pool: PoolSize, facts: PoolFacts, fleet: Fleet, there: Sequence[Configured]
) -> dict[str, Any]:
    """One service: what each host may hold, what it held, and what is to be said of that."""
    budgets = budgets_of(pool, fleet, there)
    use = next((use for use in facts.services if use.service == pool.service), None)
    told: dict[str, Any] = {"service": pool.service, "budget": max(budgets.values()), "hosts": {}}
    if use is None or pool.service in facts.behind_bouncer:
        why = "comes through a PgBouncer" if use is not None else "has no session that is seen"
        return {**told, "over": [], "kept": [f"{pool.service} {why}: not judged"]}
    told["hosts"] = {host.host: host.peak for host in use.hosts}
    over = list(_over(use, budgets))
    return {**told, "over": over, "kept": [] if over else [_kept(use, budgets)]}


def _over(use: ServiceUse, budgets: Mapping[str, int]) -> Iterator[str]:
    for host in use.hosts:
        if host.peak > budgets[host.host]:
            may = budgets[host.host]
            yield f"{use.service} on {host.host} held {host.peak} and may hold {may}"
    together = sum(budgets.values())
    if not use.hosts and use.peak > together:
        yield f"{use.service} held {use.peak} and may hold {together} on all hosts"


def _kept(use: ServiceUse, budgets: Mapping[str, int]) -> str:
    if not use.hosts:
        together = sum(budgets.values())
        return f"{use.service} held at most {use.peak} and may hold {together} on all hosts"
    fullest = max(use.hosts, key=lambda host: host.peak)
    may = budgets[fullest.host]
    return f"{use.service} held at most {fullest.peak} on a host and may hold {may}"


def budgets_of(pool: PoolSize, fleet: Fleet, there: Sequence[Configured] = ()) -> dict[str, int]:
    """Return what each host may hold: processes x (size + overflow).

    What is not given is as the host itself has it, where the inventory says where that lives;
    else as the inventory declares it.

    Raises:
        UsageError: when nothing says it.
    """
    own: dict[tuple[str, str], int] = {
        (value.host, value.name): int(value.value)
        for value in reversed(there)
        if value.service == pool.service and value.declared and value.value.isdecimal()
    }
    return {host.name: _budget(pool, fleet, host.name, own) for host in _hosts(pool, fleet)}


def _hosts(pool: PoolSize, fleet: Fleet) -> tuple[ResolvedHost, ...]:
    return fleet.service_hosts(pool.service)


def _budget(pool: PoolSize, fleet: Fleet, host: str, own: Mapping[tuple[str, str], int]) -> int:
    declared = fleet.service(pool.service).pool
    values: dict[str, int] = {}
    for name in ("size", "overflow", "processes"):
        value = getattr(pool, name)
        if value is None:
            value = own.get((host, name))
        if value is None and declared is not None:
            value = getattr(declared, name)
        if value is None:
            raise UsageError(
                f"nothing says what {name} the pool of {pool.service} has",
                hint=f"declare services.{pool.service}.pool in the inventory",
            )
        values[name] = value
    return values["processes"] * (values["size"] + values["overflow"])


def _targets(args: PoolCheckArgs, fleet: Fleet) -> tuple[str, ...]:
    fleet.database(args.database)
    for pool in args.pools:
        uses = fleet.service(pool.service).database
        if uses is None or uses not in fleet.same_server(args.database):
            raise UsageError(
                f"service {pool.service!r} uses database {uses!r}, not {args.database!r}",
                hint="name services of this database",
            )
        budgets_of(pool, fleet)
    return (args.database,)


POOL_CHECK = StepType(
    verb="pool_check",
    summary="Count for a while whether each host keeps to the size that its pool shall have.",
    args=PoolCheckArgs,
    phases={"act": act},
    changes=lambda _args: False,
    targets=_targets,
    after_crash="repeat",
    default_timeout_s=900.0,
    target_kind="database",
)
