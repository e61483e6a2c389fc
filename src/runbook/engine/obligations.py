"""Obligations: what the run owes the world is paid before it goes on, and before it ends. Pure.

A debt that is open is paid by the phase `settle` of the step that owes it, in a task
`NODE/settle/TARGET`. That it was tried is known from that key: it is in the results. Twice it may
be tried: at the start of a resume, for a task that a crash cut off (its own key has no result) with
nothing of it still under way; and at the end, when the task went on after the first time, and
either of them ended well. What is still open then stays owed, and is told with the commands that
pay it by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from runbook.engine.knowing import arguments
from runbook.engine.moment import Moment, make_task, perform
from runbook.engine.preparing import node_touches
from runbook.model.plan import Node, Obligation, Perform, Result, Task


def settle_cut_off(m: Moment) -> Perform | None:
    """Return the settling of what tasks left behind that a crash cut off; None when there is none.

    While a run goes on, `decide` is asked only when nothing is in flight: an open debt of a task
    without a result can only be another process's.
    """
    if not m.owed:
        return None
    return perform([_task(m, d, 1) for d in _debts(m) if d.cut_off and not d.tried])


def settle(m: Moment) -> Perform | None:
    """Return the settling of everything that is still owed and may be tried; None when all was."""
    tasks = []
    for debt in _debts(m):
        if not debt.tried:
            tasks.append(_task(m, debt, 1))
        elif debt.may_try_again:
            tasks.append(_task(m, debt, 2))
    return perform(tasks)


class _Debt:
    """An open obligation, and what has been done about it."""

    def __init__(self, m: Moment, owed: Obligation, node: Node, target: str, rank: int) -> None:
        self.owed, self.node, self.target = owed, node, target
        #: A task that owes several things settles them side by side; odd numbers are first tries.
        self.rank = rank
        tries = m.book.tally(node, "settle").attempts.get(target, {})
        self.first, self.second = tries.get(1), tries.get(2)
        self.task_result = _result_of(m, owed.task)

    @property
    def tried(self) -> bool:
        return self.first is not None

    @property
    def cut_off(self) -> bool:
        """Whether its task is lost, and nothing that it asked for is on its way any more.

        What is under way is observed by the task itself, which is performed again and pays. Where
        its turn does not come, the debt is settled at the end.
        """
        return self.task_result is None and not self.owed.data.get("under_way")

    @property
    def may_try_again(self) -> bool:
        if self.first is None or self.second is not None or self.task_result is None:
            return False
        return self.first.good or self.task_result.good


def _debts(m: Moment) -> Iterator[_Debt]:
    ranks: dict[tuple[str, str], int] = {}
    for owed in sorted(m.owed, key=lambda item: item.key):
        place = m.book.shape.place(owed.task)
        if place is None:
            continue  # of no step of this plan; it is told
        node, target = m.plan.nodes[place[0]], place[2]
        rank = ranks.get((node.key, target), 0)
        ranks[node.key, target] = rank + 1
        yield _Debt(m, owed, node, target, rank)


def _result_of(m: Moment, key: str) -> Result | None:
    place = m.book.shape.place(key)
    if place is None:
        return None
    number, phase, target, attempt = place
    return m.book.tally(m.plan.nodes[number], phase).attempts.get(target, {}).get(attempt)


def _task(m: Moment, debt: _Debt, attempt: int) -> Task:
    """What it touches was shown and confirmed with the step's own changes."""
    args = arguments(m, debt.node)
    filled = debt.node.args if args is None or isinstance(args, Result) else args
    task = make_task(debt.node, "settle", debt.target, filled)
    number = 2 * debt.rank + attempt
    return replace(
        task,
        key=task.key if number == 1 else f"{task.key}#{number}",
        changes=True,
        given={"owed": _plain(debt.owed)},
        shown=node_touches(m, debt.node),
    )


def _plain(owed: Obligation) -> dict[str, Any]:
    return {
        "key": owed.key,
        "task": owed.task,
        "what": owed.what,
        "by_hand": list(owed.by_hand),
        "data": dict(owed.data),
    }
