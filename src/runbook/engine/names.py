"""The names that steps use: unique, known, and known early enough."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pydantic import ValidationError

from runbook.engine import conditions
from runbook.engine.written import Included, Playbook, Problems, RawStep
from runbook.model.document import Document, DocumentPath, nearest
from runbook.model.errors import UsageError
from runbook.model.inventory import Closed
from runbook.model.pool_sizes import FIELDS
from runbook.model.step import NEVER_PASTED
from runbook.model.templates import placeholders
from runbook.model.validation import problems_of

#: A parameter's type -> its type in a condition; a plan keeps durations and percentages as
#: written, and what is null has no type: the rest is dynamic.
_CEL = {"int": "int", "bool": "bool", "string": "string"}
#: Types of parameters whose value is a list, or stands for one.
LISTS = frozenset({"strings", "durations", "amounts", "hosts", "services", "pools"})
_SHOWN = 8
#: A plan of more steps than this is a mistake (includes of includes multiply): nobody could read
#: what they confirm.
MOST_NODES = 5_000


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a step may name."""

    params: Mapping[str, str]
    #: Names under which steps before it keep their results.
    saved: frozenset[str]
    #: Names that steps further down keep: known, and too early.
    later: frozenset[str]
    item: bool
    #: What an item has, where it is more than one value: `${item.size}`.
    fields: tuple[str, ...] = ()

    def conditions(self) -> dict[str, str]:
        """Return the names of a condition, with their types."""
        names = {f"params.{name}": _CEL.get(kind, "dyn") for name, kind in self.params.items()}
        names |= {f"steps.{name}": "dyn" for name in self.saved}
        return {**names, "target": "string", **({"item": "dyn"} if self.item else {})}

    def values(self) -> set[str]:
        """Return the names of values that are known when a plan is made."""
        names = {"target", *(f"params.{name}" for name in self.params)}
        if self.fields:
            return names | {f"item.{name}" for name in self.fields}
        return names | ({"item"} if self.item else set())


def check_names(playbook: Playbook, found: Problems) -> None:
    """Check a playbook's names, conditions and arguments."""
    params = {name: spec.type for name, spec in playbook.frame.parameters.items()}
    _check_keys(playbook, found)
    _check_needs(playbook, params, found)
    everything = frozenset(s.frame.save for s, _ in playbook.all_steps() if s.frame.save)
    for step, saved in _in_order(playbook):
        if found.too_many:
            return
        known = Known(
            params=params,
            saved=saved,
            later=everything - saved,
            item=step.frame.for_each is not None,
            fields=_fields(step, params),
        )
        _check_step(playbook.document, step, known, found)
    _check_saves(playbook, found)


def _fields(step: RawStep, params: Mapping[str, str]) -> tuple[str, ...]:
    items = step.frame.for_each
    names = placeholders(items) if isinstance(items, str) else ()
    return FIELDS if any(params.get(n.removeprefix("params.")) == "pools" for n in names) else ()


def _in_order(playbook: Playbook) -> Iterator[tuple[RawStep, frozenset[str]]]:
    """Yield every step with the names that are saved before it.

    What a failure step keeps is known in its own list alone: it may never have run.
    """
    saved: set[str] = set()
    for step in playbook.steps:
        yield step, frozenset(saved)
        if step.frame.save:
            saved.add(step.frame.save)
        yield from _listed(step.on_failure, saved)
    yield from _listed(playbook.always, saved)


def _listed(
    steps: tuple[RawStep, ...], before: set[str]
) -> Iterator[tuple[RawStep, frozenset[str]]]:
    saved = set(before)
    for step in steps:
        yield step, frozenset(saved)
        if step.frame.save:
            saved.add(step.frame.save)


