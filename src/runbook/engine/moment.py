"""A run at one moment: what `decide` decides from, and what one part of it tells another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runbook.engine.book import Book
from runbook.model.plan import Finish, Node, Obligation, Perform, Plan, Result, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """Everything that is known of a run."""

    plan: Plan
    book: Book
    #: What was answered to a question, by its key.
    answers: Mapping[str, bool]
    interrupted: bool = False
    owed: tuple[Obligation, ...] = ()
    #: Every line that somebody was shown, and said yes to.
    confirmed: frozenset[str] = frozenset()
    #: The main line is over: what was not reached by now never will be.
    ending: bool = False
    #: While it ends: the step that ended the main line by its failure.
    failed: Node | None = None
    #: While later steps are looked at ahead of time: the number of the step whose turn it is.
    turn: int | None = None

    def number(self, node: Node) -> int:
        """Return the node's number in the plan."""
        return self.book.shape.index[node.key]

    def passed(self, node: Node) -> bool:
        """Whether a step that has not ended never will: the run ends, and its turn is over."""
        return self.ending and (self.turn is None or self.number(node) < self.turn)

    @property
    def acted(self) -> bool:
        """Whether anything was, or may have been, changed: then nothing is called refused."""
        return self.book.acted or bool(self.owed)

    @property
    def acted_or_showed(self) -> bool:
        """Whether anything acted, or a rehearsal has shown that it would."""
        return self.acted or self.book.assumed_from is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """A step does not let its line go on: how the run would end by it."""

    finish: Finish
    #: The step that did not end well; None when nothing failed: a refusal, a no, an interrupt.
    failed: Node | None = None


def make_task(node: Node, phase: str, target: str, args: Mapping[str, object]) -> Task:
    """Return a task of a step, with the arguments that are filled in by now."""
    return Task(
        key=f"{node.key}/{phase}/{target}",
        node=node.key,
        verb=node.verb,
        phase=phase,
        target=target,
        args=dict(args),
        timeout_s=node.timeout_s,
        target_kind=node.target_kind,
    )


def perform(tasks: list[Task]) -> Perform | None:
    """Return the command that starts tasks; None when there are none."""
    return Perform(tasks=tuple(tasks)) if tasks else None


def finish_of(node: Node, result: Result) -> Finish:
    """Return how a run ends by what a step came to."""
    status = {"unknown": "unknown", "refused": "refused"}.get(result.status, "failed")
    if status == "failed" and result.data.get("interrupted"):
        status = "interrupted"  # the step stopped by itself, at a place where nothing is in flight
    reason = f"{node.name}: {result.summary}"
    return Finish(status=status, reason=reason, hint=result.hint)  # type: ignore[arg-type]


def covers(key: str, node: Node) -> bool:
    """Whether a node is the step of that key, an item of its loop, or inside of its include."""
    return node.key == key or node.key.startswith((f"{key}[", f"{key}."))
