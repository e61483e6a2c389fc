"""Admission of a batch: restart it only if enough hosts stay healthy meanwhile.

All hosts of the service are looked at anew, those beside this run too. `healthy - healthy in the
batch >= min_available`, or it waits. A batch without a healthy host is admitted regardless:
restarting it costs no capacity, and a saturated database fails every host's health check, so that a
naive budget would wait forever in exactly the incident that it was written for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runbook.model.effects import Drive, Interrupted, Now, Say, Sleep, ask
from runbook.model.plan import Result
from runbook.model.step import StepContext
from runbook.model.units import format_duration
from runbook.steps.rolling_args import RollingArgs, settings, targets
from runbook.steps.rolling_subject import health_of, subject_of

_INTERVAL_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The arithmetic of one look at all hosts."""

    batch: tuple[str, ...]
    floor: int
    #: Why each host is not healthy, or None.
    health: dict[str, str | None]

    @property
    def healthy(self) -> list[str]:
        """Hosts that are healthy now."""
        return [host for host, ill in self.health.items() if ill is None]

    @property
    def taken(self) -> int:
        """Healthy hosts that the batch would take away."""
        return sum(self.health.get(host, "") is None for host in self.batch)

    @property
    def admitted(self) -> bool:
        """Whether the batch may go."""
        return self.taken == 0 or len(self.healthy) - self.taken >= self.floor

    @property
    def hopeless(self) -> bool:
        """Whether even the best of health would not do: waiting cannot help."""
        return len(self.health) - len(self.batch) < self.floor

    def __str__(self) -> str:
        left = len(self.healthy) - self.taken
        return (
            f"{len(self.healthy)} of {len(self.health)} healthy, {self.taken} of them in the"
            f" batch: {left} would stay, {self.floor} must"
        )


def admit(args: RollingArgs, ctx: StepContext) -> Drive[Result]:
    """Look at all hosts until the batch may go, its deadline comes, or an interrupt does."""
    subjects = tuple(subject_of(args, ctx.fleet, host) for host in _counted(args, ctx))
    limit = settings(args, ctx.fleet.service(args.service)).admit_deadline
    deadline = (yield from ask(Now())) + limit
    while True:
        health = yield from health_of(subjects)
        budget = Budget(
            batch=tuple(ctx.given["batch"]), floor=int(ctx.given["min_available"]), health=health
        )
        if budget.admitted:
            return Result(status="ok", summary=_why_admitted(budget), data=_data(budget))
        if budget.hopeless or (yield from ask(Now())) >= deadline:
            return _denied(budget, limit)
        if (yield from ask(Interrupted())):
            return _stopped(budget)
        yield from ask(Say(stage="admitting", text=str(budget)))
        yield from ask(Sleep(seconds=_INTERVAL_S, cut_short=True))


def _counted(args: RollingArgs, ctx: StepContext) -> tuple[str, ...]:
    """Return the hosts whose health counts: this run's reachable ones, and those beside it."""
    # The plan's own hosts: a --limit has narrowed them, and the inventory does not know of it.
    run = set(ctx.given.get("targets") or targets(args, ctx.fleet))
    reachable = set(ctx.given["hosts"])
    service = ctx.fleet.service(args.service)
    return tuple(
        host for host in ctx.fleet.whole(service.hosts) if host in reachable or host not in run
    )


def _why_admitted(budget: Budget) -> str:
    if budget.taken == 0:
        return f"no host of {', '.join(budget.batch)} is healthy: restarting costs no capacity"
    return str(budget)


def _denied(budget: Budget, limit: float) -> Result:
    ill = [f"{host}: {why}" for host, why in budget.health.items() if why is not None]
    if budget.hopeless:
        what = (
            f"a batch of {len(budget.batch)} of {len(budget.health)} hosts can never leave"
            f" {budget.floor} healthy"
        )
        hint = (
            "use smaller batches or a lower min_available; -p min_available=0 lets the service go"
            " down meanwhile"
        )
    else:
        what = f"not enough healthy hosts within {format_duration(limit)}: {budget}"
        hint = "mend the hosts that are not healthy, or lower min_available"
    summary = "; ".join([what, *ill[:3]])
    return Result(status="failed", summary=summary, hint=hint, data=_data(budget))


def _stopped(budget: Budget) -> Result:
    """Somebody wants the run to stop: that is no failure, and no batch begins after it."""
    summary = f"stopped while it waited for enough healthy hosts: {budget}"
    return Result(status="failed", summary=summary, data={**_data(budget), "interrupted": True})


def _data(budget: Budget) -> dict[str, Any]:
    ill = {host: why for host, why in budget.health.items() if why is not None}
    return {"healthy": budget.healthy, "unhealthy": ill, "arithmetic": str(budget)}
