"""What the steps of a plan came to: task results folded into one result a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runbook.engine.book import Book, Results, book_of, first_phase, main_phase, task_key
from runbook.model.plan import Node, Plan, Result, Status

__all__ = [
    "Results",
    "StepOutcome",
    "first_phase",
    "fold",
    "main_phase",
    "step_outcome",
    "step_outcomes",
    "target_results",
    "task_key",
]

#: Worst first: a step is as bad as its worst target. `unknown` comes before `failed`, because a
#: person has to look before anything else is done.
_WORST: tuple[Status, ...] = (
    "unknown",
    "failed",
    "unreachable",
    "refused",
    "rehearsed",
    "not_exercised",
    "ok",
    "skipped",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepOutcome:
    """One step of the playbook and what it came to; `result` is None when it was not reached."""

    node: Node
    result: Result | None
    by_target: Mapping[str, Result]


def target_results(node: Node, phase: str, results: Results) -> dict[str, Result]:
    """Return the results that one phase of a step has so far, by target; of first attempts."""
    keys = {target: task_key(node, phase, target) for target in node.targets}
    return {target: results[key] for target, key in keys.items() if key in results}


def worst(statuses: Sequence[Status]) -> Status:
    """Return the status that several together have."""
    return min(statuses, key=_WORST.index)


def fold(results: Sequence[Result]) -> Result:
    """Return one result for several targets: the worst status, everything else joined."""
    if not results:
        return Result(status="skipped", summary="nothing to do")
    if len(results) == 1:
        return results[0]
    first_worst = min(results, key=lambda result: _WORST.index(result.status))
    good = sum(result.good for result in results)
    joined = first_worst.summary
    if first_worst.good:
        joined = f"{good} of {len(results)} {first_worst.status}"
    return Result(
        status=first_worst.status,
        summary=joined,
        hint=first_worst.hint,
        touches=tuple(line for result in results for line in result.touches),
        not_exercised=tuple(dict.fromkeys(n for r in results for n in r.not_exercised)),
        by_hand=tuple(dict.fromkeys(line for result in results for line in result.by_hand)),
        # The summary is the worst one's own, or a count; the targets' data is not joined.
        masked=() if first_worst.good else tuple(p for p in first_worst.masked if p == "/summary"),
    )


def step_outcomes(plan: Plan, results: Results) -> tuple[StepOutcome, ...]:
    """Return every step with what it came to, in the plan's order; of retries the last attempt."""
    book = book_of(plan, results)
    return tuple(step_outcome(book, node) for node in plan.nodes)


def step_outcome(book: Book, node: Node) -> StepOutcome:
    """Return one step with what it came to; it is folded once for as long as nothing is added."""
    main, looked = book.tally(node, main_phase(node)), book.tally(node, first_phase(node))
    at = (main.version, looked.version)
    kept = book.memo.get(("outcome", node.key))
    if kept is None or kept[0] != at:
        by_target = main.in_order()
        bad = {} if not looked.bad else {t: r for t, r in looked.in_order().items() if not r.good}
        shown = {**bad, **by_target}
        result = fold(list(shown.values())) if shown else None
        kept = (at, StepOutcome(node=node, result=result, by_target=shown))
        book.memo["outcome", node.key] = kept
    outcome: StepOutcome = kept[1]
    return outcome
