"""What a step of a run may know: its scope's parameters, what earlier steps saved, its arguments.

A value is not always there yet: a step that has not ended, or that a rehearsal only assumed, has
none. What hangs on it is then neither true nor false.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runbook.engine import rolling
from runbook.engine.book import main_phase
from runbook.engine.conditions import (
    TAKEN_OUT_HINT,
    evaluate,
    refuse_masked,
    step_names,
    taken_out,
)
from runbook.engine.moment import Moment
from runbook.engine.outcomes import fold, step_outcome, worst
from runbook.model.errors import UsageError
from runbook.model.plan import Finish, Node, Plan, Result
from runbook.model.redaction import pointer, within
from runbook.model.templates import expand_all, parts_of, placeholders

_STEPS = re.compile(r"\$\{\s*steps\.([a-z][a-z0-9_]*)")
_ASSUMED = frozenset({"rehearsed", "not_exercised"})
_UNKNOWN = object()
#: Text that people read, and nothing else does: there a secret that was taken out is a hole as on
#: every screen, and no reason to tell them nothing.
_FOR_PEOPLE = frozenset({("notify", "message"), ("approve", "prompt")})


# ---- conditions ----------------------------------------------------------------------------


def holds(m: Moment, node: Node) -> bool | None:
    """Return whether a step's conditions hold; None while one hangs on something not yet known.

    Raises:
        RunbookError: when one cannot be decided from what the run has seen.
    """
    kept = m.book.memo.get(("holds", node.key, m.ending), _UNKNOWN)
    if kept is not _UNKNOWN:
        return bool(kept)
    held: bool | None = True
    for scope, expression in _conditions(node):
        held = _holds(m, node, scope, expression)
        if not held:
            break
    if held is not None:
        m.book.memo["holds", node.key, m.ending] = held
    return held


def _conditions(node: Node) -> tuple[tuple[str, str], ...]:
    """Outermost first: what an include's own condition leaves out is not asked any further."""
    own = ((node.scope, node.when),) if node.when is not None else ()
    return (*node.also_when, *own)


def _holds(m: Moment, node: Node, scope: str, expression: str) -> bool | None:
    names, values = dict(_names(m, scope)), _values(m.plan, scope)
    if node.item is not None:
        names["item"], values["item"] = "dyn", node.item
    for name in step_names(expression):
        if _is_later(m, node, scope, name):
            continue
        value = step_value(m, node, scope, name)
        if value is None:
            return None
        refuse_masked(expression, f"steps.{name}", _masked(m, node, scope, name))
        names[f"steps.{name}"], values[f"steps.{name}"] = "dyn", value
    return evaluate(expression, names, values)


def _names(m: Moment, scope: str) -> dict[str, str]:
    """Return the names that conditions of a scope may use, with their types."""
    names = dict.fromkeys(_values(m.plan, scope), "dyn") | {"target": "string"}
    return names | {f"steps.{name}": "dyn" for of, name in m.book.shape.saved if of == scope}


def _values(plan: Plan, scope: str) -> dict[str, object]:
    params = plan.scopes.get(scope, {}) if scope else plan.params
    target = plan.scope_targets.get(scope) if scope else plan.target
    values: dict[str, object] = {f"params.{name}": value for name, value in params.items()}
    return values | {"target": target or ""}


# ---- what steps saved ----------------------------------------------------------------------


def _earlier(m: Moment, node: Node, scope: str, name: str) -> list[Node]:
    numbers = m.book.shape.saved.get((scope, name), ())
    return [m.plan.nodes[number] for number in numbers if number < m.number(node)]


def _is_later(m: Moment, node: Node, scope: str, name: str) -> bool:
    return bool(m.book.shape.saved.get((scope, name))) and not _earlier(m, node, scope, name)


def step_value(m: Moment, node: Node, scope: str, name: str) -> dict[str, Any] | None:
    """Return what `steps.NAME` is for a step; None while it is not known.

    A step that is not in the plan was left out of this run, by its tags or for want of items.
    """
    steps = _earlier(m, node, scope, name)
    if not steps:
        return {"status": "skipped"}
    if steps[0].loop is None:
        return _saved(m, steps[0])
    items: dict[str, Any] = {}
    for step in steps:
        value = _saved(m, step)
        if value is None:
            return None
        items[_item(step)] = value
    return {"status": _together(items), "items": items}


def _masked(m: Moment, node: Node, scope: str, name: str) -> tuple[str, ...]:
    """Return where something was taken out of `steps.NAME` as a secret, as JSON pointers."""
    found: list[str] = []
    for step in _earlier(m, node, scope, name):
        at = pointer("items", _item(step)) if step.loop is not None else ""
        found += (f"{at}{each}" for each in _masked_in(m, step))
    return tuple(found)


def _masked_in(m: Moment, step: Node) -> list[str]:
    result = outcome(replace(m, ending=False) if step.role == "main" else m, step)
    found = list(result.masked) if result is not None else []
    if len(step.targets) > 1:
        by_target = step_outcome(m.book, step).by_target
        for target, own in by_target.items():
            found += (pointer("targets", target) + each for each in own.masked)
    return found


def _together(items: Mapping[str, Mapping[str, Any]]) -> str:
    """An item that was never come to does not make the others better."""
    statuses = [value["status"] for value in items.values()]
    reached = [status for status in statuses if status != "not_reached"]
    return worst(reached) if reached else "not_reached"