def _check_keys(playbook: Playbook, found: Problems) -> None:
    seen: dict[str, str] = {}
    for step, _ in playbook.all_steps():
        key = step.key
        if key in seen:
            message = f"two steps are named {step.frame.name!r}"
            if seen[key] != step.frame.name:
                message = f"{step.frame.name!r} and {seen[key]!r} are one name: {key}"
            hint = "results are kept by name: give each its own"
            found.at(playbook.document, (*step.path, "name"), message, hint)
        seen.setdefault(key, step.frame.name)


def _check_saves(playbook: Playbook, found: Problems) -> None:
    seen: set[str] = set()
    for step, _ in playbook.all_steps():
        name = step.frame.save
        if name is not None and name in seen:
            message = f"two steps save their result as {name!r}"
            found.at(playbook.document, (*step.path, "save"), message, "give each its own name")
        seen |= {name} if name else set()


def _check_needs(playbook: Playbook, params: Mapping[str, str], found: Problems) -> None:
    needs, document = playbook.frame.needs, playbook.document
    kind = playbook.frame.target.kind
    if needs.grants and kind not in {"database", "service"}:
        message = "grants are looked for on the target's database, and this one takes none"
        hint = "as in: target: {kind: database}"
        found.at(document, ("needs", "grants"), message, hint)
    known = Known(params=params, saved=frozenset(), later=frozenset(), item=False)
    _check_fixed(document, ("needs", "hosts"), needs.hosts or "", known, found)


def _check_step(document: Document, step: RawStep, known: Known, found: Problems) -> None:
    names = known.conditions()
    if step.frame.when is not None:
        _check_condition(document, (*step.path, "when"), step.frame.when, names, found)
    retry = step.frame.retry
    if retry is not None and retry.until is not None:
        path = (*step.path, "retry", "until")
        _check_condition(document, path, retry.until, {"result": "dyn"}, found)
    if step.frame.confirm is not None:
        path = (*step.path, "confirm")
        _check_fixed(document, path, step.frame.confirm, known, found)
    _check_loop(document, step, known, found)
    if step.include is not None:
        _check_include(document, step, step.include, known, found)
    elif step.verb is not None:
        _check_args(document, step, step.verb.args, known, found)


def _check_condition(
    document: Document,
    path: DocumentPath,
    expression: str,
    names: Mapping[str, str],
    found: Problems,
) -> None:
    # Hundreds of names are slow to declare, and a condition is about a few of them.
    few = {name: kind for name, kind in names.items() if name in expression}
    try:
        conditions.check(expression, few)
    except UsageError:
        _check_condition_among(document, path, expression, names, found)


def _check_condition_among(
    document: Document,
    path: DocumentPath,
    expression: str,
    names: Mapping[str, str],
    found: Problems,
) -> None:
    """Say what is wrong with a condition, and all that it may use."""
    try:
        conditions.check(expression, names)
    except UsageError as error:
        found.at(document, path, error.message, error.hint)


def _check_loop(document: Document, step: RawStep, known: Known, found: Problems) -> None:
    items, path = step.frame.for_each, (*step.path, "for_each")
    if isinstance(items, str):
        name = placeholders(items)[0].removeprefix("params.")
        kind = known.params.get(name)
        if kind is None:
            _unknown(document, path, f"params.{name}", known, found)
        elif kind not in LISTS:
            message = f"${{params.{name}}} is no list: it is of type {kind}"
            found.at(document, path, message, f"lists are {', '.join(sorted(LISTS))}")
    elif items is not None:
        slugs: dict[str, Any] = {}
        for index, item in enumerate(items):
            key = item_slug(item)
            if key in slugs:
                message = f"{item!r} and {slugs[key]!r} are one item: both have the key {key!r}"
                found.at(document, (*path, index), message, "leave one of them out")
            slugs.setdefault(key, item)


def _check_fixed(
    document: Document, path: DocumentPath, value: Any, known: Known, found: Problems
) -> None:
    """Check what is filled in when the plan is made: no result and no host is known by then."""
    for where, name in _placeholders(value, path):
        if name in known.values():
            continue
        if name.split(".")[0] in {"host", "steps"}:
            message = f"${{{name}}} is not known yet where the plan is made"
            listing = ", ".join(sorted(known.values()))
            found.at(document, where, message, f"here may stand: {listing}")
        else:
            _unknown(document, where, name, known, found)


