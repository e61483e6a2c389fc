"""Playbook parameters: words from the command line or the playbook become typed, bounded values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from runbook.model.document import nearest
from runbook.model.errors import UsageError
from runbook.model.playbook import Parameter
from runbook.model.pool_sizes import parse_sizes
from runbook.model.units import parse_amount, parse_duration, parse_floor, parse_percent

if TYPE_CHECKING:
    from runbook.model.fleet import Fleet

_INT = re.compile(r"-?(0|[1-9]\d{0,15})")
#: As systemd names units, and as an inventory may: no glob, no option.
_UNIT = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9:_.@\\-]{0,254}")


def _int(value: Any) -> int:
    if isinstance(value, bool | float) or not _INT.fullmatch(str(value)):
        raise ValueError(f"{value!r} is no whole number")
    return int(value)


def _count(value: Any) -> int:
    if _int(value) < 0:
        raise ValueError(f"{value!r} is no number of 0 or more")
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


def _name(value: Any) -> str:
    if not _string(value).strip():
        raise ValueError("it is empty")
    return str(value)


def _unit(value: Any) -> str:
    if not _UNIT.fullmatch(_string(value)):
        raise ValueError(f"{value!r} is no name of a systemd unit, as in shop.service")
    return str(value)


def _duration_text(value: Any) -> str:
    if isinstance(value, bool | float):
        raise ValueError(f"{value!r} is no duration: write it with a unit, as in 30s or 5m")  # noqa: TRY004
    parse_duration(value)
    return str(value)


def _percent_text(value: Any) -> str:
    if isinstance(value, bool | int | float):
        raise ValueError(f"{value!r} is no percentage: write it as in 25%")  # noqa: TRY004
    return f"{parse_percent(value)}%"


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
    "strings": _several(_string),
    "enum": _string,
    "hosts": _name,
    "host": _name,
    "service": _name,
    "services": _several(_name),
    "database": _name,
    "unit": _unit,
    "duration": _duration_text,
    "durations": _several(_duration_text),
    "percentage": _percent_text,
    "amount": parse_floor,
    "amounts": _several(parse_amount),
    "pools": parse_sizes,
}
#: Parameter type -> how its `min` and `max` are read; other types have no bounds.
_BOUNDS: Mapping[str, Callable[[Any], Any]] = {
    "int": _int,
    "string": _count,
    "hosts": _count,
    "duration": _duration_text,
    "durations": _duration_text,
    "percentage": _percent_text,
    "amount": parse_floor,
    "amounts": parse_amount,
}
_CHOOSES = frozenset({"enum", "string", "host", "service", "database", "unit"})


def resolve(
    declared: Mapping[str, Parameter],
    given: Mapping[str, Any],
    playbook: str,
    fleet: Fleet | None = None,
) -> dict[str, Any]:
    """Return every declared parameter's value: the given one, else the default.

    With a fleet, names of hosts, services and databases must be in its inventory.

    Raises:
        UsageError: for an unknown name, a wrong type, a value out of bounds, a missing value.
    """
    for name in given:
        if name not in declared:
            near = nearest(name, list(declared))
            listing = ", ".join(declared) or "no parameters"
            hint = f"did you mean {near!r}?" if near else f"it takes: {listing}"
            raise UsageError(f"playbook {playbook} has no parameter {name!r}", hint=hint)
    return {name: _value(name, spec, given, playbook, fleet) for name, spec in declared.items()}


def parse(name: str, spec: Parameter, value: Any, fleet: Fleet | None = None) -> Any:
    """Return one value, checked against its declaration.

    Raises:
        UsageError: for a wrong type, a value out of bounds or not among the choices; with a
            fleet, for a name that its inventory does not have.
    """
    try:
        parsed = _PARSERS[spec.type](value)
        _check_bounds(spec, parsed)
    except ValueError as error:
        raise UsageError(f"parameter {name}: {error}", hint=spec.description or None) from None
    if spec.choices is not None and parsed not in spec.choices:
        near = nearest(str(parsed), spec.choices)
        raise UsageError(
            f"parameter {name}: {parsed!r} is not among {', '.join(spec.choices)}",
            hint=f"did you mean {near!r}?" if near else spec.description or None,
        )
    if fleet is not None:
        _check_names(name, spec, parsed, fleet)
    return parsed


def misfits(name: str, spec: Parameter) -> Iterator[tuple[str, str, str | None]]:
    """Yield what is wrong with a declaration: the key that says it, the mistake, the remedy."""
    for key in ("min", "max"):
        bound = getattr(spec, key)
        if bound is None:
            continue
        if spec.type not in _BOUNDS:
            kinds = ", ".join(_BOUNDS)
            yield key, f"parameter {name}: {spec.type} has no {key}", f"these have: {kinds}"
            continue
        try:
            _BOUNDS[spec.type](bound)
        except ValueError as error:
            yield key, f"parameter {name}: {error}", None
    if spec.choices is not None and spec.type not in _CHOOSES:
        yield "choices", f"parameter {name}: {spec.type} has no choices", "use the type enum"
    if spec.type == "enum" and spec.choices is None:
        yield "type", f"parameter {name}: enum needs choices", "as in: choices: [fast, safe]"
    if spec.required and spec.default is not None:
        message = f"parameter {name}: what is required has no default"
        yield "default", message, "leave one of the two out"


def misfit_default(name: str, spec: Parameter) -> UsageError | None:
    """Return what is wrong with the default of a declaration that is sound otherwise."""
    if spec.default is None:
        return None
    try:
        parse(name, spec, spec.default)
    except UsageError as error:
        return error
    return None


def _check_bounds(spec: Parameter, value: Any) -> None:
    if spec.type not in _BOUNDS or spec.type == "hosts":
        return
    read = _BOUNDS[spec.type]
    low = None if spec.min is None else read(spec.min)
    high = None if spec.max is None else read(spec.max)
    for one in value if isinstance(value, list) else [value]:
        if low is not None and _size(spec, one, low) < _size(spec, low, low):
            raise ValueError(f"{_said(spec, one)} is less than the smallest allowed, {low}")
        if high is not None and _size(spec, one, high) > _size(spec, high, high):
            raise ValueError(f"{_said(spec, one)} is more than the largest allowed, {high}")


def _said(spec: Parameter, value: Any) -> str:
    return f"a length of {len(value)}" if spec.type == "string" else str(value)


def _size(spec: Parameter, value: Any, bound: Any) -> float:
    """Return how large a value is, in the measure of the bound that it is held against."""
    if spec.type == "string":
        return len(value) if isinstance(value, str) else float(value)
    if spec.type in {"duration", "durations"}:
        return parse_duration(value)
    if str(value).endswith("%") != str(bound).endswith("%"):
        kind = "a percentage" if str(bound).endswith("%") else "a count"
        raise ValueError(f"{value} cannot be held against the bound {bound}: write {kind}")
    return float(str(value).removesuffix("%"))


def _check_names(name: str, spec: Parameter, value: Any, fleet: Fleet) -> None:
    looks: Mapping[str, Callable[[Any], object]] = {
        "hosts": fleet.select,
        "host": fleet.host,
        "service": fleet.service,
        "services": lambda names: [fleet.service(each) for each in names],
        "database": fleet.database,
        "pools": lambda pools: [fleet.service(pool["service"]) for pool in pools],
    }
    if spec.type not in looks:
        return
    try:
        found = looks[spec.type](value)
    except UsageError as error:
        raise UsageError(f"parameter {name}: {error.message}", hint=error.hint) from None
    if spec.type == "hosts" and isinstance(found, tuple):
        _check_number(name, spec, str(value), len(found))


def _check_number(name: str, spec: Parameter, selector: str, count: int) -> None:
    low, high = _count(spec.min or 0), None if spec.max is None else _count(spec.max)
    if count < low or (high is not None and count > high):
        most = "any number" if high is None else str(high)
        raise UsageError(
            f"parameter {name}: {selector!r} selects {count} hosts; allowed are {low} to {most}",
            hint=spec.description or "narrow the selector",
        )


def _check_plain(name: str, value: Any) -> None:
    """A value that is given is data: nothing in it is ever looked up."""
    texts = value if isinstance(value, list | tuple) else (value,)
    if any(isinstance(text, str) and "${" in text for text in texts):
        raise UsageError(
            f"parameter {name}: {value!r} holds ${{…}}, which a step would take for a placeholder",
            hint="give the value that it stands for; a default of the playbook may hold ${host.…}",
        )


def _value(
    name: str, spec: Parameter, given: Mapping[str, Any], playbook: str, fleet: Fleet | None
) -> Any:
    if name in given and given[name] is not None:
        _check_plain(name, given[name])
        return parse(name, spec, given[name], fleet)
    if spec.required:
        raise UsageError(
            f"playbook {playbook} needs the parameter {name!r}",
            hint=f"give it with -p {name}=VALUE; {spec.description}".rstrip("; "),
        )
    return None if spec.default is None else parse(name, spec, spec.default, fleet)
