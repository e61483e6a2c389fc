"""Plans and results by hand, for tests of the pure part of the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runbook.engine.decide import CURRENT, decide
from runbook.model.plan import Confirm, Finish, Node, Perform, Plan, Result, Status, Task

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

    def __init__(self, played: Plan, world: World, *, answer: bool = True) -> None:
        self.results: dict[str, Result] = {}
        self.performed: list[tuple[str, ...]] = []
        self.asked: list[Confirm] = []
        self.interrupt_after: int | None = None
        self._plan, self._world, self._answer = played, world, answer

    def play(self) -> Finish:
        """Run to the end; a plan that never ends is a failure of the test."""
        answers: dict[str, bool] = {}
        for _ in range(10_000):
            stop = self.interrupt_after is not None and len(self.performed) >= self.interrupt_after
            command = decide(self._plan, self.results, answers, interrupted=stop)
            match command:
                case Perform(tasks=tasks):
                    assert tasks, "nothing to perform is no command"
                    assert not {t.key for t in tasks} & set(self.results), "performed twice"
                    self.performed.append(tuple(task.key for task in tasks))
                    self.results |= {task.key: self._world(task) for task in tasks}
                case Confirm():
                    self.asked.append(command)
                    answers[command.key] = self._answer
                case Finish():
                    return command
        raise AssertionError("the plan does not come to an end")

    def keys(self, phase: str) -> list[str]:
        """Return the targets of one phase, in the order in which they were begun."""
        split = [key.split("/") for batch in self.performed for key in batch]
        return [target for _, ran, target in split if ran == phase]