def _check_include(
    document: Document, step: RawStep, include: Included, known: Known, found: Problems
) -> None:
    path = (*step.path, "include")
    spec, inner = include.spec, include.playbook.frame
    _check_fixed(document, (*path, "parameters"), spec.parameters, known, found)
    _check_fixed(document, (*path, "target"), spec.target, known, found)
    for name in spec.parameters:
        if name not in inner.parameters:
            near = nearest(name, list(inner.parameters))
            listing = ", ".join(inner.parameters) or "none"
            hint = f"did you mean {near!r}?" if near else f"it takes: {listing}"
            message = f"playbook {inner.name} has no parameter {name!r}"
            found.at_key(document, (*path, "parameters", name), message, hint)
    missing = [n for n, p in inner.parameters.items() if p.required and n not in spec.parameters]
    if missing:
        message = f"playbook {inner.name} needs the parameter {missing[0]!r}"
        found.at(document, path, message, f"add it under parameters: {{{missing[0]}: …}}")


def _check_args(
    document: Document, step: RawStep, model: type[Closed], known: Known, found: Problems
) -> None:
    """Check arguments that hang on no parameter, and that placeholders name known things."""
    path = step.args_path
    literal = _check_literal(document, step, found)
    for where, name in _placeholders(step.args, path):
        if where[: len(path) + 1] in literal:
            continue
        first = name.split(".")[0]
        if name in known.values() or first == "host":
            continue
        saved = step_name(name)
        if first == "steps" and saved in known.saved and saved != name.removeprefix("steps."):
            continue
        _unknown(document, where, name, known, found)
    try:
        model.model_validate({**step.args, **step.contents})
    except ValidationError as error:
        # What a placeholder brings is checked when a plan is made.
        found.problems += problems_of(error, model, document, path, keep=_is_literal)


def _check_literal(document: Document, step: RawStep, found: Problems) -> set[DocumentPath]:
    """Refuse `${…}` where an interpreter would read the value as its own text."""
    hit: set[DocumentPath] = set()
    for key in step.verb.literal if step.verb else ():
        text, where = step.args.get(key), (*step.args_path, key)
        if isinstance(text, str) and "${" in text:
            found.at(document, where, f"{key!r} holds ${{…}}", NEVER_PASTED)
            hit.add(where)
    return hit


def _unknown(
    document: Document, where: DocumentPath, name: str, known: Known, found: Problems
) -> None:
    saved = step_name(name)
    if saved in known.saved:
        message = f"${{{name}}} is the whole result of a step"
        hint = f"name what of it, as in: ${{steps.{saved}.status}}"
    elif saved is not None and saved in known.later:
        message = f"${{{name}}} is not known here"
        hint = f"the step that saves {saved!r} comes later, or may never have run"
    else:
        names = sorted(known.values() | {f"steps.{s}" for s in known.saved})
        near = nearest(f"steps.{saved}" if saved else name, names)
        listing = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        message = f"${{{name:.80}}} is not known"
        hint = f"did you mean ${{{near}}}?" if near else f"known: {listing}"
    found.at(document, where, message, hint)


def _is_literal(kind: str, value: Any) -> bool:
    """Whether a complaint is about what is written here, not about a placeholder."""
    return kind in {"extra_forbidden", "missing"} or not _placeholders(value, ())


def _placeholders(value: Any, path: DocumentPath) -> list[tuple[DocumentPath, str]]:
    if isinstance(value, str):
        return [(path, name) for name in placeholders(value)]
    if isinstance(value, Mapping):
        return [hit for k, v in value.items() for hit in _placeholders(v, (*path, k))]
    if isinstance(value, list | tuple):
        return [hit for i, v in enumerate(value) for hit in _placeholders(v, (*path, i))]
    return []


