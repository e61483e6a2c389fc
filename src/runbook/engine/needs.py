"""`needs`: what must hold before a playbook may begin: a version, reachable hosts, roles."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from runbook import __version__
from runbook.engine.written import Playbook, RawStep
from runbook.model.document import Document, Problem
from runbook.model.errors import UsageError
from runbook.model.fleet import Fleet
from runbook.model.playbook import Needs, StepFrame
from runbook.model.step import StepType
from runbook.model.validation import problem_at

_PART = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*(\d{1,6}(?:\.\d{1,6}){0,3})\s*")
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def too_old(document: Document, version: str = __version__) -> Problem | None:
    """Return the problem of a playbook that is written for another runbook than this.

    It is looked at before anything else: what else is wrong may be right in that version.
    """
    needs = document.value.get("needs") if isinstance(document.value, dict) else None
    wanted = needs.get("runbook") if isinstance(needs, dict) else None
    if not isinstance(wanted, str):
        return None
    path = ("needs", "runbook")
    parts = [_PART.fullmatch(part) for part in wanted.split(",")]
    if not all(parts):
        hint = "as in: >=0.2 or >=0.2, <2"
        return problem_at(document, path, f"{wanted!r:.60} is no version of runbook", hint)
    have = _numbers(version)
    if all(_COMPARE[part[1]](have, _numbers(part[2])) for part in parts if part):
        return None
    message = f"this playbook needs runbook {wanted}; this one is {version}"
    return problem_at(document, path, message, "use another version of runbook")


def looks(needs: Needs, verbs: Mapping[str, StepType]) -> tuple[RawStep, ...]:
    """Return the steps that look whether hosts answer and roles are held, made of known verbs."""
    found: list[RawStep] = []
    if needs.hosts is not None:
        # The least that proves a login and a working shell on the other side.
        args = {"hosts": needs.hosts, "argv": ["true"], "read_only": True}
        found.append(_look("hosts", "command", args, verbs))
    if needs.grants:
        found.append(_look("grants", "grants", {"roles": list(needs.grants)}, verbs))
    return tuple(found)


def _look(key: str, verb: str, args: Mapping[str, Any], verbs: Mapping[str, StepType]) -> RawStep:
    return RawStep(
        path=("needs", key),
        frame=StepFrame(name=f"needs {key}"),
        verb=verbs[verb],
        args=args,
        # Outside of what a slug can be: no step of the playbook can have it.
        own_key=f"needs:{key}",
    )


def needed(playbook: Playbook, target: str | None, fleet: Fleet) -> Iterator[RawStep]:
    """Yield a playbook's looks, pointed at the database that its target stands for.

    Raises:
        UsageError: when the target is a service without a database.
    """
    for step in playbook.needs:
        if step.own_key != "needs:grants" or target is None:
            yield step
            continue
        database = target
        if playbook.frame.target.kind == "service":
            database = fleet.service(target).database or ""
            if not database:
                raise UsageError(
                    f"{playbook.name} needs grants, and {target} names no database",
                    hint=f"say it in the inventory: services.{target}.database",
                )
        yield replace(step, args={"database": database, **step.args})


def _numbers(version: str) -> tuple[int, ...]:
    """`0.2` is `0.2.0.0`; what follows the numbers (`rc1`) is left aside."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    return tuple([*numbers, 0, 0, 0, 0][:4])
