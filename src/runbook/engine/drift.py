"""How a plan that was made anew differs from the one that a run began with. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from runbook.model.plan import Node, Plan

#: Names that a tired eye takes in; the rest are counted.
_NAMED = 8
#: A value as a message shows it; the rest is cut.
_LONGEST = 80


def drift(began: Plan, now: Plan) -> tuple[str, ...]:
    """Return what is different, one line each, the hosts first; nothing when nothing is."""
    lines = [*_steps(began, now), *_whole(began, now)]
    return tuple(lines)


def _whole(began: Plan, now: Plan) -> Iterator[str]:
    for name in ("engine", "playbook", "target", "parallel"):
        yield from _value(name, getattr(began, name), getattr(now, name))
    yield from _values("parameter ", began.params, now.params)
    for name in sorted(began.subjects.keys() & now.subjects.keys()):
        if began.subjects[name] != now.subjects[name]:
            yield f"the inventory says something else of {name} (its address, gates, settings, …)"
    for key in sorted(began.scopes.keys() | now.scopes.keys()):
        before, after = began.scopes.get(key, {}), now.scopes.get(key, {})
        yield from _values(f"{key}: parameter ", before, after)


def _steps(began: Plan, now: Plan) -> Iterator[str]:
    before = {node.key: node for node in began.nodes}
    after = {node.key: node for node in now.nodes}
    for key, node in before.items():
        if key not in after:
            yield f"step {node.name!r} is gone"
        else:
            yield from _step(node, after[key])
    yield from (f"step {node.name!r} is new" for key, node in after.items() if key not in before)
    order = [key for key in after if key in before]
    if order != [key for key in before if key in after]:
        yield f"the steps come in another order: {_some(order)}"


def _step(before: Node, after: Node) -> Iterator[str]:
    where = f"step {before.name!r}: "
    gone = [target for target in before.targets if target not in after.targets]
    new = [target for target in after.targets if target not in before.targets]
    if gone:
        yield f"{where}no longer on {_some(gone)}"
    if new:
        yield f"{where}now on {_some(new)} as well"
    if not gone and not new and before.targets != after.targets:
        yield f"{where}its targets come in another order: {_some(after.targets)}"
    old, fresh = _rest(before), _rest(after)
    yield from _values(where, old, fresh)


def _rest(node: Node) -> dict[str, Any]:
    """Return all else that a step says, its arguments by their paths."""
    said = asdict(node)
    arguments = said.pop("args")
    for name in ("key", "targets"):
        said.pop(name)
    return {**said, **dict(_flat("", arguments))}


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(f"{path}.{key}" if path else str(key), item)
    else:
        yield path, value


def _values(where: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*before, *after]):
        yield from _value(f"{where}{name}", before.get(name), after.get(name))


def _value(name: str, before: Any, after: Any) -> Iterator[str]:
    # A plan that was kept has lists where a fresh one has tuples.
    if _plain(before) != _plain(after):
        yield f"{name}: was {_shown(before)}, is {_shown(after)}"


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _shown(value: Any) -> str:
    if value is None or value in ((), [], {}, ""):
        return "nothing"
    text = _some(value) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _some(names: Sequence[Any]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(str(name) for name in names[:_NAMED]) + more
