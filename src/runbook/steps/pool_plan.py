"""The verb `pool_plan`: gather what the budget of a server's connections is made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from runbook.model.inventory import Closed, Name
from runbook.model.plan import Result
from runbook.model.step import StepContext, StepType
from runbook.model.units import Duration
from runbook.steps.pool_settings import configured

if TYPE_CHECKING:
    from runbook.model.effects import Drive
    from runbook.model.fleet import Fleet
    from runbook.model.pool_facts import PoolFacts


class PoolPlanArgs(Closed):
    """What `pool_plan` takes."""

    database: Name
    window: Annotated[Duration, Field(ge=0, le=600)] = Field(
        3.0, description="for how long connections are counted, every half second; 10m at most"
    )
    hosts: bool = Field(
        True,
        description="look over SSH at which process holds what, and at what is configured there",
    )


def _act(args: PoolPlanArgs, context: StepContext) -> Drive[Result]:
    facts = yield from context.judge.pool_use(
        args.database, context.fleet, window_s=args.window, hosts=args.hosts
    )
    if args.hosts:
        names = tuple(use.service for use in facts.services)
        read = yield from configured(names, context.fleet)
        unseen = (*facts.unseen, *read.unseen)
        facts = facts.model_copy(update={"configured": read.configured, "unseen": unseen})
    return Result(
        status="ok", summary=_summary(facts), data={"facts": facts.model_dump(mode="json")}
    )


def _summary(facts: PoolFacts) -> str:
    server = facts.server
    return (
        f"{server.used} of {server.usable} usable connections of {facts.database} are in use, at"
        f" most {server.peak}, in {facts.samples} look{'' if facts.samples == 1 else 's'}"
    )


def _targets(args: PoolPlanArgs, fleet: Fleet) -> tuple[str, ...]:
    fleet.database(args.database)  # an unknown name is an error, with the nearest one
    return (args.database,)


POOL_PLAN = StepType(
    verb="pool_plan",
    summary="Gather what a pool budget is made from: the limits, who holds what, what is set.",
    args=PoolPlanArgs,
    phases={"act": _act},
    changes=lambda _args: False,
    targets=_targets,
    after_crash="repeat",
    default_timeout_s=900.0,
)
