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
    "strings",
    "duration",
    "durations",
    "percentage",
    "amount",
    "amounts",
    "pools",
    "hosts",
    "host",
    "unit",
    "service",
    "services",
    "database",
    "enum",
]


class Parameter(Closed):
    """A value that a playbook takes, with its type and bounds."""

    type: ParameterType
    description: str = ""
    default: Any = Field(None, description="null: what it is used for keeps its own default")
    required: bool = Field(False, description="it must be given with -p")
    min: Any = Field(
        None,
        description="the smallest value; of a string its length, of hosts their number, of a list"
        " each of its values",
    )
    max: Any = Field(
        None,
        description="the largest value; of a string its length, of hosts their number, of a list"
        " each of its values",
    )
    choices: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        None, description="the only values, for enum (which needs them), string and names"
    )


class TargetSpec(Closed):
    """What a playbook is pointed at: `runbook run PLAYBOOK TARGET`."""

    kind: Literal["database", "service", "hosts", "none"] = "none"
    min: Annotated[int, Field(ge=1)] | None = Field(None, description="at least this many hosts")
    max: Annotated[int, Field(ge=1)] | None = Field(None, description="at most this many hosts")


class RetrySpec(Closed):
    """Do a step again until it ends well, or `until` holds."""

    times: Annotated[int, Field(ge=2, le=100)] = Field(3, description="attempts in all")
    delay: Duration = Field(5.0, description="the pause between two attempts")
    until: str | None = Field(
        None, description="a CEL expression over `result`, as in: result.exit_code == 0"
    )


Tag = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]


class StepFrame(Closed):
    """What every step may say beside its verb."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=120)]
    when: str | None = Field(None, description="a CEL expression; the step is skipped when false")
    save: Slug | None = Field(
        None, description="keep the result as steps.NAME for later conditions and arguments"
    )
    timeout: Duration | None = None
    for_each: str | tuple[str | int | float | bool, ...] | None = Field(
        None,
        description="do it once for each item, known as ${item}: a list, or ${params.NAME} that"
        " is a list or selects hosts",
    )
    retry: RetrySpec | None = Field(
        None, description="do it again when it fails: a step that only looks, or may be repeated"
    )
    on_failure: Literal["stop", "continue"] | tuple[dict[str, Any], ...] = Field(
        "stop",
        description="stop: the run ends; continue: the next step begins, and the run ends as"
        " failed; a list of steps: they run, then the run ends as failed",
    )
    confirm: str | None = Field(None, description="a question that is asked right before it acts")
    tags: tuple[Tag, ...] = Field((), description="for `run --tags` and `--skip-tags`")


class IncludeSpec(Closed):
    """Another playbook's steps, in the place of a verb; it sees its own parameters alone."""

    playbook: Annotated[str, StringConstraints(min_length=1, max_length=4096)] = Field(
        description="the name of a shipped playbook, or a path seen from the including file"
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description="values by name")
    target: str | None = Field(None, description="what it is pointed at, where it takes a target")


class Needs(Closed):
    """What must hold before a playbook may begin."""

    runbook: str | None = Field(None, description="a version of runbook, as in: >=0.2")
    grants: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,62}$")], ...] = (
        Field((), description="roles that ours must be a member of, as in pg_signal_backend")
    )
    hosts: str | None = Field(None, description="a selector whose hosts must be reachable")


class PlaybookFrame(Closed):
    """The top of a playbook; its steps are read one by one."""

    version: Literal[1]
    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    summary: str = ""
    description: str = ""
    target: TargetSpec = TargetSpec()
    parameters: dict[Slug, Parameter] = Field(default_factory=dict)
    needs: Needs = Needs()
    steps: Annotated[tuple[dict[str, Any], ...], Field(min_length=1, max_length=500)]
    always: Annotated[tuple[dict[str, Any], ...], Field(max_length=100)] = Field(
        (), description="steps that run at the end, however the others ended"
    )
