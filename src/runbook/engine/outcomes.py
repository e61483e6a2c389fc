"""What the steps of a plan came to: task results folded into one result a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runbook.model.plan import Node, Plan, Result, Status

Results = Mapping[str, Result]

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


def task_key(node: Node, phase: str, target: str) -> str:
    """Return the stable key of a task."""
    return f"{node.key}/{phase}/{target}"


def main_phase(node: Node) -> str:
    """Return the phase whose results are the step's own."""
    return "restart" if node.flow == "rolling" else "act"


def first_phase(node: Node) -> str:
    """Return the phase that only looks."""
    return "preflight" if node.flow == "rolling" else "prepare"


def target_results(node: Node, phase: str, results: Results) -> dict[str, Result]:
    """Return the results that one phase of a step has so far, by target."""
    keys = {target: task_key(node, phase, target) for target in node.targets}
    return {target: results[key] for target, key in keys.items() if key in results}


def fold(results: Sequence[Result]) -> Result:
    """Return one result for several targets: the worst status, everything else joined."""
    if len(results) == 1:
        return results[0]
    worst = min(results, key=lambda result: _WORST.index(result.status))
    good = sum(result.good for result in results)
    return Result(
        status=worst.status,
        summary=worst.summary if not worst.good else f"{good} of {len(results)} {worst.status}",
        hint=worst.hint,
        touches=tuple(line for result in results for line in result.touches),
        not_exercised=tuple(dict.fromkeys(n for r in results for n in r.not_exercised)),
        by_hand=tuple(dict.fromkeys(line for result in results for line in result.by_hand)),
    )


def step_outcomes(plan: Plan, results: Results) -> tuple[StepOutcome, ...]:
    """Return every step with what it came to, in the plan's order."""
    return tuple(_outcome(node, results) for node in plan.nodes)


def _outcome(node: Node, results: Results) -> StepOutcome:
    by_target = target_results(node, main_phase(node), results)
    looked = target_results(node, first_phase(node), results)
    shown = {**{t: r for t, r in looked.items() if not r.good}, **by_target}
    folded = fold(list(shown.values())) if shown else None
    return StepOutcome(node=node, result=folded, by_target=shown)


def saved_values(plan: Plan, results: Results) -> dict[str, dict[str, object]]:
    """Return what `steps.NAME` holds for each finished step with a `save` name."""
    saved: dict[str, dict[str, object]] = {}
    for outcome in step_outcomes(plan, results):
        node, result = outcome.node, outcome.result
        if node.save is None or result is None or len(outcome.by_target) < len(node.targets):
            continue
        by_target = {target: dict(r.data) for target, r in outcome.by_target.items()}
        own = dict(result.data) if len(by_target) == 1 else {"targets": by_target}
        saved[node.save] = {"status": result.status, "summary": result.summary, **own}
    return saved
