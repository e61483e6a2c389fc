"""A step type: a verb of the playbook language, its arguments, and its drives.

To add one, imitate a neighbour in `steps/`: one file that ends in a `StepType`, and one line in
the table of `steps/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from runbook.model.effects import Drive
from runbook.model.fleet import Fleet
from runbook.model.inventory import Closed
from runbook.model.plan import AfterCrash, Result
from runbook.model.ports import Judge


@dataclass(frozen=True, kw_only=True, slots=True)
class StepContext:
    """What a drive may know besides its arguments; it holds no door to the world."""

    fleet: Fleet
    judge: Judge
    target: str
    #: Results that this phase builds on, see `Task.given`.
    given: Mapping[str, Any] = field(default_factory=dict)
    run_id: str = ""
    #: At the first change the drive ends, and what earlier steps would have changed is as it was.
    rehearsal: bool = False


#: A phase of a step: arguments and context in, a generator of effects out.
Phase = Callable[[Any, StepContext], Drive[Result]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """A bound of the inventory on what one run may touch: the steps of a plan share it."""

    #: `sessions terminated on prod-db-01`.
    of: str
    #: What this step may take, at most, and what the whole run may.
    takes: int
    most: int
    #: What to change when the steps together may take more.
    hint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StepType:
    """One verb."""

    verb: str
    #: What it does, in one line; shown by `playbooks schema` and in the docs.
    summary: str
    args: type[Closed]
    #: Names of the phases, and their drives. A step that changes nothing has `act` alone. One that
    #: changes something also has `prepare`: it only looks, and its result's `touches` is all that
    #: `act` may touch. `flow="rolling"` has `preflight`, `admit` and `restart`. A step that owes
    #: something to the world (`Owe`) has `settle`, which pays it when its own drive could not.
    phases: Mapping[str, Phase]
    #: Whether a step with these arguments changes the world.
    changes: Callable[[Any], bool]
    #: The inventory names that it works on: one task for each.
    targets: Callable[[Any, Fleet], tuple[str, ...]]
    after_crash: AfterCrash
    #: approval: it asks somebody else; `act` runs after a yes, with `given["answer"]`: yes, by.
    flow: Literal["single", "rolling", "approval"] = "single"
    #: What is locked while it changes something.
    lock: Callable[[Any], str | None] = lambda _args: None
    #: What a step may take of a bound that holds for a whole run; see `Bound`.
    bound: Callable[[Any, Fleet], Bound | None] = lambda _args, _fleet: None
    #: Values that the plan freezes for a rolling flow: batches, min_available, max_failures.
    freeze: Callable[[Any, Fleet], Mapping[str, Any]] = lambda _args, _fleet: {}
    default_timeout_s: float = 600.0
    #: How a person undoes it, in one line; "" for what changes nothing.
    undo: str = ""
    #: What its targets are: the lock of a change is taken on them.
    target_kind: Literal["host", "database", "none"] = "none"
    #: Whether `retry` may do it again although it changes something.
    repeatable: Callable[[Any], bool] = lambda _args: False
    #: Arguments that name a file beside the playbook, and the argument that its content becomes.
    files: Mapping[str, str] = field(default_factory=dict)
    #: Arguments that an interpreter reads as its own: `${…}` in them is refused.
    literal: tuple[str, ...] = ()


#: Why, and what to do instead.
NEVER_PASTED = (
    "a value that is pasted into a shell line can end it and begin another; hand it over, as in"
    ' env: {NAME: "${params.x}"} with "$NAME" in the text'
)
