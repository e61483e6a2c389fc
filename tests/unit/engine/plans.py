"""Plans and results by hand, for tests of the pure part of the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runbook.engine.asking import confirmed_by
from runbook.engine.book import Ledger
from runbook.engine.decide import CURRENT, decide
from runbook.model.plan import (
    Command,
    Confirm,
    Finish,
    Node,
    Obligation,
    Perform,
    Plan,
    Result,
    Status,
    Task,
)

World = Callable[[Task], Result]


def rolling_node(
    hosts: int, batches: tuple[int, ...], *, max_failures: int = 0, **more: Any
) -> Node:
    """Return a rolling step over web-0, web-1, and so on."""
    values: dict[str, Any] = {
        "key": "roll",
        "name": "roll",
        "verb": "rolling",
        "args": {"service": "shop"},
        "changes": True,
        "flow": "rolling",
        "targets": tuple(f"web-{i}" for i in range(hosts)),
        "batches": batches,
        "min_available": 1,
        "max_failures": max_failures,
        **more,
    }
    return Node(**values)


def single_node(key: str, *, changes: bool = False, **more: Any) -> Node:
    """Return a step with one task a target; the target is `db` unless said."""
    values: dict[str, Any] = {
        "key": key,
        "name": key,
        "verb": "query",
        "args": {},
        "changes": changes,
        "flow": "single",
        "targets": ("db",),
        **more,
    }
    return Node(**values)


def plan(*nodes: Node, rehearsal: bool = False, **params: Any) -> Plan:
    """Return a plan of these steps."""
    return Plan(
        engine=CURRENT,
        playbook="test",
        target="db",
        params=params,
        nodes=nodes,
        rehearsal=rehearsal,
    )


def result(status: Status = "ok", **more: Any) -> Result:
    """Return a result with a summary."""
    return Result(status=status, summary=f"it is {status}", **more)


class History:
    """Plays a plan against a scripted world, the way an executor does, and keeps what happened."""

    def __init__(
        self,
        played: Plan,
        world: World,
        *,
        answer: bool = True,
        answers: Mapping[str, bool] | None = None,
        owes: Mapping[str, Obligation] | None = None,
        owed: Sequence[Obligation] = (),
        results: Mapping[str, Result] | None = None,
    ) -> None:
        #: The ledger is what an executor uses; what it keeps must be what it was told.
        self.results = Ledger(results)
        self.tasks: dict[str, Task] = {}
        self.performed: list[tuple[str, ...]] = []
        self.asked: list[Confirm] = []
        self.interrupt_after: int | None = None
        #: What is owed at the moment; `owes` is what a task leaves owed, by its key.
        self.owed = list(owed)
        self._owes = owes or {}
        self.answers = dict(answers or {})
        #: The plan's questions that were answered with yes, and all their lines.
        self.yes: list[Confirm] = []
        self.confirmed: frozenset[str] = frozenset()
        self._plan, self._world, self._answer = played, world, answer

    def play(self) -> Finish:
        """Run to the end; a plan that never ends is a failure of the test."""
        given: dict[str, bool] = {}
        for _ in range(10_000):
            match self.decide(given):
                case Perform(tasks=tasks):
                    assert tasks, "nothing to perform is no command"
                    assert not {t.key for t in tasks} & set(self.results), "performed twice"
                    self.performed.append(tuple(task.key for task in tasks))
                    self._perform(tasks)
                case Confirm() as confirm:
                    self.asked.append(confirm)
                    yes = self.answers.get(confirm.key, self._answer)
                    given[confirm.key] = yes
                    self.confirmed |= confirmed_by(confirm, yes=yes)
                    if yes and confirm.kind == "plan":
                        self.yes.append(confirm)
                case Finish() as finish:
                    return finish
        raise AssertionError("the plan does not come to an end")

    def decide(self, given: Mapping[str, bool]) -> Command:
        """Decide twice, from the ledger and from a plain mapping in another order: it is one."""
        stop = self.interrupt_after is not None and len(self.performed) >= self.interrupt_after
        command = decide(
            self._plan,
            self.results,
            given,
            interrupted=stop,
            owed=tuple(self.owed),
            confirmed=self.confirmed,
        )
        turned = dict(reversed(list(self.results.items())))
        again = decide(
            self._plan,
            turned,
            given,
            interrupted=stop,
            owed=tuple(reversed(self.owed)),
            confirmed=self.confirmed,
        )
        assert again == command, "what is decided hangs on more than what happened"
        return command

    def _perform(self, tasks: tuple[Task, ...]) -> None:
        for task in tasks:
            self.tasks[task.key] = task
            result = self._world(task)
            self.results.record({task.key: result})
            if task.phase == "settle" and result.status == "ok":
                self.owed = [o for o in self.owed if o.key != task.given["owed"]["key"]]
            if task.key in self._owes:
                self.owed.append(self._owes[task.key])

    def begun(self) -> list[str]:
        """Return the keys of all tasks, in the order in which they were begun."""
        return [key for batch in self.performed for key in batch]

    def keys(self, phase: str) -> list[str]:
        """Return the targets of one phase, in the order in which they were begun."""
        split = [key.split("/") for batch in self.performed for key in batch]
        return [target for _, ran, target in split if ran == phase]
