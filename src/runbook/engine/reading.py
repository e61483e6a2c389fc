"""Reads a playbook: all of its mistakes at once, or steps whose verbs and names are known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from runbook.engine import conditions
from runbook.model.document import Document, Problem, nearest
from runbook.model.errors import InvalidDocument, UsageError
from runbook.model.parameters import parse
from runbook.model.playbook import Parameter, PlaybookFrame, StepFrame
from runbook.model.step import StepType
from runbook.model.templates import placeholders
from runbook.model.validation import problem_at, problem_at_key, problems_of, validate

_FRAME = frozenset(StepFrame.model_fields)


@dataclass(frozen=True, kw_only=True)
class RawStep:
    """One step as written, split into its frame and its verb."""

    index: int
    frame: StepFrame
    verb: StepType
    args: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Playbook:
    """A playbook that can be read; its arguments are filled in when it is planned."""

    document: Document
    frame: PlaybookFrame
    steps: tuple[RawStep, ...]

    @property
    def name(self) -> str:
        """The playbook's own name."""
        return self.frame.name


@dataclass
class Problems:
    """Problems collected on the way, so that all of them are told at once."""

    problems: list[Problem] = field(default_factory=list)

    def raise_if_any(self) -> None:
        """End the reading when something is wrong."""
        if self.problems:
            raise InvalidDocument(self.problems)


def read_playbook(document: Document, steps: Mapping[str, StepType]) -> Playbook:
    """Return a playbook with its steps' verbs and names checked.

    Raises:
        InvalidDocument: with every problem that can be seen without an inventory.
    """
    frame = validate(PlaybookFrame, document)
    found = Problems()
    _check_parameters(document, frame, found)
    read = [_read_step(document, i, raw, steps, found) for i, raw in enumerate(frame.steps)]
    found.raise_if_any()
    whole = tuple(step for step in read if step is not None)
    playbook = Playbook(document=document, frame=frame, steps=whole)
    _check_names(playbook, found)
    _check_static_args(playbook, found)
    found.raise_if_any()
    return playbook


def _check_parameters(document: Document, frame: PlaybookFrame, found: Problems) -> None:
    for name, spec in frame.parameters.items():
        for key in ("min", "max", "default"):
            value = getattr(spec, key)
            if value is None:
                continue
            try:
                parse(name, spec if key == "default" else _unbounded(spec), value)
            except UsageError as error:
                path = ("parameters", name, key)
                found.problems.append(problem_at(document, path, error.message, error.hint))


def _unbounded(spec: Parameter) -> Parameter:
    return spec.model_copy(update={"min": None, "max": None})


def _read_step(
    document: Document,
    index: int,
    raw: Mapping[str, Any],
    steps: Mapping[str, StepType],
    found: Problems,
) -> RawStep | None:
    path = ("steps", index)
    verbs = [key for key in raw if key not in _FRAME]
    unknown = [key for key in verbs if key not in steps]
    for key in unknown:
        near = nearest(key, [*steps, *_FRAME])
        hint = f"did you mean {near!r}?" if near else f"verbs: {', '.join(sorted(steps))}"
        message = f"{key!r} is neither a verb nor a key of a step"
        found.problems.append(problem_at_key(document, (*path, key), message, hint))
    if len(verbs) != 1 and not unknown:
        said = f"it has {', '.join(verbs)}" if verbs else "it has none"
        message = f"a step has exactly one verb; {said}"
        hint = f"verbs: {', '.join(sorted(steps))}"
        found.problems.append(problem_at(document, path, message, hint))
    try:
        frame = StepFrame.model_validate({k: v for k, v in raw.items() if k in _FRAME})
    except ValidationError as error:
        found.problems += problems_of(error, StepFrame, document, path)
        return None
    if len(verbs) != 1 or unknown:
        return None
    args = raw[verbs[0]] if raw[verbs[0]] is not None else {}
    if not isinstance(args, dict):
        message = f"{verbs[0]!r} takes a mapping of arguments"
        found.problems.append(problem_at(document, (*path, verbs[0]), message, None))
        return None
    return RawStep(index=index, frame=frame, verb=steps[verbs[0]], args=args)


def _check_names(playbook: Playbook, found: Problems) -> None:
    """Names must be unique, placeholders and conditions may use only what is known by then."""
    keys: set[str] = set()
    saved: dict[str, str] = {}
    params = {f"params.{n}": spec.type for n, spec in playbook.frame.parameters.items()}
    for step in playbook.steps:
        path = ("steps", step.index)
        key = slug(step.frame.name)
        if key in keys:
            message = f"two steps are named {step.frame.name!r}"
            hint = "results are kept by name: give each its own"
            found.problems.append(problem_at(playbook.document, (*path, "name"), message, hint))
        keys.add(key)
        if step.frame.when is not None:
            names = {**params, **saved, "target": "string"}
            _check_condition(playbook, step, names, found)
        if step.frame.save is not None:
            saved[f"steps.{step.frame.save}"] = "dyn"


def _check_condition(
    playbook: Playbook, step: RawStep, names: Mapping[str, str], found: Problems
) -> None:
    try:
        # Values are checked as dynamic: a plan keeps durations and percentages as written.
        conditions.check(str(step.frame.when), {name: _loose(kind) for name, kind in names.items()})
    except UsageError as error:
        path = ("steps", step.index, "when")
        found.problems.append(problem_at(playbook.document, path, error.message, error.hint))


def _loose(kind: str) -> str:
    return kind if kind in {"int", "bool", "string"} else "dyn"


def _check_static_args(playbook: Playbook, found: Problems) -> None:
    """Check arguments that hang on no parameter, and that placeholders name known things."""
    known = {"target"} | {f"params.{name}" for name in playbook.frame.parameters}
    for step in playbook.steps:
        path = ("steps", step.index, step.verb.verb)
        for where, name in _placeholders(step.args, path):
            if name in known or name.startswith("host."):
                continue
            near = nearest(name, sorted(known))
            hint = f"did you mean ${{{near}}}?" if near else f"known: {', '.join(sorted(known))}"
            message = f"${{{name}}} is not known"
            found.problems.append(problem_at(playbook.document, where, message, hint))
        try:
            step.verb.args.model_validate(dict(step.args))
        except ValidationError as error:
            # What a placeholder brings is checked when a plan is made.
            found.problems += problems_of(
                error, step.verb.args, playbook.document, path, keep=_is_literal
            )


def _is_literal(value: Any) -> bool:
    return not (isinstance(value, str) and placeholders(value))


def _placeholders(
    value: Any, path: tuple[str | int, ...]
) -> list[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        return [(path, name) for name in placeholders(value)]
    if isinstance(value, Mapping):
        return [hit for k, v in value.items() for hit in _placeholders(v, (*path, k))]
    if isinstance(value, list | tuple):
        return [hit for i, v in enumerate(value) for hit in _placeholders(v, (*path, i))]
    return []


def slug(name: str) -> str:
    """Return a step's name as a key: lower case, words joined by dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "step"
