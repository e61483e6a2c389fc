"""Plays a plan against a scripted world: the real `decide`, the real steps, no host.

A look must be told what it sees. A change that nothing is said about goes well: it is driven up to
the first thing that only the world could answer, and then taken for done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from runbook.engine import asking
from runbook.engine.book import Ledger, main_phase
from runbook.engine.decide import decide, why_not_run
from runbook.engine.drive import World
from runbook.engine.outcomes import step_outcomes
from runbook.engine.perform import Performer
from runbook.engine.written import slug
from runbook.model.effects import (
    Change,
    ChangeCommand,
    ChangeSql,
    CommandOutcome,
    Effect,
    HttpPost,
    HttpReply,
    PutFile,
    RestartUnit,
    Rows,
)
from runbook.model.errors import StepFailed
from runbook.model.fleet import Fleet
from runbook.model.plan import Confirm, Finish, Node, Obligation, Perform, Plan, Result, Task
from runbook.model.playbook_test import ScriptedOutcome, TestCase
from runbook.model.ports import Judge
from runbook.model.step import StepType

#: Commands of `decide` that a case may take: a plan of the most steps, each host on its own.
_MOST_COMMANDS = 100_000
#: Statuses of a change that may have touched what it showed.
_TOUCHED = frozenset({"ok", "failed", "unknown"})


class Unanswered(Exception):
    """A look was not told what it sees; the message says which, and what to add."""

    def __init__(self, task: Task, effect: str) -> None:
        super().__init__(effect)
        self.task, self.effect = task, effect


@dataclass(frozen=True, kw_only=True)
class Played:
    """What came of a case."""

    plan: Plan
    finish: Finish
    #: Status by the step's key; "not_reached" where it has none.
    statuses: Mapping[str, str]
    summaries: Mapping[str, str]
    #: Lines that were shown to be confirmed, and those that were touched.
    shows: tuple[str, ...]
    changes: tuple[str, ...]
    questions: tuple[str, ...]
    #: Outcomes that nothing asked for, by their number.
    unused: tuple[int, ...]


def play(
    plan: Plan, case: TestCase, steps: Mapping[str, StepType], fleet: Fleet, judge: Judge
) -> Played:
    """Play a plan to its end.

    Raises:
        Unanswered: when a step looks at something that the case does not speak of.
    """
    return _Play(plan, case, steps, fleet, judge).run()


def nodes_named(plan: Plan, name: str) -> tuple[Node, ...]:
    """Return the steps of a plan that a test's word names: a step's name, or its key."""
    key = slug(name)
    return tuple(
        node for node in plan.nodes if name in {node.name, node.key} or key in {node.key, node.loop}
    )


class _Play:
    def __init__(
        self,
        plan: Plan,
        case: TestCase,
        steps: Mapping[str, StepType],
        fleet: Fleet,
        judge: Judge,
    ) -> None:
        self._plan, self._case, self._fleet = plan, case, fleet
        self._nodes = {node.key: node for node in plan.nodes}
        self._world = _World(plan.rehearsal)
        self._performer = Performer(
            steps=steps, world=self._world.world, fleet=fleet, judge=judge, run_id="TEST"
        )
        self._script = [
            (number, outcome, {node.key for node in nodes_named(plan, outcome.step)})
            for number, outcome in enumerate(case.outcomes)
        ]
        self._used: set[int] = set()
        self._results = Ledger({})
        self._answers: dict[str, bool] = {}
        self._confirmed: frozenset[str] = frozenset()
        self._answered: dict[str, dict[str, Any]] = {}
        self._owed: dict[str, Obligation] = {}
        self._changes: list[str] = []
        self._shows: dict[str, None] = {}
        self._questions: list[str] = []
        #: Tasks whose prepare was scripted or taken for granted: their act is as well.
        self._granted: set[tuple[str, str]] = set()

    def run(self) -> Played:
        finish = self._finish()
        outcomes = step_outcomes(self._plan, self._results)
        told = {
            step.node.key: step.result or why_not_run(self._plan, step.node, self._results)
            for step in outcomes
        }
        return Played(
            plan=self._plan,
            finish=finish,
            statuses={key: r.status if r else "not_reached" for key, r in told.items()},
            summaries={key: r.summary if r else "" for key, r in told.items()},
            shows=tuple(self._shows),
            changes=tuple(self._changes),
            questions=tuple(self._questions),
            unused=tuple(n for n, _, _ in self._script if n not in self._used),
        )

    def _finish(self) -> Finish:
        for _ in range(_MOST_COMMANDS):
            command = decide(
                self._plan,
                self._results,
                self._answers,
                interrupted=self._world.interrupted.is_set(),
                owed=tuple(self._owed.values()),
                confirmed=self._confirmed,
            )
            match command:
                case Perform(tasks=tasks):
                    # One after the other, in the plan's order: a test has one outcome.
                    self._results |= {task.key: self._perform(task) for task in tasks}
                    self._interrupt()
                case Confirm() as confirm:
                    yes = self._answer(confirm)
                    if yes is None:
                        return Finish(status="waiting", reason=f"for an answer: {confirm.prompt}")
                    self._answers[confirm.key] = yes
                    self._confirmed |= asking.confirmed_by(confirm, yes=yes)
                case Finish() as finish:
                    return finish
        raise StepFailed(f"the run has not ended after {_MOST_COMMANDS:,} decisions")

    def _interrupt(self) -> None:
        after = self._case.interrupt_after
        if after is None:
            return
        keys = {node.key for node in nodes_named(self._plan, after)}
        mains = {f"{key}/{main_phase(self._nodes[key])}/" for key in keys}
        if any(key.startswith(tuple(mains)) for key in self._results):
            self._world.interrupted.set()

    # ---- questions -----------------------------------------------------------------------

    def _answer(self, confirm: Confirm) -> bool | None:
        self._questions.append("plan" if confirm.kind == "plan" else confirm.prompt)
        if confirm.kind == "plan":
            self._shows |= dict.fromkeys(confirm.touches)
            return self._case.answers.get("plan", True)
        node = confirm.node or ""
        named = [self._case.answers[a] for a in self._case.answers if self._means(a, node)]
        yes = named[0] if named else None if confirm.kind == "approval" else True
        if yes is not None:
            self._answered[node] = {"yes": yes, "by": "the test", "at": 0.0}
        return yes

    def _means(self, name: str, key: str) -> bool:
        node = self._nodes.get(key)
        return name == key or slug(name) == key or (node is not None and name == node.name)

    # ---- tasks ---------------------------------------------------------------------------

    def _perform(self, task: Task) -> Result:
        node = self._nodes[task.node]
        scripted = self._scripted(task, node)
        result = scripted or self._unscripted(task, node)
        if task.phase in {"prepare", "preflight"}:
            if scripted is not None:
                self._granted.add((task.node, task.target))
            if self._plan.rehearsal:
                self._shows |= dict.fromkeys(result.touches)
        elif scripted is not None:
            self._touch(task, node, result)
        return result

    def _touch(self, task: Task, node: Node, result: Result) -> None:
        """A change whose result was scripted, or granted, touched what it had shown."""
        if not task.changes or result.status not in _TOUCHED or task.phase != main_phase(node):
            return
        looked = "preflight" if node.flow == "rolling" else "prepare"
        prepared = self._results.get(f"{node.key}/{looked}/{task.target}")
        self._changes += result.touches or (prepared.touches if prepared else ())

    def _scripted(self, task: Task, node: Node) -> Result | None:
        for number, outcome, keys in self._script:
            if task.node in keys and _fits(outcome, task, node):
                self._used.add(number)
                given = outcome.result
                return Result(
                    status=given.status,
                    summary=given.summary or f"scripted: {given.status}",
                    hint=given.hint,
                    data=dict(given.data),
                    touches=given.touches,
                )
        return None

    def _unscripted(self, task: Task, node: Node) -> Result:
        """Drive the real step; what only the world could answer is granted to a change."""
        granted = (task.node, task.target) in self._granted or node.flow == "rolling"
        if not granted:
            before = list(self._changes)
            result = self._driven(task)
            if self._world.missing is None:
                return result
            self._changes = before
        if not node.changes:
            raise Unanswered(task, self._world.missing or "")
        if task.phase in {"prepare", "preflight"}:
            self._granted.add((task.node, task.target))
        granted_result = self._grant(task, node)
        self._touch(task, node, granted_result)
        return granted_result

    def _driven(self, task: Task) -> Result:
        if task.node in self._answered:
            task = replace(task, given={**task.given, "answer": self._answered[task.node]})
        self._world.missing = None
        return self._performer.perform(task, self._notice)

    def _grant(self, task: Task, node: Node) -> Result:
        data = {"healthy": True} if node.flow == "rolling" else {}
        if task.phase in {"prepare", "preflight"}:
            return Result(status="ok", touches=self._lines(task, node), data=data)
        rehearsed = self._plan.rehearsal and task.phase == main_phase(node)
        return Result(status="rehearsed" if rehearsed else "ok", data=data)

    def _lines(self, task: Task, node: Node) -> tuple[str, ...]:
        """What a change would show, as far as it can be known without the world."""
        if node.flow == "rolling":
            unit = self._fleet.service(str(node.args["service"])).unit
            if unit is not None:
                sudo = self._fleet.host(task.target).sudo
                change = RestartUnit(host=task.target, unit=unit, timeout_s=1.0, sudo=sudo)
                return tuple(change.footprint())
        return (f"{task.target}: {node.name}",)

    def _notice(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "intended":
            self._changes += data["footprint"]
        elif kind == "owed":
            known = {name: data[name] for name in ("key", "task", "what") if name in data}
            self._owed[data["key"]] = Obligation(**{"task": "", "what": "", **known})
        elif kind == "paid":
            self._owed.pop(data["key"], None)


def _fits(outcome: ScriptedOutcome, task: Task, node: Node) -> bool:
    phase = outcome.phase or main_phase(node)
    # An admission works on the whole service; its key has the batch's number.
    numbered = task.key[len(f"{task.node}/{task.phase}/") :].partition("#")[0]
    attempt = int(task.key.rpartition("#")[2]) if "#" in task.key.rpartition("/")[2] else 1
    return (
        fnmatchcase(task.phase, phase)
        and any(fnmatchcase(name, outcome.target) for name in (task.target, numbered))
        and outcome.attempt in {None, attempt}
    )


# ---- the world -----------------------------------------------------------------------------


@dataclass
class _Moved(threading.Event):
    """An interrupt that a wait is measured by on the scripted clock."""

    move: Callable[[float], None]

    def __post_init__(self) -> None:
        super().__init__()

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self.move(timeout or 0.0)
        return self.is_set()


#: What a change that is driven comes to: it goes well.
_WELL: Mapping[type[Effect[Any]], Any] = {
    ChangeCommand: CommandOutcome(exit_code=0, stdout="", stderr="", seconds=0.0),
    RestartUnit: CommandOutcome(exit_code=0, stdout="", stderr="", seconds=0.0),
    PutFile: CommandOutcome(exit_code=0, stdout="", stderr="", seconds=0.0),
    ChangeSql: Rows(rows=()),
    HttpPost: HttpReply(status=200, body="", error="", seconds=0.0),
}


@dataclass
class _World:
    """Doors that let no one out: changes go well, looks are noted as unanswered."""

    rehearsal: bool
    now: float = 0.0
    missing: str | None = None
    interrupted: threading.Event = field(init=False)
    world: World = field(init=False)

    def __post_init__(self) -> None:
        self.interrupted = _Moved(self._move)
        self.world = World(
            doors=_Doors(self),
            rehearsal=self.rehearsal,
            interrupted=self.interrupted,
            sleep=self._move,
            clock=lambda: self.now,
        )

    def perform(self, effect: Effect[Any]) -> Any:
        """Answer a change; a look ends the drive."""
        if isinstance(effect, Change) and type(effect) in _WELL:
            return _WELL[type(effect)]
        self.missing = self.missing or effect.sentence()
        raise StepFailed("nothing is said of this in the test")

    def close(self) -> None:
        """Nothing is open."""

    def _move(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class _Doors(Mapping[type[Effect[Any]], Any]):
    """The same door for every effect."""

    door: _World

    def __getitem__(self, _effect: type[Effect[Any]]) -> Any:
        return self.door

    def __iter__(self) -> Iterator[type[Effect[Any]]]:
        return iter(_WELL)

    def __len__(self) -> int:
        return len(_WELL)
