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
    #: What was taken out as a secret, as JSON pointers into what `steps.NAME` is: `/stdout`,
    #: `/rows/0/note`. What stands there now is for people to read, and never used for anything.
    masked: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether a plan goes on after it."""
        return self.status in {"ok", "rehearsed", "skipped", "not_exercised"}


#: What stands beside the main line of a playbook.
#:   main        one of its `steps`
#:   on_failure  runs when the step `of` did not end well
#:   always      runs at the end of every run that changed, or may have changed, anything
Role = Literal["main", "on_failure", "always"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """Doing a step again: attempts in all, seconds between two, and what ends it well."""

    times: int
    delay_s: float
    #: A CEL expression over `result`; None: until it ends well.
    until: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One step of a playbook with every value filled in."""

    #: The step's name as a slug: stable, never positional. `drain-caches[redis-1]` is one item of
    #: a `for_each`; `relieve.terminate` is a step of the playbook that the step `relieve` includes.
    key: str
    name: str
    verb: str
    args: dict[str, Any]
    changes: bool
    flow: Literal["single", "rolling", "approval"]
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
    #: Which kind of thing its targets are; a change also takes a lock on the target itself.
    target_kind: Literal["host", "database", "none"] = "none"
    #: Whose parameters and saved results its conditions and arguments see: "" is the playbook
    #: itself, else the key of the step that includes another one; see `Plan.scopes`.
    scope: str = ""
    #: The item of a `for_each`, known as `${item}` and `item`; and the key of the step that loops.
    item: Any = None
    loop: str | None = None
    role: Role = "main"
    #: The key of the step whose failure starts this one.
    of: str | None = None
    #: What a failure of it does to the run: "continue" lets the next step begin.
    on_failure: Literal["stop", "continue"] = "stop"
    retry: Retry | None = None
    #: A question of its own, asked right before it acts.
    confirm: str | None = None
    tags: tuple[str, ...] = ()
    #: Arguments that hold a file's content: nothing in them is filled in.
    verbatim: tuple[str, ...] = ()
    #: Conditions of the steps that include it, outermost first: (scope, expression). Each is
    #: evaluated in its own scope, and all of them and `when` must hold.
    also_when: tuple[tuple[str, str], ...] = ()
    #: Questions of the steps that include it: (key of the include, question). Each is asked once
    #: a run, before the first step of that include acts.
    also_confirm: tuple[tuple[str, str], ...] = ()
    #: The key of an include that says `on_failure: continue`: a failure ends that include (the
    #: rest of its steps do not begin), and the next step after it begins.
    continues: str | None = None


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
    #: Parameters of included playbooks, by the key of the step that includes them.
    scopes: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: What included playbooks are pointed at: `target` in their conditions, by the same keys.
    scope_targets: dict[str, str | None] = field(default_factory=dict)
    #: `host web-01`, `service shop` -> a digest of what the inventory said of them.
    subjects: dict[str, str] = field(default_factory=dict)

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
    return Plan(**{**data, "nodes": tuple(_node_from_json(node) for node in data["nodes"])})


def _node_from_json(node: dict[str, Any]) -> Node:
    retry = node.get("retry")
    tuples = {key: tuple(node.get(key, ())) for key in ("targets", "batches", "tags", "verbatim")}
    for key in ("also_when", "also_confirm"):
        tuples[key] = tuple(tuple(pair) for pair in node.get(key, ()))
    return Node(**{**node, **tuples, "retry": Retry(**retry) if retry else None})


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
    #: Data of results that this task builds on: `prepared` (its own prepare), `peers`, …. After a
    #: crash the executor adds `crashed`, see `Crashed`.
    given: dict[str, Any] = field(default_factory=dict)
    #: Seconds to wait before it begins (a retry's delay); an interrupt cuts the wait short.
    wait_s: float = 0.0
    #: See `Node.target_kind`.
    target_kind: Literal["host", "database", "none"] = "none"
    #: Footprints that were shown and confirmed; a Change outside of them is refused.
    shown: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Crashed:
    """What the journal has of a task that lost its process, or ended without a clear outcome.

    A phase finds it as plain data in `ctx.given["crashed"]`, and observes before it does anything.
    """

    #: Sentences of the Changes that were intended, in order; the last may or may not be made.
    intended: tuple[str, ...] = ()
    #: Sentences of those that were seen to be made.
    changed: tuple[str, ...] = ()
    #: All that the task kept by `Note`, later ones over earlier ones.
    notes: dict[str, Any] = field(default_factory=dict)
    #: The result that it ended with, where it ended at all: a failed host is looked at again.
    result: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Obligation:
    """Something that a run owes the world: what was drained is owed an undrain."""

    #: Unique in the run: `undrain app-1`.
    key: str
    #: The task that owes it.
    task: str
    #: For people: what is owed, and the commands that do it by hand.
    what: str
    by_hand: tuple[str, ...] = ()
    #: What the phase `settle` of the task's step needs to pay it. `under_way`: what was asked for
    #: may still come, so on a resume the task looks before anything is paid.
    data: dict[str, Any] = field(default_factory=dict)


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
    #: plan: everything that the run will touch, once. step: a step's own `confirm`, asked right
    #: before it acts. approval: the verb `approve`, for somebody else to answer.
    kind: Literal["plan", "step", "approval"] = "plan"
    #: The question, for the kinds step and approval.
    prompt: str = ""
    node: str | None = None
    #: Who may answer, as `user` or `user@host`; empty: anybody who can reach the journal.
    by: tuple[str, ...] = ()
    #: Seconds after which nobody's yes counts any more; None never expires.
    expires_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Finish:
    """Command: the run is over."""

    #: waiting: somebody has to answer first (`runs approve`); then the run is resumed.
    status: Literal[
        "done", "failed", "halted", "refused", "unknown", "rehearsed", "interrupted", "waiting"
    ]
    reason: str = ""
    hint: str = ""
    #: Targets that a halted run never came to.
    not_reached: tuple[str, ...] = ()
    #: Commands with which a person pays what the run still owes.
    by_hand: tuple[str, ...] = ()


Command = Perform | Confirm | Finish
