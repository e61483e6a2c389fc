"""Makes a playbook's frozen plan: parameters, targets, batches, bounds; nothing acts before."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from runbook.engine.decide import CURRENT
from runbook.engine.loops import items_of
from runbook.engine.names import (
    MOST_NODES,
    OrderGuard,
    item_label,
    item_slug,
    names_in_condition,
    used_names,
)
from runbook.engine.needs import needed
from runbook.engine.subjects import subjects
from runbook.engine.tagging import Made, chosen
from runbook.engine.written import Included, Playbook, Problems, RawStep
from runbook.model.document import DocumentPath
from runbook.model.errors import InvalidDocument, UsageError
from runbook.model.fleet import Fleet
from runbook.model.inventory import Closed
from runbook.model.parameters import resolve
from runbook.model.plan import AfterCrash, Node, Plan, Retry, Role
from runbook.model.step import Bound, StepType
from runbook.model.templates import expand, expand_all, placeholders
from runbook.model.validation import problems_of

_FROM_STEPS = re.compile(r"\$\{\s*(steps\.[^{}]*?)\s*\}")


def make_plan(
    playbook: Playbook,
    *,
    fleet: Fleet,
    target: str | None,
    given: Mapping[str, Any],
    rehearsal: bool,
    tags: Sequence[str] = (),
    skip_tags: Sequence[str] = (),
    limit: str | None = None,
) -> Plan:
    """Return the frozen plan: parameters, targets, batches, bounds all decided.

    `tags` and `skip_tags` choose among the steps; `limit` is a selector that narrows every
    selection of hosts.

    Raises:
        UsageError: for a target, a parameter, a tag or a limit that does not fit.
        InvalidDocument: when a step's arguments do not fit once they are filled in.
    """
    fleet = fleet if limit is None else fleet.limited(limit)
    check_target(playbook, fleet, target)
    params = resolve(playbook.frame.parameters, given, playbook.name, fleet)
    planner = _Planner(fleet, Problems(first=playbook.document.source))
    planner.plan(playbook, _Place(playbook=playbook, target=target, params=params))
    planner.found.raise_if_any()
    made = chosen(planner.made, tags, skip_tags)
    _check_order(made, planner.found)
    planner.found.raise_if_any()
    _check_bounds([bound for one in made for bound in one.bounds])
    nodes = tuple(one.node for one in made)
    return Plan(
        engine=CURRENT,
        playbook=playbook.name,
        target=target,
        params=params,
        nodes=nodes,
        rehearsal=rehearsal,
        scopes=planner.scopes,
        scope_targets=planner.targets,
        subjects=subjects(nodes, fleet),
    )


# ---- target and bounds -----------------------------------------------------------------------


def check_target(playbook: Playbook, fleet: Fleet, target: str | None) -> None:
    """Look whether a playbook may be pointed at a target; None is no target.

    Raises:
        UsageError: when it may not.
    """
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


def _check_bounds(bounds: Sequence[Bound]) -> None:
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


def _check_order(made: Sequence[Made], found: Problems) -> None:
    """What the reader could not see, because it hung on a parameter, is seen here."""
    guard = OrderGuard(found)
    for one in made:
        if one.step is not None:
            guard.see(one.playbook.document, one.step, one.node.scope, one.node.changes)


# ---- nodes -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where steps stand: their scope, and what the steps that include them say of the whole."""

    playbook: Playbook
    target: str | None
    params: Mapping[str, Any]
    scope: str = ""
    #: The names of the steps that include it, as they are shown before a step's own: `relieve: `.
    title: str = ""
    also_when: tuple[tuple[str, str], ...] = ()
    also_confirm: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    continues: str | None = None
    role: Role = "main"
    of: str | None = None
    #: Names that a node's conditions use in the scopes around it, as (scope, NAME of `steps`).
    uses: tuple[tuple[str, str], ...] = ()

    def key(self, step: RawStep) -> str:
        return f"{self.scope}.{step.key}" if self.scope else step.key

    def values(self, item: Any = None) -> dict[str, Any]:
        return {"target": self.target, "params": self.params, "item": item}


