"""`${host.name}`: values looked up by dotted names inside strings; never code, never a shell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runbook.model.errors import UsageError

_PLACEHOLDER = re.compile(r"\$\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")

Scope = Mapping[str, Any]


def placeholders(text: str) -> tuple[str, ...]:
    """Return the dotted names that `text` asks for."""
    return tuple(match[1].strip() for match in _PLACEHOLDER.finditer(text))


def lookup(name: str, scope: Scope) -> Any:
    """Return the value of a dotted name.

    Raises:
        UsageError: when there is no such value; the message lists what there is.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"${{{name}}} is no dotted name", hint="write ${host.name}, ${params.size} or the like"
        )
    value: Any = scope
    for depth, part in enumerate(name.split(".")):
        if not isinstance(value, Mapping) or part not in value:
            known = ", ".join(sorted(map(str, value))) if isinstance(value, Mapping) else "nothing"
            where = ".".join(name.split(".")[:depth]) or "here"
            raise UsageError(f"${{{name}}} is not known", hint=f"{where} has: {known}")
        value = value[part]
    return value


def expand(text: str, scope: Scope) -> Any:
    """Return `text` with its placeholders filled in.

    A string that is one placeholder and nothing else keeps the value's type; inside a longer
    string the value must be a plain scalar.

    Raises:
        UsageError: for unknown names, and for a list or mapping inside a longer string.
    """
    whole = _PLACEHOLDER.fullmatch(text)
    if whole:
        return lookup(whole[1].strip(), scope)

    def replace(match: re.Match[str]) -> str:
        value = lookup(match[1].strip(), scope)
        if isinstance(value, Mapping | list | tuple) or value is None:
            raise UsageError(f"{match[0]} is no single value; it cannot stand inside a string")
        return str(value).lower() if isinstance(value, bool) else str(value)

    return _PLACEHOLDER.sub(replace, text)


def expand_all(value: Any, scope: Scope) -> Any:
    """Return lists and mappings with every string in them expanded; keys are left as they are."""
    if isinstance(value, str):
        return expand(value, scope)
    if isinstance(value, Mapping):
        return {key: expand_all(item, scope) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [expand_all(item, scope) for item in value]
    return value
