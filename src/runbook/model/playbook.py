"""A playbook as written: its target, its parameters, its steps. Verbs are looked up elsewhere."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from runbook.model.inventory import Closed
from runbook.model.units import Duration

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]

ParameterType = Literal[
    "int",
    "bool",
    "string",
    "duration",
    "durations",
    "percentage",
    "amount",
    "amounts",
    "hosts",
]


class Parameter(Closed):
    """A value that a playbook takes, with its type and bounds."""

    type: ParameterType
    description: str = ""
    default: Any = Field(None, description="null: what it is used for keeps its own default")
    required: bool = False
    min: Any = Field(None, description="the smallest value, for int, duration and percentage")
    max: Any = Field(None, description="the largest value, for int, duration and percentage")
    choices: tuple[str, ...] | None = Field(None, description="the only values, for string")


class TargetSpec(Closed):
    """What a playbook is pointed at: `runbook run PLAYBOOK TARGET`."""

    kind: Literal["database", "service", "hosts", "none"] = "none"
    min: Annotated[int, Field(ge=1)] | None = Field(None, description="at least this many hosts")
    max: Annotated[int, Field(ge=1)] | None = Field(None, description="at most this many hosts")


class StepFrame(Closed):
    """What every step may say beside its verb."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=120)]
    when: str | None = Field(None, description="a CEL expression; the step is skipped when false")
    save: Slug | None = Field(
        None, description="keep the result as steps.NAME for later conditions"
    )
    timeout: Duration | None = None


class PlaybookFrame(Closed):
    """The top of a playbook; its steps are read one by one."""

    version: Literal[1]
    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    summary: str = ""
    description: str = ""
    target: TargetSpec = TargetSpec()
    parameters: dict[Slug, Parameter] = Field(default_factory=dict)
    steps: Annotated[tuple[dict[str, Any], ...], Field(min_length=1, max_length=500)]
