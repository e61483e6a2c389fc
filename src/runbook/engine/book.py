"""The book of a run: results by step, phase and target, kept up as they come in.

`decide` is asked after every few results. So that a run over n hosts costs O(n) and not O(n²),
nothing is counted anew each time: a `Ledger` only ever grows, and with it grow the books of the
plans that it was asked about. Any other mapping does as well; it is only read from its beginning
each time. What is decided hangs on the results alone, never on which of the two they came in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from runbook.engine.retries import verdict
from runbook.model.plan import Node, Plan, Result

Results = Mapping[str, Result]

#: A changing step's results of these kinds mean that the world is, or may be, changed.
_ACTED = frozenset({"ok", "failed", "unknown"})


def task_key(node: Node, phase: str, target: str, attempt: int = 1) -> str:
    """Return the stable key of a task."""
    key = f"{node.key}/{phase}/{target}"
    return key if attempt == 1 else f"{key}#{attempt}"


def main_phase(node: Node) -> str:
    """Return the phase whose results are the step's own."""
    return "restart" if node.flow == "rolling" else "act"


def first_phase(node: Node) -> str:
    """Return the phase that only looks."""
    return "preflight" if node.flow == "rolling" else "prepare"


class Tally:
    """What one phase of one step has come to so far."""

    def __init__(self, targets: tuple[str, ...]) -> None:
        self.targets = targets
        #: By target, what its last attempt came to, and the number of that attempt.
        self.last: dict[str, Result] = {}
        self.attempt: dict[str, int] = {}
        #: Targets whose next attempt is due.
        self.again: set[str] = set()
        #: Targets that are over, and not well.
        self.bad: dict[str, Result] = {}
        #: Every attempt, by target and number: settling counts them.
        self.attempts: dict[str, dict[int, Result]] = {}
        self.version = 0
        self._start = 0
        self._ordered: tuple[int, dict[str, Result]] = (0, {})

    @property
    def complete(self) -> bool:
        """Whether every target is over."""
        return len(self.last) == len(self.targets) and not self.again

    def take(self, target: str, attempt: int, result: Result, *, again: bool) -> None:
        """Note one attempt; an earlier one than the last that is known changes nothing."""
        self.version += 1
        self.attempts.setdefault(target, {})[attempt] = result
        if attempt < self.attempt.get(target, 0):
            return
        self.last[target], self.attempt[target] = result, attempt
        self.again.discard(target)
        self.bad.pop(target, None)
        if again:
            self.again.add(target)
        elif not result.good:
            self.bad[target] = result

    def in_order(self) -> dict[str, Result]:
        """Return the results by target, in the order of the step's targets."""
        if self._ordered[0] != self.version:
            ordered = {t: self.last[t] for t in self.targets if t in self.last}
            self._ordered = (self.version, ordered)
        return self._ordered[1]

    def due(self, most: int | None) -> list[tuple[str, int]]:
        """Return the next targets to begin, with the number of the attempt."""
        while self._start < len(self.targets) and self._over(self.targets[self._start]):
            self._start += 1
        found: list[tuple[str, int]] = []
        for position in range(self._start, len(self.targets)):
            if most is not None and len(found) >= most:
                break
            target = self.targets[position]
            if not self._over(target):
                found.append((target, self.attempt.get(target, 0) + 1))
        return found

    def _over(self, target: str) -> bool:
        return target in self.last and target not in self.again


class Shape:
    """Where each task of a plan belongs, worked out once for each plan."""

    def __init__(self, plan: Plan) -> None:
        self.index = {node.key: number for number, node in enumerate(plan.nodes)}
        #: Task key -> number of the node, phase, target.
        self.places: dict[str, tuple[int, str, str]] = {}
        #: (scope, name) -> numbers of the nodes that are saved as `steps.NAME` there.
        self.saved: dict[tuple[str, str], list[int]] = {}
        for number, node in enumerate(plan.nodes):
            for phase, target in _tasks(node):
                self.places[task_key(node, phase, target)] = (number, phase, target)
            if node.save:
                self.saved.setdefault((node.scope, node.save), []).append(number)

    def place(self, key: str) -> tuple[int, str, str, int] | None:
        """Return where a task belongs: the node's number, phase, target and attempt."""
        if key in self.places:
            return (*self.places[key], 1)
        first, _, attempt = key.rpartition("#")
        if first in self.places and attempt.isdecimal():
            return (*self.places[first], int(attempt))
        return None


