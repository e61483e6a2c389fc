"""`when` conditions in CEL: type-checked against known names before anything runs, then pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from runbook.model.errors import RunbookError, UsageError
from runbook.model.redaction import pointer, within

_PLACE = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")

#: CEL's type for each parameter type; everything else is dynamic.
_TYPES = {
    "int": "INT",
    "percentage": "INT",
    "duration": "DOUBLE",
    "bool": "BOOL",
    "string": "STRING",
    "amount": "STRING",
    "hosts": "STRING",
}


class ConditionFailed(RunbookError):
    """A condition could not be decided from what the run has seen."""


def check(expression: str, names: Mapping[str, str]) -> None:
    """Check an expression against the names it may use: dotted name -> parameter type.

    Raises:
        UsageError: for a syntax error, an unknown name, mismatched types, or a result that is
            no bool.
    """
    _compile(expression, names)


def evaluate(expression: str, names: Mapping[str, str], values: Mapping[str, Any]) -> bool:
    """Return whether the condition holds for `values` (dotted name -> value).

    Raises:
        UsageError: when the expression is wrong.
        ConditionFailed: when it asks for something that is not there.
    """
    value = _compile(expression, names).eval(data=dict(values)).value()
    if not isinstance(value, bool):
        raise ConditionFailed(
            f"the condition {expression!r} could not be decided: {value}",
            hint="has(steps.NAME.KEY) asks whether a value is there",
        )
    return value


def uses(expression: str, name: str) -> bool:
    """Return whether an expression speaks of a dotted name (or of something inside of it)."""
    return re.search(rf"(?<![\w.]){re.escape(name)}(?![\w])", expression) is not None


def step_names(expression: str) -> tuple[str, ...]:
    """Return the names of the steps that an expression speaks of: `steps.NAME`."""
    return tuple(dict.fromkeys(re.findall(r"(?<![\w.])steps\.([a-z][a-z0-9_]*)", expression)))


def refuse_masked(expression: str, name: str, masked: Iterable[str]) -> None:
    """Refuse a condition over what was taken out as a secret: it would be held against the hole.

    `name` is a value's dotted name, `masked` the JSON pointers to what was taken out of it.

    Raises:
        ConditionFailed: when the expression reads any of it.
    """
    masked = tuple(masked)
    for said, asked in _paths(expression, name) if masked else ():
        if within(asked, masked):
            raise ConditionFailed(
                f"the condition {expression!r} could not be decided: {taken_out(said)}",
                hint=TAKEN_OUT_HINT,
            )


def taken_out(name: str) -> str:
    """Say that a value is not whole."""
    return f"{name} holds something that was taken out as a secret"


TAKEN_OUT_HINT = (
    "secrets are kept nowhere, so no other step can use one: read it on the host in one step"
    " (script), or name a part that holds none"
)

_PART = re.compile(r"""\.([A-Za-z_]\w*+)(?!\s*\()|\[\s*(?:"([^"\\]*)"|'([^'\\]*)'|([0-9]+))\s*\]""")


def _paths(expression: str, name: str) -> list[tuple[str, str]]:
    """Return each path that an expression reads of a name: as it stands there, and as a pointer.

    A path ends where it is not spelled out (a method, a computed index): what lies below counts.
    """
    found = []
    for begin in re.finditer(rf"(?<![\w.]){re.escape(name)}(?!\w)", expression):
        end, parts = begin.end(), []
        while part := _PART.match(expression, end):
            parts.append(next(each for each in part.groups() if each is not None))
            end = part.end()
        found.append((expression[begin.start() : end], pointer(*parts)))
    return found


def _compile(expression: str, names: Mapping[str, str]) -> Any:
    return _compiled(expression, tuple(sorted(names.items())))


@lru_cache(maxsize=512)  # compiling takes 1 ms, and a condition is asked for again and again
def _compiled(expression: str, known: tuple[tuple[str, str], ...]) -> Any:
    from cel_expr_python import cel

    names = dict(known)
    kinds = {name: getattr(cel.Type, _TYPES.get(kind, "DYN")) for name, kind in names.items()}
    try:
        compiled = cel.NewEnv(variables=kinds).compile(expression)
    except RuntimeError as error:  # the binding has no exception types of its own
        raise _wrong(expression, str(error), names) from None
    result = compiled.return_type().name()
    if result not in {"BOOL", "DYN"}:
        raise UsageError(
            f"the condition {expression!r} is of type {result.lower()}, not bool",
            hint="compare it with something, as in: params.size > 3",
        )
    return compiled


def _wrong(expression: str, text: str, names: Mapping[str, str]) -> UsageError:
    found = _PLACE.search(text)
    what = found[3].replace(" (in container '')", "") if found else text.splitlines()[0]
    column = f" at column {found[2]}" if found else ""
    return UsageError(
        f"the condition {expression!r} is wrong{column}: {what}",
        hint=f"it may use: {', '.join(sorted(names)) or 'no names here'}",
    )
