"""A frozen plan, the tasks it unfolds into, and their results: plain data that a journal keeps."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

#: What a task ended as.
#:   ok           done and verified
#:   failed       it was tried and did not succeed
#:   refused      stopped before anything changed
#:   unreachable  no connection; nothing was done there
#:   unknown      something was asked for, its outcome could not be seen
#:   rehearsed    looked at live; the changes were shown, not made
#:   skipped      its condition did not hold
#:   not_exercised  depends on a change that a rehearsal only assumed
Status = Literal[
    "ok", "failed", "refused", "unreachable", "unknown", "rehearsed", "skipped", "not_exercised"
]

#: What an executor does with a task whose outcome a crash swallowed.
AfterCrash = Literal["probe", "repeat", "ask"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """How a task ended. `data` is JSON-able; later steps read it by the step's `save` name."""

    status: Status
    summary: str = ""
    #: What to do next, when it did not go well.
    hint: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    #: Footprints: one line for each thing that would be, or was, touched.
    touches: tuple[str, ...] = ()
    #: What a rehearsal did not exercise, for people.
    not_exercised: tuple[str, ...] = ()
    #: Commands with which a person finishes, checks or undoes by hand.
    by_hand: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether a plan goes on after it."""
        return self.status in {"ok", "rehearsed", "skipped", "not_exercised"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One step of a playbook with every value filled in."""

    #: The step's name as a slug: stable, never positional.
    key: str
    name: str
    verb: str
    args: dict[str, Any]
    changes: bool
    flow: Literal["single", "rolling"]
    #: Inventory names that the step touches: one task each. Databases or hosts.
    targets: tuple[str, ...]
    #: Which of these a rolling step restarts together, frozen: sizes of the batches in order.
    batches: tuple[int, ...] = ()
    min_available: int = 0
    max_failures: int = 0
    when: str | None = None
    save: str | None = None
    timeout_s: float = 600.0
    after_crash: AfterCrash = "ask"
    #: What is locked while it changes something: `service shop`, `database prod-db-01`.
    lock: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run will do, decided before it does anything."""

    #: Selects the version of `decide`; old runs are decided by old rules.
    engine: int
    playbook: str
    target: str | None
    params: dict[str, Any]
    nodes: tuple[Node, ...]
    rehearsal: bool
    parallel: int = 20

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `plan_from_json` is its inverse."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @property
    def hash(self) -> str:
        """Return 12 hex digits over all that the plan says, a rehearsal's flag aside."""
        data = self.to_json()
        data.pop("rehearsal")
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]


def plan_from_json(data: dict[str, Any]) -> Plan:
    """Return the plan that `Plan.to_json` wrote."""
    nodes = tuple(
        Node(**{**node, "targets": tuple(node["targets"]), "batches": tuple(node["batches"])})
        for node in data["nodes"]
    )
    return Plan(**{**data, "nodes": nodes})


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One piece of work for `perform`: a phase of a node on one target."""

    #: `NODE/PHASE/TARGET`, for instance `roll/restart/web-07`: stable across resumes.
    key: str
    node: str
    verb: str
    #: The step type's drive to run: prepare, act, preflight, admit, restart.
    phase: str
    target: str
    args: dict[str, Any]
    timeout_s: float
    #: Whether a Change may be made in this phase at all.
    changes: bool = False
    #: Data of results that this task builds on: `prepared` (its own prepare), `peers`, ….
    given: dict[str, Any] = field(default_factory=dict)
    #: Footprints that were shown and confirmed; a Change outside of them is refused.
    shown: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Perform:
    """Command: start these tasks, side by side."""

    tasks: tuple[Task, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Confirm:
    """Command: show these footprints and ask; the answer binds to `hash`."""

    key: str
    touches: tuple[str, ...]
    hash: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finish:
    """Command: the run is over."""

    status: Literal["done", "failed", "halted", "refused", "unknown", "rehearsed", "interrupted"]
    reason: str = ""
    hint: str = ""
    #: Targets that a halted run never came to.
    not_reached: tuple[str, ...] = ()


Command = Perform | Confirm | Finish
