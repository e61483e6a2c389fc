"""`set`: give values names of their own, for the conditions and arguments of later steps."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field, field_validator

from runbook.model.effects import Drive
from runbook.model.inventory import Closed
from runbook.model.plan import Result
from runbook.model.playbook import Slug
from runbook.model.step import StepContext, StepType
from runbook.steps import nowhere

#: What every saved result has beside its data.
_TAKEN = frozenset({"status", "summary", "targets", "items"})


class SetArgs(Closed):
    """Names and their values."""

    values: Annotated[dict[Slug, Any], Field(min_length=1, max_length=100)] = Field(
        description="name: value; with `save: NAME` they are steps.NAME.name"
    )

    @field_validator("values")
    @classmethod
    def _free_names(cls, values: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(_TAKEN & set(values))
        if taken:
            raise ValueError(f"{', '.join(taken)}: every saved result has that name already")
        return values


def act(args: SetArgs, _ctx: StepContext) -> Drive[Result]:
    """Return the values as the step's data."""
    yield from ()
    said = ", ".join(f"{name} = {json.dumps(value)}" for name, value in args.values.items())
    summary = said if len(said) <= 200 else f"{said[:199]}…"
    return Result(status="ok", summary=summary, data=dict(args.values))


SET = StepType(
    verb="set",
    summary="give values names of their own, for later conditions and arguments",
    args=SetArgs,
    phases={"act": act},
    changes=lambda _args: False,
    targets=nowhere.targets,
    after_crash="repeat",
    default_timeout_s=60.0,
)
