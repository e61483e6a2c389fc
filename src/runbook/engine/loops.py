"""`for_each`: the items of a step, fixed when the plan is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook.engine.names import item_slug
from runbook.engine.written import Playbook, Problems, RawStep
from runbook.model.fleet import Fleet
from runbook.model.templates import expand

#: More items than this are hosts, and those belong into a selector.
MOST_ITEMS = 1_000


def items_of(
    step: RawStep, params: Mapping[str, Any], fleet: Fleet, playbook: Playbook, found: Problems
) -> tuple[Any, ...]:
    """Return a step's items; (None,) for a step without a loop, () where there is a mistake.

    A parameter of type hosts gives the names of the hosts that it selects.
    """
    items, path = step.frame.for_each, (*step.path, "for_each")
    if items is None:
        return (None,)
    if isinstance(items, str):
        items = _from_parameter(items, params, fleet, playbook)
        if items is None:
            hint = "give it with -p, or give it a default"
            found.at(playbook.document, path, "the list to loop over is null", hint)
            return ()
    problem = _twice(items)
    if not items or len(items) > MOST_ITEMS:
        problem = f"a loop has 1 to {MOST_ITEMS:,} items, not {len(items):,}"
    if problem is not None:
        found.at(playbook.document, path, problem)
        return ()
    return items


def _from_parameter(
    text: str, params: Mapping[str, Any], fleet: Fleet, playbook: Playbook
) -> tuple[Any, ...] | None:
    value = expand(text, {"params": params})
    name = text.strip("${} ").removeprefix("params.")
    if value is not None and playbook.frame.parameters[name].type == "hosts":
        return fleet.select(value)
    return None if value is None else tuple(value)


def _twice(items: tuple[Any, ...]) -> str | None:
    """Results are kept by item: two that are one key would be one item done twice."""
    seen: dict[str, Any] = {}
    for item in items:
        key = item_slug(item)
        if key in seen:
            return f"{item!r} and {seen[key]!r} are one item: both have the key {key!r}"
        seen[key] = item
    return None
