"""A test of a playbook as written: what it is pointed at, what the world answers, what comes of it.

`runbook playbooks test` plays it without a host; see `engine.playbook_test`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from runbook.model.inventory import Closed
from runbook.model.plan import Status

#: A file of more is better split, by what the cases are about.
_MOST_CASES = 1000

#: How a run ends, as `plan.Finish` has it.
Ending = Literal[
    "done", "failed", "halted", "refused", "unknown", "rehearsed", "interrupted", "waiting"
]


class ScriptedResult(Closed):
    """What a task comes to."""

    status: Status = "ok"
    summary: str = ""
    hint: str = ""
    data: dict[str, Any] = Field(
        default_factory=dict, description="what `steps.NAME` holds of it, as the verb returns it"
    )
    touches: tuple[str, ...] = Field((), description="of a prepare: the lines that are confirmed")


class ScriptedOutcome(Closed):
    """One answer of the world; the first one that fits is taken."""

    step: str = Field(description="a step's name, or its key: INCLUDE.STEP, STEP[ITEM]")
    target: str = Field("*", description="a host or a database; * and ? stand for anything")
    phase: str | None = Field(
        None, description="prepare, preflight, admit, …; the step's own work, when left out"
    )
    attempt: Annotated[int, Field(ge=1)] | None = Field(
        None, description="of a step with `retry`: only this attempt"
    )
    result: ScriptedResult = ScriptedResult()


class Expected(Closed):
    """What must come of it; what is left out may be anything."""

    status: Ending | None = None
    reason: str | None = Field(None, description="a part of the reason that the run ends with")
    steps: dict[str, Status | Literal["not_reached"]] = Field(default_factory=dict)
    shows: tuple[str, ...] | None = Field(
        None, description="the lines that are shown to be confirmed, all of them, in any order"
    )
    changes: tuple[str, ...] | None = Field(
        None, description="the lines that are really touched, all of them, in any order"
    )
    not_reached: tuple[str, ...] | None = Field(
        None, description="the targets that a halted run never came to"
    )
    questions: tuple[str, ...] | None = Field(
        None, description="what is asked, in order: `plan`, or the words of the question"
    )


class TestCase(Closed):
    """One run, played."""

    #: pytest must not take it for one of its own.
    __test__ = False

    name: Annotated[str, Field(min_length=1, max_length=200)]
    target: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    rehearsal: bool = Field(False, description="as with --dry-run")
    limit: str | None = Field(None, description="as with --limit")
    tags: tuple[str, ...] = Field((), description="as with --tags")
    skip_tags: tuple[str, ...] = Field((), description="as with --skip-tags")
    outcomes: tuple[ScriptedOutcome, ...] = ()
    answers: dict[str, bool] = Field(
        default_factory=dict,
        description="`plan` or a step's name: yes or no; plans and steps are confirmed when left"
        " out, an approval waits",
    )
    interrupt_after: str | None = Field(None, description="Ctrl-C once this step has a result")
    refused: str | None = Field(
        None, description="it cannot even be planned: a part of the message that says why"
    )
    expect: Expected = Expected()


class PlaybookTest(Closed):
    """A file of tests of one playbook."""

    version: Literal[1]
    playbook: str = Field(description="a shipped one's name, or a path seen from this file")
    inventory: str | dict[str, Any] = Field(
        description="a path seen from this file, or the inventory itself"
    )
    cases: tuple[TestCase, ...]

    @model_validator(mode="after")
    def _some_cases(self) -> Self:
        # Not as a bound of the list: a case with a mistake in it would be told as none at all.
        if not 1 <= len(self.cases) <= _MOST_CASES:
            raise ValueError(f"cases: 1 to {_MOST_CASES:,} of them, not {len(self.cases):,}")
        return self
