"""Makes a playbook's frozen plan: parameters, targets, batches, bounds; nothing acts before."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from runbook.engine.decide import CURRENT
from runbook.engine.reading import Playbook, Problems, RawStep, slug
from runbook.model.errors import InvalidDocument, UsageError
from runbook.model.fleet import Fleet
from runbook.model.inventory import Closed
from runbook.model.parameters import resolve
from runbook.model.plan import Node, Plan
from runbook.model.step import Bound
from runbook.model.templates import Scope, expand_all
from runbook.model.validation import problems_of


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
    found = Problems()
    scope = {"target": target, "params": params}
    bounds: list[Bound] = []
    nodes = [_node(playbook, step, fleet, scope, found, bounds) for step in playbook.steps]
    found.raise_if_any()
    _check_bounds(bounds)
    return Plan(
        engine=CURRENT,
        playbook=playbook.name,
        target=target,
        params=params,
        nodes=tuple(node for node in nodes if node is not None),
        rehearsal=rehearsal,
    )


def _check_target(playbook: Playbook, fleet: Fleet, target: str | None) -> None:
    kind = playbook.frame.target.kind
    if kind == "none":
        if target is not None:
            raise UsageError(f"playbook {playbook.name} takes no target, but got {target!r}")
        return
    if target is None:
        raise UsageError(
            f"playbook {playbook.name} needs a target: a {kind.removesuffix('s')}",
            hint="name it after the playbook; `runbook inventory list` shows them",
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


def _check_bounds(bounds: list[Bound]) -> None:
    """A bound holds for the run: two steps must not each take the whole of it."""
    taken: dict[str, int] = {}
    for bound in bounds:
        taken[bound.of] = taken.get(bound.of, 0) + bound.takes
        if taken[bound.of] > bound.most:
            raise UsageError(
                f"the steps together may take {taken[bound.of]} {bound.of}; no run may take more"
                f" than {bound.most}",
                hint=bound.hint,
            )


def _node(  # noqa: PLR0917
    playbook: Playbook,
    step: RawStep,
    fleet: Fleet,
    scope: Scope,
    found: Problems,
    bounds: list[Bound],
) -> Node | None:
    path = ("steps", step.index, step.verb.verb)
    try:
        filled = expand_all(_keep_host(step.args), scope)
        args = step.verb.args.model_validate(_without_none(_restore_host(filled)))
        bound = step.verb.bound(args, fleet)
        bounds += [] if bound is None else [bound]
        return _freeze(step, args, fleet)
    except ValidationError as error:
        found.problems += problems_of(error, step.verb.args, playbook.document, path)
    except InvalidDocument:
        raise
    except UsageError as error:
        # Names and selections that were given for this run, not mistakes of the playbook's text.
        raise UsageError(f"{step.frame.name}: {error.message}", hint=error.hint) from None
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
