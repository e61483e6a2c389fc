"""`${host.name}`: values looked up by dotted names inside strings; never code, never a shell."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from runbook.model.errors import UsageError

_PLACEHOLDER = re.compile(r"\$\{([^{}]*)\}")
#: Dotted, with the numbers of list items in brackets: `steps.counted.rows[0].n`.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+|\[(?:0|[1-9]\d{0,5})\])*")
_PART = re.compile(r"[A-Za-z0-9_-]+|\[\d+\]")

Scope = Mapping[str, Any]
#: Says of a name whether its placeholder is left as it stands, to be filled in later.
Keep = Callable[[str], bool]


def _fill_all_in(_name: str) -> bool:
    return False


def placeholders(text: str) -> tuple[str, ...]:
    """Return the dotted names that `text` asks for."""
    return tuple(match[1].strip() for match in _PLACEHOLDER.finditer(text))


def lookup(name: str, scope: Scope) -> Any:
    """Return the value of a dotted name; `[0]` is the first item of a list.

    Raises:
        UsageError: when there is no such value; the message lists what there is.
    """
    value: Any = scope
    for where, part in _parts(name):
        value = _inside(value, part, name, where)
    return value


def parts_of(name: str) -> tuple[str, ...]:
    """Return the parts of a dotted name, the numbers of list items without their brackets.

    Raises:
        UsageError: when it is no dotted name.
    """
    return tuple(part.strip("[]") for _, part in _parts(name))


@lru_cache(maxsize=1024)
def _parts(name: str) -> tuple[tuple[str, str], ...]:
    """Return a name's parts, each behind what comes before it; hosts ask for the same few names."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"${{{name}}} is no dotted name", hint="write ${host.name}, ${params.size} or the like"
        )
    return tuple((name[: m.start()].rstrip(".") or "here", m[0]) for m in _PART.finditer(name))


def _inside(value: Any, part: str, name: str, where: str) -> Any:
    if part.startswith("["):
        items = value if isinstance(value, list | tuple) else ()
        if int(part[1:-1]) < len(items):
            return items[int(part[1:-1])]
        has = f"{len(items)} items" if isinstance(value, list | tuple) else "no list"
        raise UsageError(f"${{{name}}} is not known", hint=f"{where} has {has}")
    if isinstance(value, Mapping) and part in value:
        return value[part]
    known = ", ".join(sorted(map(str, value))) if isinstance(value, Mapping) else "nothing"
    raise UsageError(f"${{{name}}} is not known", hint=f"{where} has: {known}")


def expand(text: str, scope: Scope, *, keep: Keep = _fill_all_in) -> Any:
    """Return `text` with its placeholders filled in, those aside that `keep` says.

    A string that is one placeholder and nothing else keeps the value's type; inside a longer
    string the value must be a plain scalar.

    Raises:
        UsageError: for unknown names, and for a list or mapping inside a longer string.
    """
    whole = _PLACEHOLDER.fullmatch(text)
    if whole:
        name = whole[1].strip()
        return text if keep(name) else lookup(name, scope)

    def replace(match: re.Match[str]) -> str:
        name = match[1].strip()
        if keep(name):
            return match[0]
        value = lookup(name, scope)
        if isinstance(value, Mapping | list | tuple) or value is None:
            raise UsageError(f"{match[0]} is no single value; it cannot stand inside a string")
        return str(value).lower() if isinstance(value, bool) else str(value)

    return _PLACEHOLDER.sub(replace, text)


def expand_all(value: Any, scope: Scope, *, keep: Keep = _fill_all_in) -> Any:
    """Return lists and mappings with every string in them expanded; keys are left as they are."""
    if isinstance(value, str):
        return expand(value, scope, keep=keep)
    if isinstance(value, Mapping):
        return {key: expand_all(item, scope, keep=keep) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [expand_all(item, scope, keep=keep) for item in value]
    return value