def step_name(name: str) -> str | None:
    """Return the NAME of `steps.NAME.…`, or None for any other dotted name."""
    parts = name.replace("[", ".").split(".")
    return parts[1] if parts[0] == "steps" and len(parts) > 1 else None


def names_in_args(args: Mapping[str, Any]) -> list[tuple[DocumentPath, str]]:
    """Return where arguments name a result of another step, and which step's."""
    named = [(path, step_name(name)) for path, name in _placeholders(args, ())]
    return [(path, name) for path, name in named if name is not None]


_STEPS = re.compile(r"(?<![\w.])steps\.([a-z][a-z0-9_]*)")


def names_in_condition(expression: str | None) -> list[str]:
    """Return the steps whose results a condition names."""
    return _STEPS.findall(expression or "")


def used_names(step: RawStep) -> tuple[str, ...]:
    """Return the steps whose results a step names."""
    named = [name for _, name in names_in_args(step.args)]
    return tuple(dict.fromkeys([*names_in_condition(step.frame.when), *named]))


def item_label(item: Any) -> Any:
    """Return what an item is called: of a pool's sizes, the service; else the item itself."""
    return item["service"] if isinstance(item, Mapping) else item


def item_slug(item: Any) -> str:
    """Return an item of a loop as it stands in keys: `drain-caches[redis-1]`."""
    item = item_label(item)
    word = str(item).lower() if isinstance(item, bool) else str(item)
    return re.sub(r"[^a-z0-9._:-]+", "-", word.lower()).strip("-") or "item"


# ---- order -----------------------------------------------------------------------------------


def changes(step: RawStep) -> bool | None:
    """Return whether a step changes something; None while that hangs on a parameter."""
    if step.verb is None:
        return None
    flags = {n for n, f in step.verb.args.model_fields.items() if f.annotation is bool}
    if any(placeholders(str(step.args.get(flag, ""))) for flag in flags):
        return None
    try:
        return bool(step.verb.changes(step.verb.args.model_construct(**step.args)))
    except Exception:  # noqa: BLE001 - arguments that hang on placeholders: the plan will know
        return None


def check_order(playbook: Playbook, found: Problems) -> None:
    """Check that no change hangs on what is known only after the first change.

    All changes are prepared, shown and confirmed before the first of them is made; so they may
    name only looks that come before it.
    """
    guard = OrderGuard(found)
    for document, step, scope in islice(_flat(playbook, ""), MOST_NODES):
        guard.see(document, step, scope, changes(step))


def _flat(playbook: Playbook, scope: str) -> Iterator[tuple[Document, RawStep, str]]:
    for step, _ in playbook.all_steps():
        if step.include is not None:
            inner = f"{scope}.{step.key}".lstrip(".")
            yield from _flat(step.include.playbook, inner)
        else:
            yield playbook.document, step, scope


class OrderGuard:
    """Sees the steps of a plan in their order, and which of them are looks before any change."""

    def __init__(self, found: Problems) -> None:
        self._found = found
        self._early: set[tuple[str, str]] = set()
        self._first_change: str | None = None

    def see(self, document: Document, step: RawStep, scope: str, changing: bool | None) -> None:
        """Check the next step; `changing` is None while nobody knows."""
        for path, name in names_in_args(step.args) if changing else ():
            if (scope, name) in self._early or self._found.too_many:
                continue
            message = (
                f"{step.frame.name!r} changes something, and may only name steps that look and"
                f" come before the first change; steps.{name} is no such step"
            )
            hint = (
                f"every change is shown before {self._first_change!r} is made: look first, or use"
                " `when`, which is asked in its turn"
            )
            if self._first_change is None:
                hint = "what a change comes to is not known when all changes are shown"
            self._found.at(document, (*step.args_path, *path), message, hint)
        if changing and self._first_change is None:
            self._first_change = step.frame.name
        if changing is not True and self._first_change is None and step.frame.save:
            self._early.add((scope, step.frame.save))