def _tasks(node: Node) -> Iterator[tuple[str, str]]:
    for phase in (first_phase(node), main_phase(node), "settle"):
        for target in node.targets:
            yield phase, target
    for number in range(len(node.batches)):
        yield "admit", str(number + 1)


class _Same:
    """A plan, compared by identity: it is frozen, and comparing it costs more than knowing it."""

    __slots__ = ("plan",)

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __hash__(self) -> int:
        return id(self.plan)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.plan is self.plan


def shape_of(plan: Plan) -> Shape:
    """Return a plan's shape."""
    return _shape(_Same(plan))


@lru_cache(maxsize=8)  # more runs than these in one process only cost the working out
def _shape(same: _Same) -> Shape:
    return Shape(same.plan)


class Book:
    """Everything that is known of a plan's tasks."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.shape = shape_of(plan)
        #: Conclusions that no further result changes.
        self.memo: dict[Any, Any] = {}
        #: Whether anything was, or may have been, changed.
        self.acted = False
        #: The number of the first step that a rehearsal has only assumed.
        self.assumed_from: int | None = None
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._known: set[str] = set()

    def tally(self, node: Node, phase: str) -> Tally:
        """Return what a phase of a step has come to."""
        found = self._tallies.get((node.key, phase))
        if found is None:
            batches = tuple(str(number + 1) for number in range(len(node.batches)))
            found = Tally(batches if phase == "admit" else node.targets)
            self._tallies[node.key, phase] = found
        return found

    def has(self, key: str) -> bool:
        """Whether a task has a result."""
        return key in self._known

    def take(self, results: Iterable[tuple[str, Result]]) -> None:
        """Enter results; those of no task of the plan are left alone."""
        for key, result in results:
            self._known.add(key)
            place = self.shape.place(key)
            if place is not None:
                self._enter(*place, result)

    def _enter(self, number: int, phase: str, target: str, attempt: int, result: Result) -> None:
        node = self.plan.nodes[number]
        again, main = False, phase == main_phase(node)
        if main and node.flow == "single":
            result, again = verdict(node, attempt, result)
        self.tally(node, phase).take(target, attempt, result, again=again)
        if phase == "settle" or (main and node.changes and result.status in _ACTED):
            self.acted = True
        if main and result.status == "rehearsed":
            earlier = self.assumed_from
            self.assumed_from = number if earlier is None else min(earlier, number)


class Ledger(Results):
    """Results that only grow: a mapping that `decide` reads no part of twice."""

    def __init__(self, results: Results | None = None) -> None:
        self._results: dict[str, Result] = {}
        self._order: list[str] = []
        #: A book, and how much of the order it has read; one for each plan that was asked about.
        self._books: list[tuple[Book, int]] = []
        self.record(results or {})

    def record(self, results: Results) -> None:
        """Add results. One that was there already, and is another now, costs a new beginning."""
        for key, result in results.items():
            before = self._results.get(key)
            if before is None:
                self._order.append(key)
            elif before != result:
                self._books.clear()
            self._results[key] = result

    def __ior__(self, results: Results) -> Ledger:
        self.record(results)
        return self

    def book(self, plan: Plan) -> Book:
        """Return the book of a plan, up to date."""
        for number, (book, read) in enumerate(self._books):
            if book.plan is plan:
                book.take((key, self._results[key]) for key in self._order[read:])
                self._books[number] = (book, len(self._order))
                return book
        book = Book(plan)
        book.take(self._results.items())
        self._books.append((book, len(self._order)))
        return book

    def __getitem__(self, key: str) -> Result:
        return self._results[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)


def book_of(plan: Plan, results: Results) -> Book:
    """Return the book of a plan over these results."""
    if isinstance(results, Ledger):
        return results.book(plan)
    book = Book(plan)
    book.take(results.items())
    return book
