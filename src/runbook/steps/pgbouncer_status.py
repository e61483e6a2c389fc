"""`pgbouncer_status`: how PgBouncers are, by their consoles and by what PostgreSQL sees of them."""

from __future__ import annotations

from pydantic import Field

from runbook.model.effects import Drive
from runbook.model.fleet import Fleet
from runbook.model.inventory import Closed, Name
from runbook.model.plan import Result
from runbook.model.step import StepContext, StepType


class PgbouncerStatusArgs(Closed):
    """What is looked at."""

    of: Name | None = Field(
        None, description="a PgBouncer, or a database with those before it; all, when left out"
    )


def act(args: PgbouncerStatusArgs, context: StepContext) -> Drive[Result]:
    """Look at them; the step fails when anything is wrong there."""
    report = yield from context.judge.bouncers(args.of, context.fleet)
    return Result(
        status="ok" if report.well else "failed",
        summary=report.verdict,
        hint="" if report.well else _how_to_see(args.of),
        data={"report": report.model_dump(mode="json")},
    )


def _how_to_see(target: str | None) -> str:
    return f"runbook pgbouncer status{f' {target}' if target else ''} shows it"


def _targets(args: PgbouncerStatusArgs, fleet: Fleet) -> tuple[str, ...]:
    fleet.pgbouncers_of(args.of)  # an unknown name is an error, with the nearest one
    return (args.of or "inventory",)


PGBOUNCER_STATUS = StepType(
    verb="pgbouncer_status",
    summary="Say who waits at a PgBouncer and for what, and what is paused or does not answer.",
    args=PgbouncerStatusArgs,
    phases={"act": act},
    changes=lambda _args: False,
    targets=_targets,
    after_crash="repeat",
    default_timeout_s=60.0,
)
