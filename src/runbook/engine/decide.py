"""`decide`: from a frozen plan and what has happened so far to what happens next. Pure, versioned.

Clock, random and environment stay outside. An old plan is decided by the version it was made for,
so a run that is resumed after an upgrade goes on as it began.

The order of a run: steps that only look run in their turn. Before the first change, every change
of the plan is prepared: looked at live, its footprints collected. These are shown and confirmed
once, bound to the plan's hash. Then the steps act, in order, and may touch nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from runbook.engine import rolling
from runbook.engine.conditions import ConditionFailed, evaluate, uses
from runbook.engine.outcomes import (
    Results,
    first_phase,
    fold,
    main_phase,
    saved_values,
    step_outcomes,
    target_results,
    task_key,
)
from runbook.model.plan import Command, Confirm, Finish, Node, Perform, Plan, Result, Task

#: What was answered to a Confirm, by its key.
Answers = Mapping[str, bool]

CONFIRM = "confirm"


def decide(plan: Plan, results: Results, answers: Answers, *, interrupted: bool = False) -> Command:
    """Return the next command: tasks to perform, a confirmation to ask for, or the end."""
    return _VERSIONS[plan.engine](plan, results, answers, interrupted)


def _decide_1(plan: Plan, results: Results, answers: Answers, interrupted: bool) -> Command:
    for node in plan.nodes:
        try:
            command = _node(plan, node, results, answers, interrupted)
        except ConditionFailed as error:
            return Finish(status="failed", reason=f"{node.name}: {error.message}")
        if isinstance(command, Finish) and command.status == "refused" and _acted(plan, results):
            return replace(command, status="halted")
        if command is not None:
            return command
    return _finish(plan, results)


def _acted(plan: Plan, results: Results) -> bool:
    """Whether anything was changed: then the run can no longer be called refused."""
    acts = (n for n in plan.nodes if n.changes)
    done = (r for n in acts for r in target_results(n, main_phase(n), results).values())
    return any(r.status in {"ok", "failed", "unknown"} for r in done)


def _finish(plan: Plan, results: Results) -> Finish:
    """Failures within a threshold let a run go on; they do not make it a success."""
    for outcome in step_outcomes(plan, results):
        if outcome.result is not None and not outcome.result.good:
            return _end(outcome.node, outcome.result)
    return Finish(status="rehearsed" if plan.rehearsal and _changes(plan) else "done")


def _node(
    plan: Plan, node: Node, results: Results, answers: Answers, interrupted: bool
) -> Command | None:
    """Return what a step needs next, or None when the plan goes on to the next step."""
    done = _finished(node, results)
    if done is not None:
        return None if done.good else _end(node, done)
    if holds(plan, node, results) is False:
        return None
    if not node.changes:
        if _after_assumption(plan, node, results):
            return None
        return _stop_or(interrupted, partial(_act, node, results, ()))
    return _change(plan, node, results, answers, interrupted)


def _change(
    plan: Plan, node: Node, results: Results, answers: Answers, interrupted: bool
) -> Command | None:
    prepared = _prepare(plan, node, results)
    if prepared is not None:
        return _stop_or(interrupted, lambda: prepared)
    unconfirmed = _unconfirmed(plan, results, answers, interrupted)
    if unconfirmed is not None:
        return unconfirmed
    shown = () if plan.rehearsal else _node_touches(node, results)
    if node.flow == "rolling":
        return rolling.act(plan, node, results, shown, interrupted)
    bad = [r for r in target_results(node, "act", results).values() if not r.good]
    if bad:
        left = [t for t in node.targets if task_key(node, "act", t) not in results]
        return replace(_end(node, fold(bad)), not_reached=tuple(left))
    return _stop_or(interrupted, partial(_act, node, results, shown, plan.parallel))


def _unconfirmed(
    plan: Plan, results: Results, answers: Answers, interrupted: bool
) -> Command | None:
    """Return the question, or the end when the answer was no; None when the way is free."""
    touches = _touches(plan, results)
    if plan.rehearsal or not touches or answers.get(CONFIRM):
        return None
    if CONFIRM not in answers:
        return _stop_or(interrupted, lambda: _confirm(plan, touches))
    if interrupted:
        return Finish(status="interrupted", reason="not confirmed; nothing was changed")
    return Finish(status="refused", reason="not confirmed")


def _stop_or(interrupted: bool, command: Callable[[], Command]) -> Command:
    if interrupted:
        return Finish(status="interrupted", reason="stopped between steps")
    return command()


def _prepare(plan: Plan, first: Node, results: Results) -> Command | None:
    """Return looks still to be taken, or the end when one of them says no, or None."""
    todo: list[Task] = []
    for node in _from(plan, first):
        if not node.changes or holds(plan, node, results) is False:
            continue
        looked = target_results(node, first_phase(node), results)
        no = rolling.unfit(node, results) if node.flow == "rolling" else _not_prepared(looked)
        if no is not None:
            return no
        if node.flow == "rolling":
            todo += rolling.preflight(node, results)
        else:
            todo += [_task(node, "prepare", t) for t in node.targets if t not in looked]
    return Perform(tasks=tuple(todo)) if todo else None


def _not_prepared(looked: Mapping[str, Result]) -> Finish | None:
    for target, result in looked.items():
        if not result.good:
            return Finish(status="refused", reason=f"{target}: {result.summary}", hint=result.hint)
    return None


def _act(
    node: Node, results: Results, shown: tuple[str, ...], at_once: int | None = None
) -> Perform:
    """Changes go out no more than can run at once, so that a failure stops the rest."""
    done = target_results(node, "act", results)
    missing = [target for target in node.targets if target not in done]
    tasks = [_task(node, "act", target) for target in missing[:at_once]]
    prepared = target_results(node, "prepare", results)
    return Perform(
        tasks=tuple(
            replace(
                task,
                changes=node.changes,
                shown=shown,
                given={"prepared": prepared[task.target].data} if task.target in prepared else {},
            )
            for task in tasks
        )
    )


def _confirm(plan: Plan, touches: tuple[str, ...]) -> Confirm:
    """The hash covers the plan and every line that was shown."""
    said = json.dumps([plan.hash, *touches])
    digest = hashlib.sha256(said.encode()).hexdigest()[:12]
    return Confirm(key=CONFIRM, touches=touches, hash=digest)


def _touches(plan: Plan, results: Results) -> tuple[str, ...]:
    return tuple(line for node in plan.nodes for line in _node_touches(node, results))


def _node_touches(node: Node, results: Results) -> tuple[str, ...]:
    looked = target_results(node, first_phase(node), results) if node.changes else {}
    return tuple(line for result in looked.values() for line in result.touches)


def _finished(node: Node, results: Results) -> Result | None:
    """Return a step's result once all of its targets have one; a rolling step says so itself."""
    done = target_results(node, main_phase(node), results)
    if node.flow == "rolling" or len(done) < len(node.targets):
        return None
    return fold(list(done.values()))


