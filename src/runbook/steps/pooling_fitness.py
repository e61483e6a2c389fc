"""`pooling_fitness`: what pooling by transaction would break, by evidence; and the mode to take."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from runbook.model.effects import Drive
from runbook.model.fleet import Fleet
from runbook.model.inventory import Closed, Name
from runbook.model.plan import Result
from runbook.model.step import StepContext, StepType


class PoolingFitnessArgs(Closed):
    """Whose statements are looked at."""

    database: Name = Field(description="the inventory's name")
    dbname: str | None = Field(
        None, description="this database of the server alone; all of them, if left out"
    )
    service: Name | None = Field(
        None, description="what this service's role says; all services' roles, if left out"
    )
    pgbouncer_version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+")] | None = Field(
        None,
        description="the PgBouncer that is meant: 1.21 and later keep prepared statements apart",
    )


def act(args: PoolingFitnessArgs, context: StepContext) -> Drive[Result]:
    """Look, and propose; that something speaks against it is no failure."""
    fitness = yield from context.judge.pooling_fitness(
        args.database,
        context.fleet,
        dbname=args.dbname,
        service=args.service,
        pgbouncer_version=args.pgbouncer_version,
    )
    return Result(
        status="ok",
        summary=fitness.verdict,
        data={"mode": fitness.mode, "report": fitness.model_dump(mode="json")},
    )


def _targets(args: PoolingFitnessArgs, fleet: Fleet) -> tuple[str, ...]:
    fleet.database(args.database)  # an unknown name is an error, with the nearest one
    if args.service is not None:
        fleet.service(args.service)
    return (args.database,)


POOLING_FITNESS = StepType(
    verb="pooling_fitness",
    summary="Say what pooling by transaction would break, by evidence, and propose the mode.",
    args=PoolingFitnessArgs,
    phases={"act": act},
    changes=lambda _args: False,
    targets=_targets,
    after_crash="repeat",
    default_timeout_s=60.0,
)
