"""Attempts at a step with `retry`: when it is done again, and what the last one comes to. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from runbook.engine.conditions import ConditionFailed, evaluate, refuse_masked
from runbook.model.plan import Node, Result

#: Nothing was done, so there is nothing to hold against `until`.
_NOT_DONE = frozenset({"rehearsed", "skipped", "not_exercised"})


def verdict(node: Node, attempt: int, result: Result) -> tuple[Result, bool]:
    """Return what an attempt comes to, and whether another one is due.

    An attempt whose outcome is unknown is never repeated: what was asked for may be under way. An
    attempt that stopped because somebody wants the run to stop is not repeated either.
    """
    retry = node.retry
    if retry is None or result.status in _NOT_DONE:
        return result, False
    try:
        refuse_masked(retry.until or "", "result", result.masked)
    except ConditionFailed as error:
        return _undecided(result, error), False
    held = _held(retry.until, result)
    ended = held if held is not None else result.good
    final = result.status == "unknown" or bool(result.data.get("interrupted"))
    again = not ended and not final and attempt < retry.times
    if held is False and result.good:
        # What the step itself calls well is not what was waited for.
        why = f"{result.summary}; `{retry.until}` did not hold in {attempt} attempts"
        result = replace(result, status="failed", summary=why.removeprefix("; "))
    return result, again


def _undecided(result: Result, error: ConditionFailed) -> Result:
    """What `until` reads was taken out as a secret, and will be in each further attempt."""
    if not result.good:
        return result
    return replace(result, status="failed", summary=error.message, hint=error.hint or "")


def _held(until: str | None, result: Result) -> bool | None:
    """Return whether `until` holds; what it asks for and is not there does not hold."""
    if until is None:
        return None
    value: dict[str, Any] = {"status": result.status, "summary": result.summary, **result.data}
    try:
        return evaluate(until, {"result": "dyn"}, {"result": value})
    except ConditionFailed:
        return False