def _item(step: Node) -> str:
    """Return the item by the name that it has in the step's key: `drain[redis-1]`."""
    return step.key.removeprefix(f"{step.loop}[").removesuffix("]")


def _saved(m: Moment, step: Node) -> dict[str, Any] | None:
    # The main line is what it was when it ended; only what is told of it differs.
    result = outcome(replace(m, ending=False) if step.role == "main" else m, step)
    if result is None:
        return {"status": "not_reached"} if m.passed(step) and not m.plan.rehearsal else None
    if result.status in _ASSUMED:
        return None
    by_target = step_outcome(m.book, step).by_target
    own: Mapping[str, Any] = result.data
    if len(step.targets) > 1:
        own = {"targets": {target: dict(r.data) for target, r in by_target.items()}}
    if not by_target and result.status == "skipped":
        return {"status": "skipped"}
    return {"status": result.status, "summary": result.summary, **own}


# ---- how steps ended -----------------------------------------------------------------------


def ended(m: Moment, node: Node) -> Result | None:
    """Return what a step's tasks came to; None while the step goes on, or has no task."""
    if node.flow == "rolling":
        return _rolled(m, node)
    tally = m.book.tally(node, main_phase(node))
    if tally.complete:
        result = step_outcome(m.book, node).result
        return Result(status="skipped", summary="nothing to do") if result is None else result
    if node.changes and tally.bad:
        # A change that failed on one target is not carried to those that wait.
        return fold([r for t, r in tally.in_order().items() if t in tally.bad])
    return None


def _rolled(m: Moment, node: Node) -> Result | None:
    """A rolling step says itself when it is over: within its threshold it bears failures."""
    if not m.book.tally(node, "preflight").complete or rolling.unfit(m.book, node):
        return None
    said = rolling.act(m, node, node.args, ())
    if said is None:
        return step_outcome(m.book, node).result
    if not isinstance(said, Finish) or said.status == "interrupted":
        return None
    status = "failed" if said.status == "halted" else said.status
    return Result(status=status, summary=said.reason, hint=said.hint)  # type: ignore[arg-type]


def outcome(m: Moment, node: Node) -> Result | None:
    """Return what a step came to, with or without tasks of its own; None when that is open."""
    result = ended(m, node)
    if result is not None:
        return result
    if holds(m, node) is False:
        return Result(status="skipped")
    args = arguments(m, node)
    return args if isinstance(args, Result) else None


# ---- arguments -----------------------------------------------------------------------------


def arguments(m: Moment, node: Node) -> Mapping[str, Any] | Result | None:
    """Return a step's arguments with each `${steps.NAME.path}` filled in.

    None while a step that they name has not ended; what the step comes to when they can never be
    filled in.
    """
    kept = m.book.memo.get(("args", node.key, m.ending))
    if kept is None:
        open_ = {name: value for name, value in node.args.items() if name not in node.verbatim}
        kept = _masked_argument(m, node, open_) or _fill(m, node, open_)
        if kept is not None and not isinstance(kept, Result):
            kept = {**node.args, **kept}
        if kept is not None:
            m.book.memo["args", node.key, m.ending] = kept
    found: Mapping[str, Any] | Result | None = kept
    return found


def _masked_argument(m: Moment, node: Node, args: Mapping[str, Any]) -> Result | None:
    """Refuse what was taken out as a secret: the hole would become a file's content, a word."""
    strict = {n: value for n, value in args.items() if (node.verb, n) not in _FOR_PEOPLE}
    for name in filter(_of_steps, _names_in(strict)):
        _, step, *parts = parts_of(name)
        if within(pointer(*parts), _masked(m, node, node.scope, step)):
            return Result(status="failed", summary=taken_out(name), hint=TAKEN_OUT_HINT)
    return None


def _names_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return list(placeholders(value))
    if isinstance(value, Mapping):
        value = list(value.values())
    items = value if isinstance(value, list | tuple) else ()
    return [name for item in items for name in _names_in(item)]


def _fill(m: Moment, node: Node, value: Any) -> Any:
    names = dict.fromkeys(_STEPS.findall(json.dumps(value)))
    if not names:
        return value
    values: dict[str, Any] = {}
    for name in names:
        known = step_value(m, node, node.scope, name)
        if known is None:
            return None
        values[name] = known
    try:
        filled = expand_all(value, {"steps": values}, keep=lambda name: not _of_steps(name))
        _refuse_templates(value, filled)
    except UsageError as error:
        return Result(status="failed", summary=error.message, hint=error.hint or "")
    return filled


def _refuse_templates(before: Any, filled: Any) -> None:
    """What a step has said is data: a placeholder in it must not be filled in after it."""
    brought = _asked_for(filled) - _asked_for(before)
    if brought:
        raise UsageError(
            f"what an earlier step said holds ${{{min(brought)}}}, which this step would fill in",
            hint="let the step that reads it say the value that is needed here, and nothing else",
        )


def _asked_for(value: Any) -> set[str]:
    if isinstance(value, str):
        return {name for name in placeholders(value) if name.startswith("host.")}
    if isinstance(value, Mapping):
        return {name for item in value.values() for name in _asked_for(item)}
    if isinstance(value, list | tuple):
        return {name for item in value for name in _asked_for(item)}
    return set()


def filled_text(m: Moment, node: Node, text: str) -> str:
    """Return a question with what it names filled in; as it stands where that is not known."""
    filled = _fill(m, node, text)
    return text if filled is None or isinstance(filled, Result) else str(filled)


def _of_steps(name: str) -> bool:
    return name.startswith("steps.")
