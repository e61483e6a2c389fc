"""What happened in a run, as plain data for reports, notes and pages; `engine.history` makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from runbook.model.plan import Obligation, Result
from runbook.model.ports import Request, RunRecord

#: made: it was seen to be made. unseen: it was asked for, and nobody saw what came of it.
#: assumed: a rehearsal showed it.
ChangeState = Literal["made", "unseen", "assumed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stretch of a task: from when it was told to when the next one was. Epoch seconds."""

    name: str
    start: float
    end: float
    #: The last thing that was said in it.
    text: str = ""


@dataclass(kw_only=True, slots=True)
class Made:
    """One change of a task."""

    sentence: str
    at: float
    state: ChangeState
    seconds: float | None = None


@dataclass(kw_only=True, slots=True)
class TaskTold:
    """One task, over every process that worked on it."""

    key: str
    node: str
    phase: str
    target: str
    start: float
    #: The last that is known of it.
    end: float
    result: Result | None = None
    stages: list[Stage] = field(default_factory=list)
    changes: list[Made] = field(default_factory=list)

    @property
    def status(self) -> str:
        """Return how it ended; `no end` for one whose end was not seen."""
        return self.result.status if self.result is not None else "no end"

    @property
    def gates(self) -> list[Mapping[str, Any]]:
        """Return what gates answered it, as plain data."""
        data = self.result.data if self.result is not None else {}
        told = [*listed(data.get("gates")), *listed(data.get("answers"))]
        return [each for each in told if isinstance(each, Mapping) and "asked" in each]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTold:
    """One step of the playbook, and what it came to."""

    key: str
    name: str
    verb: str
    #: None: the run did not come to it.
    result: Result | None
    targets: Mapping[str, Result]
    #: Targets that it was planned for, whatever became of them.
    planned: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Slots:
    """How many usable slots of a database were in use at a moment."""

    at: float
    used: int
    usable: int
    when: str


@dataclass(kw_only=True, slots=True)
class Asked:
    """One question, and who answered it."""

    kind: str
    prompt: str
    touches: tuple[str, ...]
    hash: str
    at: float
    yes: bool | None = None
    by: str = ""
    answered_at: float | None = None
    comment: str = ""
    key: str = ""
    #: Who may answer; empty: anybody. And until when; None: for ever.
    may: tuple[str, ...] = ()
    until: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """Something that befell the run as a whole: a lock, an interrupt, another process."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """All of one run."""

    record: RunRecord
    request: Request | None
    params: Mapping[str, Any]
    #: done, failed, …, or `no end` while there is none.
    status: str
    reason: str
    hint: str
    start: float
    #: The last event, where the run has no end.
    end: float
    steps: tuple[StepTold, ...]
    tasks: tuple[TaskTold, ...]
    questions: tuple[Asked, ...]
    moments: tuple[Moment, ...]
    slots: tuple[Slots, ...]
    #: Pids of the sessions that were terminated, by database.
    terminated: Mapping[str, tuple[int, ...]]
    owed: tuple[Obligation, ...]
    not_exercised: tuple[str, ...]
    by_hand: tuple[str, ...]
    #: Whether the plan has steps that change something, or would.
    changing: bool = False
    #: How often it came to an end: one that was halted and resumed has two.
    ends: int = 0
    #: How many processes have begun to work on it.
    begun: int = 0

    @property
    def changes(self) -> list[tuple[TaskTold, Made]]:
        """Return every change in the order in which it was asked for."""
        made = [(task, change) for task in self.tasks for change in task.changes]
        return sorted(made, key=lambda each: each[1].at)


def listed(value: Any) -> Sequence[Any]:
    """Return a list that a result holds; nothing, where it holds something else."""
    return value if isinstance(value, list | tuple) else ()
