"""Whether what the rules of alerts want can be planned: playbooks, parameters, targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runbook.engine.planning import check_target, make_plan
from runbook.engine.reading import Playbook
from runbook.model.document import Document, DocumentPath, Problem
from runbook.model.errors import InvalidDocument, UsageError
from runbook.model.fleet import Fleet
from runbook.model.parameters import parse, resolve
from runbook.model.serve_config import FromAlert, Rule, ServeConfig
from runbook.model.validation import problem_at


def check_rules(
    config: ServeConfig, document: Document, fleet: Fleet, load: Callable[[str], Playbook]
) -> tuple[Problem, ...]:
    """Return, for each rule, what would keep its run from being planned tonight.

    `load` returns a playbook as a rule names it, or raises `UsageError`.
    """
    found: list[Problem] = []
    for index, rule in enumerate(config.rules):
        try:
            playbook = load(rule.run)
        except UsageError as error:
            found.append(_told(document, ("rules", index, "run"), error))
            continue
        found += _Check(rule, ("rules", index), playbook, document, fleet).problems()
    return tuple(found)


def _told(document: Document, path: DocumentPath, error: UsageError) -> Problem:
    if isinstance(error, InvalidDocument):  # a playbook with mistakes of its own
        first = error.problems[0]
        where = f"{first.place}: " if first.place else ""
        return problem_at(document, path, f"{where}{first.message}", first.hint)
    return problem_at(document, path, error.message, error.hint)


@dataclass(frozen=True)
class _Check:
    """One rule with its playbook."""

    rule: Rule
    path: DocumentPath
    playbook: Playbook
    document: Document
    fleet: Fleet

    def problems(self) -> Iterator[Problem]:
        """What is nearest to the mistake is told, and nothing that only follows from it."""
        found = [*self._params(), *self._target()]
        yield from found or self._plan()

    def _params(self) -> Iterator[Problem]:
        declared = self.playbook.frame.parameters
        for name, value in self.rule.params.items():
            path = (*self.path, "params", name)
            try:
                given = self._example(value)
                if name in declared:
                    parse(name, declared[name], given, self.fleet)
                else:
                    resolve(declared, {name: given}, self.playbook.name)
            except UsageError as error:
                yield _told(self.document, path, error)

    def _target(self) -> Iterator[Problem]:
        target, kind = self.rule.target, self.playbook.frame.target.kind
        path = (*self.path, "target")
        if not isinstance(target, FromAlert):
            return
        # A selection of hosts may be the name of one.
        wanted = "host" if kind == "hosts" else kind
        if target.of != wanted:
            takes = "no target" if kind == "none" else f"a {wanted}"
            message = f"playbook {self.playbook.name} takes {takes}, not a {target.of}"
            hint = "leave target out" if kind == "none" else f"write of: {wanted}"
            yield problem_at(self.document, path, message, hint)
            return
        try:
            self._example(target)
        except UsageError as error:
            yield _told(self.document, path, error)

    def _plan(self) -> Iterator[Problem]:
        rule, frame = self.rule, self.playbook.frame
        path = self.path if rule.target is None else (*self.path, "target")
        # Which of the inventory's names an alert gives is not known before it comes.
        varies = [isinstance(one, FromAlert) for one in (rule.target, *rule.params.values())]
        try:
            if not any(varies):
                self._make_plan(rule.target, rule.params)
                return
            given = {name: self._example(value) for name, value in rule.params.items()}
            resolve(frame.parameters, given, frame.name, self.fleet)
            if rule.target is None:
                check_target(self.playbook, self.fleet, None)
        except UsageError as error:
            yield _told(self.document, path, error)

    def _make_plan(self, target: Any, given: Mapping[str, Any]) -> None:
        make_plan(
            self.playbook,
            fleet=self.fleet,
            target=target,
            given=given,
            rehearsal=self.rule.mode == "rehearse",
        )

    def _example(self, value: Any) -> Any:
        """The value, or for one that an alert gives, the first that it could give.

        Raises:
            UsageError: when the inventory has nothing of that kind.
        """
        if not isinstance(value, FromAlert):
            return value
        inventory = self.fleet.inventory
        known = {
            "database": tuple(inventory.databases),
            "service": tuple(inventory.services),
            "host": tuple(inventory.hosts),
        }[value.of]
        if not known:
            raise UsageError(f"{self.fleet.source} has no {value.of} that an alert could name")
        return known[0]
