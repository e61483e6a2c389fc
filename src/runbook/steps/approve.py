"""`approve`: let somebody answer before the run goes on; `--yes` is no answer to it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from runbook.model.effects import Drive
from runbook.model.inventory import Closed
from runbook.model.plan import Result
from runbook.model.step import StepContext, StepType
from runbook.model.units import Duration
from runbook.steps import nowhere

#: As people are named in records: `user` or `user@host`.
Person = Annotated[str, StringConstraints(pattern=r"^[^\s@]{1,64}(@[^\s@]{1,253})?$")]


class ApproveArgs(Closed):
    """A question for somebody else."""

    prompt: Annotated[str, StringConstraints(min_length=1, max_length=500)] = Field(
        description="the question, as it is shown to whoever answers"
    )
    by: tuple[Person, ...] = Field(
        (), description="who may answer, as user or user@host; anybody, when left out"
    )
    expires: Annotated[Duration, Field(gt=0)] | None = Field(
        None, description="after this time a yes counts no more; never, when left out"
    )


def act(args: ApproveArgs, ctx: StepContext) -> Drive[Result]:
    """Record who said yes; without an answer nothing goes on."""
    yield from ()
    answer = ctx.given.get("answer") or {}
    if answer.get("yes") is not True:
        return Result(
            status="refused",
            summary=f"not approved: {args.prompt}",
            hint="`runbook runs approve ID` answers it, and `runbook runs resume ID` goes on",
        )
    by = str(answer.get("by") or "somebody")
    return Result(status="ok", summary=f"approved by {by}: {args.prompt}", data={"by": by})


APPROVE = StepType(
    verb="approve",
    summary="wait until somebody says yes: at the terminal, or with `runbook runs approve`",
    args=ApproveArgs,
    phases={"act": act},
    changes=lambda _args: False,
    targets=nowhere.targets,
    after_crash="repeat",
    flow="approval",
    default_timeout_s=60.0,
)
