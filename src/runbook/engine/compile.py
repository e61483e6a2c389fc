"""Compiles a playbook: all of its mistakes at once, or a frozen plan. Nothing acts before this."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from runbook.engine import conditions
from runbook.engine.decide import CURRENT
from runbook.model.document import Document, Problem, nearest
from runbook.model.errors import InvalidDocument, UsageError
from runbook.model.fleet import Fleet
from runbook.model.inventory import Closed
from runbook.model.parameters import parse, resolve
from runbook.model.plan import Node, Plan
from runbook.model.playbook import Parameter, PlaybookFrame, StepFrame
from runbook.model.step import StepType
from runbook.model.templates import expand_all, placeholders
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
class _Findings:
    """Problems collected on the way, so that all of them are told at once."""

    problems: list[Problem] = field(default_factory=list)

    def raise_if_any(self) -> None:
        if self.problems:
            raise InvalidDocument(self.problems)


def read_playbook(document: Document, steps: Mapping[str, StepType]) -> Playbook:
    """Return a playbook with its steps' verbs and names checked.

    Raises:
        InvalidDocument: with every problem that can be seen without an inventory.
    """
    frame = validate(PlaybookFrame, document)
    found = _Findings()
    _check_parameters(document, frame, found)
    read = [_read_step(document, i, raw, steps, found) for i, raw in enumerate(frame.steps)]
    found.raise_if_any()
    whole = tuple(step for step in read if step is not None)
    playbook = Playbook(document=document, frame=frame, steps=whole)
    _check_names(playbook, found)
    _check_static_args(playbook, found)
    found.raise_if_any()
    return playbook


def make_plan(
    playbook: Playbook,
    *,
    fleet: Fleet,
    target: str | None,
    given: Mapping[str, Any],
    rehearsal: bool,
) -> Plan:
    """Return the frozen plan: parameters, targets, batches, bounds all decided.

    Raises:
        UsageError: for a target or a parameter that does not fit.
        InvalidDocument: when a step's arguments do not fit once they are filled in.
    """
    _check_target(playbook, fleet, target)
    params = resolve(playbook.frame.parameters, given, playbook.name)
    found = _Findings()
    nodes = [_node(playbook, step, fleet, target, params, found) for step in playbook.steps]
    found.raise_if_any()
    return Plan(
        engine=CURRENT,
        playbook=playbook.name,
        target=target,
        params=params,
        nodes=tuple(node for node in nodes if node is not None),
        rehearsal=rehearsal,
    )


def _check_parameters(document: Document, frame: PlaybookFrame, found: _Findings) -> None:
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
    found: _Findings,
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


def _check_names(playbook: Playbook, found: _Findings) -> None:
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
    playbook: Playbook, step: RawStep, names: Mapping[str, str], found: _Findings
) -> None:
    try:
        # Values are checked as dynamic: a plan keeps durations and percentages as written.
        conditions.check(str(step.frame.when), {name: _loose(kind) for name, kind in names.items()})
    except UsageError as error:
        path = ("steps", step.index, "when")
        found.problems.append(problem_at(playbook.document, path, error.message, error.hint))


def _loose(kind: str) -> str:
    return kind if kind in {"int", "bool", "string"} else "dyn"


def _check_static_args(playbook: Playbook, found: _Findings) -> None:
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


def _placeholders(value: Any, path: tuple[str | int, ...]) -> list[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        return [(path, name) for name in placeholders(value)]
    if isinstance(value, Mapping):
        return [hit for k, v in value.items() for hit in _placeholders(v, (*path, k))]
    if isinstance(value, list | tuple):
        return [hit for i, v in enumerate(value) for hit in _placeholders(v, (*path, i))]
    return []


def _check_target(playbook: Playbook, fleet: Fleet, target: str | None) -> None:
    kind = playbook.frame.target.kind
    if kind == "none":
        if target is not None:
            raise UsageError(f"playbook {playbook.name} takes no target, but got {target!r}")
        return
    if target is None:
        raise UsageError(
            f"playbook {playbook.name} needs a target: a {kind.removesuffix('s')}",
            hint=f"runbook run {playbook.name} TARGET; `runbook inventory list` shows them",
        )
    if kind == "database":
        fleet.database(target)
    elif kind == "service":
        fleet.service(target)
    else:
        _check_count(playbook, len(fleet.select(target)), target)


def _check_count(playbook: Playbook, count: int, target: str) -> None:
    low, high = playbook.frame.target.min or 1, playbook.frame.target.max
    if count < low or (high is not None and count > high):
        raise UsageError(
            f"{target!r} selects {count} hosts; {playbook.name} allows {low} to {high or 'any'}",
            hint="narrow the selector, or change target.max in the playbook",
        )


def _node(
    playbook: Playbook,
    step: RawStep,
    fleet: Fleet,
    target: str | None,
    params: Mapping[str, Any],
    found: _Findings,
) -> Node | None:
    path = ("steps", step.index, step.verb.verb)
    try:
        filled = expand_all(_keep_host(step.args), {"target": target, "params": params})
        args = step.verb.args.model_validate(_without_none(_restore_host(filled)))
        return _freeze(step, args, fleet)
    except ValidationError as error:
        found.problems += problems_of(error, step.verb.args, playbook.document, path)
    except InvalidDocument:
        raise
    except UsageError as error:
        found.problems.append(problem_at(playbook.document, path, error.message, error.hint))
    return None


def _freeze(step: RawStep, args: Closed, fleet: Fleet) -> Node:
    verb = step.verb
    return Node(
        key=slug(step.frame.name),
        name=step.frame.name,
        verb=verb.verb,
        args=args.model_dump(mode="json"),
        changes=verb.changes(args),
        flow=verb.flow,
        targets=verb.targets(args, fleet),
        when=step.frame.when,
        save=step.frame.save,
        timeout_s=step.frame.timeout or verb.default_timeout_s,
        after_crash=verb.after_crash,
        lock=verb.lock(args),
        **verb.freeze(args, fleet),
    )


_HOST = re.compile(r"\$\{(\s*host\.[^{}]*)\}")
_KEPT = re.compile(r"\$\x00(\s*host\.[^{}\x00]*)\x00")


def _keep_host(value: Any) -> Any:
    """Hide `${host.…}` from expansion: it is filled in for each host, by the step."""
    return _replace(value, _HOST, "$\x00\\1\x00")


def _restore_host(value: Any) -> Any:
    return _replace(value, _KEPT, "${\\1}")


def _replace(value: Any, pattern: re.Pattern[str], by: str) -> Any:
    if isinstance(value, str):
        return pattern.sub(by, value)
    if isinstance(value, Mapping):
        return {key: _replace(item, pattern, by) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace(item, pattern, by) for item in value]
    return value


def _without_none(value: Any) -> Any:
    """A parameter that is null leaves the key out: the verb's own default holds."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


def slug(name: str) -> str:
    """Return a step's name as a key: lower case, words joined by dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "step"
