"""Playbook parameters: words from the command line or the playbook become typed, bounded values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from runbook.model.document import nearest
from runbook.model.errors import UsageError
from runbook.model.playbook import Parameter
from runbook.model.units import parse_amount, parse_duration, parse_floor, parse_percent

_INT = re.compile(r"-?(0|[1-9]\d{0,15})")


def _int(value: Any) -> int:
    if isinstance(value, bool) or not _INT.fullmatch(str(value)):
        raise ValueError(f"{value!r} is no whole number")
    return int(value)


def _bool(value: Any) -> bool:
    words = {True: True, False: False, "true": True, "false": False}
    if not isinstance(value, bool | str) or value not in words:
        raise ValueError(f"{value!r} is neither true nor false")
    return words[value]


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text: quote it")  # noqa: TRY004 - one kind for callers
    return value


def _duration_text(value: Any) -> str:
    parse_duration(value)
    return str(value)


def _several(one: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def parse(value: Any) -> list[Any]:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            items = [items]
        return [one(item.strip() if isinstance(item, str) else item) for item in items]

    return parse


#: Parameter type -> how a value is read. Durations and percentages stay as written: the step that
#: takes them reads them again, and the plan shows what the user said.
_PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "int": _int,
    "bool": _bool,
    "string": _string,
    "hosts": _string,
    "duration": _duration_text,
    "durations": _several(_duration_text),
    "percentage": lambda value: f"{parse_percent(value)}%",
    "amount": parse_floor,
    "amounts": _several(parse_amount),
}
_SIZES: Mapping[str, Callable[[Any], float]] = {
    "int": _int,
    "duration": parse_duration,
    "percentage": parse_percent,
}


def resolve(
    declared: Mapping[str, Parameter], given: Mapping[str, Any], playbook: str
) -> dict[str, Any]:
    """Return every declared parameter's value: the given one, else the default.

    Raises:
        UsageError: for an unknown name, a wrong type, a value out of bounds, a missing value.
    """
    for name in given:
        if name not in declared:
            near = nearest(name, list(declared))
            listing = ", ".join(declared) or "no parameters"
            hint = f"did you mean {near!r}?" if near else f"it takes: {listing}"
            raise UsageError(f"playbook {playbook} has no parameter {name!r}", hint=hint)
    return {name: _value(name, spec, given, playbook) for name, spec in declared.items()}


def parse(name: str, spec: Parameter, value: Any) -> Any:
    """Return one value, checked against its declaration.

    Raises:
        UsageError: for a wrong type, a value out of bounds or not among the choices.
    """
    try:
        parsed = _PARSERS[spec.type](value)
        _check_bounds(spec, parsed)
    except ValueError as error:
        raise UsageError(f"parameter {name}: {error}", hint=spec.description or None) from None
    if spec.choices is not None and parsed not in spec.choices:
        raise UsageError(
            f"parameter {name}: {parsed!r} is not among {', '.join(spec.choices)}",
            hint=spec.description or None,
        )
    return parsed


def _check_bounds(spec: Parameter, value: Any) -> None:
    size = _SIZES.get(spec.type)
    if size is None:
        return
    if spec.min is not None and size(value) < size(spec.min):
        raise ValueError(f"{value} is less than the smallest allowed, {spec.min}")
    if spec.max is not None and size(value) > size(spec.max):
        raise ValueError(f"{value} is more than the largest allowed, {spec.max}")


def _value(name: str, spec: Parameter, given: Mapping[str, Any], playbook: str) -> Any:
    if name in given:
        return parse(name, spec, given[name])
    if spec.required:
        raise UsageError(
            f"playbook {playbook} needs the parameter {name!r}",
            hint=f"give it with -p {name}=VALUE; {spec.description}".rstrip("; "),
        )
    return None if spec.default is None else parse(name, spec, spec.default)