@dataclass
class _Planner:
    """Turns steps into nodes, in the order of the plan; `always` ones are kept for the end."""

    fleet: Fleet
    found: Problems
    scopes: dict[str, dict[str, Any]] = field(default_factory=dict)
    targets: dict[str, str | None] = field(default_factory=dict)
    #: Looks that `needs` asks for and no condition holds back: they come first.
    first: list[Made] = field(default_factory=list)
    main: list[Made] = field(default_factory=list)
    always: list[Made] = field(default_factory=list)

    @property
    def made(self) -> list[Made]:
        return [*self.first, *self.main, *self.always]

    def plan(self, playbook: Playbook, place: _Place) -> None:
        """Plan one playbook: what it needs, its steps with their failure steps, its end."""
        for step in needed(playbook, place.target, self.fleet):
            self._step(step, place, synthetic=True)
        for step in playbook.steps:
            self._step(step, place)
            after = replace(place, role="on_failure", of=place.key(step))
            for other in step.on_failure:
                self._step(other, after)
        if place.role == "main":
            place = replace(place, role="always", also_confirm=(), continues=None)
        for step in playbook.always:
            self._step(step, place)

    def _step(self, step: RawStep, place: _Place, *, synthetic: bool = False) -> None:
        if self.found.too_many:
            return
        if step.include is not None:
            self._include(step, step.include, place)
            return
        for item in items_of(step, place.params, self.fleet, place.playbook, self.found):
            made = self._make(step, place, item, synthetic=synthetic)
            if made is not None:
                self._queue(place, synthetic=synthetic).append(made)
            if len(self.first) + len(self.main) + len(self.always) > MOST_NODES:
                raise UsageError(
                    f"the plan of {place.playbook.name} has more than {MOST_NODES:,} steps",
                    hint="loops and includes multiply: give a step more hosts, not more items",
                )

    def _queue(self, place: _Place, *, synthetic: bool) -> list[Made]:
        if place.role == "always":
            return self.always
        return self.first if synthetic and not place.also_when and not place.of else self.main

    def _include(self, step: RawStep, include: Included, place: _Place) -> None:
        key, frame = place.key(step), step.frame
        document, path = place.playbook.document, (*step.path, "include")
        inner = include.playbook
        try:
            given = expand_all(include.spec.parameters, place.values())
            target = expand_all(include.spec.target, place.values())
            check_target(inner, self.fleet, target)
            params = resolve(inner.frame.parameters, given, inner.name, self.fleet)
        except UsageError as error:
            self.found.at(document, path, error.message, error.hint)
            return
        self.scopes[key], self.targets[key] = params, target
        when = ((place.scope, frame.when),) if frame.when else ()
        confirm = ((key, self._said(frame.confirm, place)),) if frame.confirm else ()
        asks = place.role != "always"
        self.plan(
            inner,
            replace(
                place,
                playbook=inner,
                target=target,
                params=params,
                scope=key,
                title=f"{place.title}{frame.name}: ",
                also_when=(*place.also_when, *when),
                also_confirm=(*place.also_confirm, *(confirm if asks else ())),
                tags=(*place.tags, *frame.tags),
                continues=key if frame.on_failure == "continue" else place.continues,
                uses=(
                    *place.uses,
                    *((place.scope, name) for name in names_in_condition(frame.when)),
                ),
            ),
        )

    @staticmethod
    def _said(question: str, place: _Place, item: Any = None) -> str:
        return str(expand(question, place.values(item)))

    def _make(self, step: RawStep, place: _Place, item: Any, *, synthetic: bool) -> Made | None:
        if step.verb is None:
            return None
        document = place.playbook.document
        try:
            filled = expand_all(step.args, place.values(item), keep=_later)
            filled |= step.contents
            args = step.verb.args.model_validate(_without_none(filled))
            # Whom a step works on is fixed now: there, a result that is known later is a word.
            shape = step.verb.args.model_validate(_without_none(_named(filled)))
            bound = step.verb.bound(shape, self.fleet)
            node = self._node(step, step.verb, args, shape, place, item)
        except ValidationError as error:
            self.found.problems += problems_of(error, step.verb.args, document, step.args_path)
            self._tell_of_late_names(step, place, error)
            return None
        except InvalidDocument:
            raise
        except UsageError as error:
            # Names and selections that were given for this run, not mistakes of the text.
            message = f"{place.title}{step.frame.name}: {error.message}"
            raise UsageError(message, hint=error.hint) from None
        self._check_frame(step, step.verb, args, place)
        return Made(
            node=node,
            playbook=place.playbook,
            step=None if synthetic else step,
            uses=(*place.uses, *((place.scope, name) for name in used_names(step))),
            bounds=() if bound is None else (bound,),
        )

    def _node(  # noqa: PLR0917
        self,
        step: RawStep,
        verb: StepType,
        args: Closed,
        shape: Closed,
        place: _Place,
        item: Any,
    ) -> Node:
        frame, key = step.frame, place.key(step)
        looped = frame.for_each is not None
        name = f"{place.title}{frame.name}"
        targets = verb.targets(shape, self.fleet)
        self._check_limit(verb, targets)
        return Node(
            key=f"{key}[{item_slug(item)}]" if looped else key,
            name=f"{name} [{item_label(item)}]" if looped else name,
            verb=verb.verb,
            args=args.model_dump(mode="json"),
            changes=verb.changes(args),
            flow=verb.flow,
            targets=targets,
            when=frame.when,
            save=frame.save,
            timeout_s=frame.timeout or verb.default_timeout_s,
            after_crash=_after_crash(verb, args),
            lock=verb.lock(args),
            target_kind=verb.target_kind,
            scope=place.scope,
            item=item,
            loop=key if looped else None,
            role=place.role,
            of=place.of,
            on_failure="continue" if frame.on_failure == "continue" else "stop",
            retry=_retry(step),
            confirm=self._said(frame.confirm, place, item) if frame.confirm else None,
            tags=tuple(dict.fromkeys((*place.tags, *frame.tags))),
            verbatim=tuple(step.contents),
            also_when=place.also_when,
            also_confirm=place.also_confirm,
            continues=place.continues,
            **verb.freeze(shape, self.fleet),
        )

    def _check_limit(self, verb: StepType, targets: tuple[str, ...]) -> None:
        """A host that an argument names outright is no selection, and is beyond the limit too."""
        if self.fleet.limit is None or verb.target_kind != "host":
            return
        inside = set(self.fleet.select("all"))
        beyond = [target for target in targets if target not in inside]
        if beyond:
            raise UsageError(
                f"{', '.join(beyond[:4])} is beyond --limit {self.fleet.limit}",
                hint="widen the limit, or leave the step out with --skip-tags",
            )

    def _check_frame(self, step: RawStep, verb: StepType, args: Closed, place: _Place) -> None:
        """What a frame may say hangs on whether the step changes something."""
        document, changes = place.playbook.document, verb.changes(args)
        if step.frame.retry is not None and changes and not verb.repeatable(args):
            message = (
                f"{verb.verb!r} changes something and may not be done again by itself: it is not"
                " known to be harmless twice"
            )
            hint = "retry a step that looks, and let this one follow when it has seen enough"
            self.found.at_key(document, (*step.path, "retry"), message, hint)
        if step.frame.confirm is not None and not changes:
            message = f"{step.frame.name!r} only looks: there is nothing to confirm"
            self.found.at_key(document, (*step.path, "confirm"), message, "leave it out")

    def _tell_of_late_names(self, step: RawStep, place: _Place, error: ValidationError) -> None:
        """A result of a step is text until it is known: numbers and lists cannot take it."""
        for item in error.errors(include_url=False):
            value = item["input"]
            names = placeholders(value) if isinstance(value, str) else ()
            if any(name.startswith("steps.") for name in names):
                path: DocumentPath = (*step.args_path, *item["loc"])
                message = f"{value} is known only when the run has come that far: not here"
                hint = "results of steps may stand where any text may, and in `when`"
                self.found.at(place.playbook.document, path, message, hint)


def _after_crash(verb: StepType, args: Closed) -> AfterCrash:
    """What may run twice by its author's word is done again, and nobody is asked."""
    return "repeat" if verb.after_crash == "ask" and verb.repeatable(args) else verb.after_crash


def _retry(step: RawStep) -> Retry | None:
    spec = step.frame.retry
    return None if spec is None else Retry(times=spec.times, delay_s=spec.delay, until=spec.until)


def _later(name: str) -> bool:
    """`${host.…}` is filled in for each host by the step, `${steps.…}` when the task is made."""
    return name.split(".", maxsplit=1)[0] in {"host", "steps"}


def _named(value: Any) -> Any:
    """Replace what is filled in from steps by the name of it: `steps.counted.rows[0].n`."""
    if isinstance(value, str):
        return _FROM_STEPS.sub(r"\1", value)
    if isinstance(value, Mapping):
        return {key: _named(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_named(item) for item in value]
    return value


def _without_none(value: Any) -> Any:
    """A parameter that is null leaves the key out: the verb's own default holds."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