def _end(node: Node, result: Result) -> Finish:
    status = {"unknown": "unknown", "refused": "refused"}.get(result.status, "failed")
    if status == "failed" and result.data.get("interrupted"):
        status = "interrupted"  # the step stopped by itself, at a place where nothing is in flight
    reason = f"{node.name}: {result.summary}"
    return Finish(status=status, reason=reason, hint=result.hint)  # type: ignore[arg-type]


def holds(plan: Plan, node: Node, results: Results) -> bool | None:
    """Return whether a step's condition holds; None while it hangs on something not yet known."""
    if node.when is None:
        return True
    saved = saved_values(plan, results)
    names, values = condition_names(plan), _condition_values(plan)
    for other in plan.nodes[: plan.nodes.index(node)]:
        if other.save is None or not uses(node.when, f"steps.{other.save}"):
            continue
        if holds(plan, other, results) is False:
            values[f"steps.{other.save}"] = {"status": "skipped"}
        elif saved.get(other.save, {"status": "rehearsed"})["status"] == "rehearsed":
            return None
        else:
            values[f"steps.{other.save}"] = saved[other.save]
    return evaluate(node.when, names, values)


def why_not_run(plan: Plan, node: Node, results: Results) -> Result | None:
    """Return what to say of a step that a plan, played to its end, had no task for."""
    try:
        held = holds(plan, node, results)
    except ConditionFailed as error:
        return Result(status="failed", summary=error.message, hint=error.hint or "")
    if held is False:
        return Result(status="skipped", summary=f"not run: {node.when} does not hold")
    if not node.changes and _after_assumption(plan, node, results):
        why = "it looks at what a rehearsal has only assumed"
        return Result(status="not_exercised", summary=f"not run: {why}")
    return None


def condition_names(plan: Plan) -> dict[str, str]:
    """Return the names that conditions of a plan may use, with their types."""
    names = {f"params.{name}": "dyn" for name in plan.params}
    names |= {f"steps.{node.save}": "dyn" for node in plan.nodes if node.save}
    return names | {"target": "string"}


def _condition_values(plan: Plan) -> dict[str, object]:
    values: dict[str, object] = {f"params.{name}": value for name, value in plan.params.items()}
    return values | {"target": plan.target or ""}


def _after_assumption(plan: Plan, node: Node, results: Results) -> bool:
    """A look after a change that a rehearsal only assumed would see the unchanged world."""
    if not plan.rehearsal:
        return False
    before = plan.nodes[: plan.nodes.index(node)]
    return any(
        result.status == "rehearsed"
        for other in before
        for result in target_results(other, main_phase(other), results).values()
    )


def _changes(plan: Plan) -> bool:
    return any(node.changes for node in plan.nodes)


def _from(plan: Plan, first: Node) -> tuple[Node, ...]:
    return plan.nodes[plan.nodes.index(first) :]


def _task(node: Node, phase: str, target: str) -> Task:
    return Task(
        key=task_key(node, phase, target),
        node=node.key,
        verb=node.verb,
        phase=phase,
        target=target,
        args=node.args,
        timeout_s=node.timeout_s,
    )


#: Old versions stay: recorded runs are decided by the rules that they began with.
_VERSIONS = {1: _decide_1}
CURRENT = 1
