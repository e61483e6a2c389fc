"""One step's turn: what it needs next, whether the line goes on after it, or stops there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runbook.engine import rolling
from runbook.engine.asking import approval, interrupted, plan_question, step_question
from runbook.engine.book import main_phase
from runbook.engine.knowing import arguments, ended, holds
from runbook.engine.moment import Moment, Stop, finish_of, make_task, perform
from runbook.engine.preparing import node_touches, prepare
from runbook.model.errors import RunbookError
from runbook.model.plan import Confirm, Finish, Node, Perform, Result, Task

Turn = Perform | Confirm | Stop | None


def turn(m: Moment, node: Node) -> Turn:
    """Return what a step needs next; None when the line goes on to the next step."""
    try:
        return _turn(m, node)
    except RunbookError as error:
        # Of a condition; it may be a later step's, asked whether that one is to be prepared.
        hint = (error.hint or "") if m.plan.engine > 1 else ""
        finish = Finish(status="failed", reason=f"{node.name}: {error.message}", hint=hint)
        return Stop(finish=finish, failed=node)


def _turn(m: Moment, node: Node) -> Turn:
    done = ended(m, node) if node.flow != "rolling" else None
    if done is not None:
        return None if done.good else Stop(finish=_finish(m, node, done), failed=node)
    if holds(m, node) is False or not_exercised(m, node):
        return None
    args = arguments(m, node)
    if args is None or isinstance(args, Result):
        return _without_arguments(m, node, args)
    if node.changes:
        return _change(m, node, args)
    return _gated(m, node, _act(m, node, args, (), None))


def _finish(m: Moment, node: Node, result: Result) -> Finish:
    tally = m.book.tally(node, main_phase(node))
    left = tuple(t for t in node.targets if t not in tally.last) if node.changes else ()
    return replace(finish_of(node, result), not_reached=left)


def not_exercised(m: Moment, node: Node) -> str | None:
    """Say why a rehearsal leaves a step out; None when it does not."""
    if not m.plan.rehearsal:
        return None
    if node.flow == "approval":
        return "a rehearsal asks nobody"
    after = m.book.assumed_from is not None and m.book.assumed_from < m.number(node)
    if not node.changes and after:
        return "it looks at what a rehearsal has only assumed"
    if arguments(m, node) is None:
        return "its arguments hang on what a rehearsal has only assumed"
    return None


def _without_arguments(m: Moment, node: Node, args: Result | None) -> Stop:
    """What the arguments name is not there: the step cannot begin."""
    why = args or Result(status="failed", summary="its arguments name a step that has not ended")
    finish = finish_of(node, why)
    if node.changes and not m.ending:
        finish = replace(finish, status="refused")
    return Stop(finish=finish, failed=node)


def _change(m: Moment, node: Node, args: Mapping[str, Any]) -> Turn:
    prepared = prepare(m, node)
    if prepared is not None and m.interrupted:
        return interrupted()
    question = prepared or plan_question(m, node)
    if question is not None:
        return question
    shown = () if m.plan.rehearsal else node_touches(m, node)
    if node.flow != "rolling":
        return _gated(m, node, _act(m, node, args, shown, m.plan.parallel))
    said = rolling.act(m, node, args, shown)
    if isinstance(said, Finish):
        failed = None if said.status == "interrupted" else node
        return Stop(finish=said, failed=failed)
    return _gated(m, node, said)


def _gated(m: Moment, node: Node, wanted: Perform | None) -> Turn:
    """A step's own questions come right before it acts, and an interrupt before these."""
    if wanted is None:
        return None
    if m.interrupted and node.flow != "rolling":
        return interrupted()
    question: Turn = step_question(m, node)
    if question is None and node.flow == "approval":
        # Who approves is to see what would be touched, so it is looked at first.
        question = _prepared(m, node) or approval(m, node)
    return question or wanted


def _prepared(m: Moment, node: Node) -> Perform | Stop | None:
    return prepare(m, node) if m.plan.engine > 1 else None


def _act(
    m: Moment, node: Node, args: Mapping[str, Any], shown: tuple[str, ...], at_once: int | None
) -> Perform | None:
    """Changes go out no more than can run at once, so that a failure stops the rest."""
    due = m.book.tally(node, "act").due(at_once)
    return perform([_acting(m, node, args, shown, target, attempt) for target, attempt in due])


def _acting(  # noqa: PLR0917
    m: Moment,
    node: Node,
    args: Mapping[str, Any],
    shown: tuple[str, ...],
    target: str,
    attempt: int,
) -> Task:
    task = make_task(node, "act", target, args)
    prepared = m.book.tally(node, "prepare").last.get(target)
    given: dict[str, Any] = {"prepared": prepared.data} if prepared is not None else {}
    task = replace(task, changes=node.changes, shown=shown, given=given)
    if attempt > 1 and node.retry is not None:
        return replace(task, key=f"{task.key}#{attempt}", wait_s=node.retry.delay_s)
    return task
