"""A playbook as it was read: steps split into frame and verb, and the mistakes found on the way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from runbook.model.document import Document, DocumentPath, Problem
from runbook.model.errors import InvalidDocument
from runbook.model.plan import Role
from runbook.model.playbook import IncludeSpec, PlaybookFrame, StepFrame
from runbook.model.step import StepType
from runbook.model.validation import MOST_PROBLEMS, problem_at, problem_at_key

INCLUDE = "include"


@dataclass(frozen=True, kw_only=True)
class Included:
    """Another playbook in the place of a verb."""

    spec: IncludeSpec
    playbook: Playbook


@dataclass(frozen=True, kw_only=True)
class RawStep:
    """One step as written, split into its frame and its verb, or what it includes."""

    #: Where it stands: ("steps", 2), or ("steps", 2, "on_failure", 0).
    path: DocumentPath
    frame: StepFrame
    #: None for an include, and for a step with a mistake in its verb.
    verb: StepType | None
    args: Mapping[str, Any]
    #: Arguments that are the content of a file beside the playbook, as it is: no placeholders.
    contents: Mapping[str, str] = field(default_factory=dict)
    include: Included | None = None
    #: Steps that run when this one does not end well.
    on_failure: tuple[RawStep, ...] = ()
    #: Its key, where that is not the slug of its name: `needs:hosts`.
    own_key: str | None = None

    @property
    def key(self) -> str:
        """Its key inside of its playbook."""
        return self.own_key or slug(self.frame.name)

    @property
    def args_path(self) -> DocumentPath:
        """Where its arguments stand."""
        return (*self.path, self.verb.verb if self.verb else INCLUDE)


@dataclass(frozen=True, kw_only=True)
class Playbook:
    """A playbook that can be read; its arguments are filled in when it is planned."""

    document: Document
    frame: PlaybookFrame
    steps: tuple[RawStep, ...]
    always: tuple[RawStep, ...] = ()
    #: Looks that `needs` asks for, before anything else.
    needs: tuple[RawStep, ...] = ()

    @property
    def name(self) -> str:
        """The playbook's own name."""
        return self.frame.name

    def all_steps(self) -> Iterator[tuple[RawStep, Role]]:
        """Yield its steps in the order of a plan, and what each is there for."""
        for step in self.steps:
            yield step, "main"
            for after in step.on_failure:
                yield after, "on_failure"
        for step in self.always:
            yield step, "always"


@dataclass
class Problems:
    """Problems collected on the way, so that all of them are told at once."""

    problems: list[Problem] = field(default_factory=list)
    #: The file whose problems come first: the one that the user named.
    first: str = ""

    def at(
        self, document: Document, path: DocumentPath, message: str, hint: str | None = None
    ) -> None:
        """Add one that stands at a value."""
        self.problems.append(problem_at(document, path, message, hint))

    def at_key(
        self, document: Document, path: DocumentPath, message: str, hint: str | None = None
    ) -> None:
        """Add one that stands at a key."""
        self.problems.append(problem_at_key(document, path, message, hint))

    @property
    def too_many(self) -> bool:
        """Whether there is no sense in looking for more."""
        return len(self.problems) >= MOST_PROBLEMS

    def raise_if_any(self) -> None:
        """End the reading when something is wrong; each file's problems come in its order."""
        if self.problems:
            found = list(dict.fromkeys(self.problems))[:MOST_PROBLEMS]
            files = list(dict.fromkeys([self.first, *(p.place.file for p in found if p.place)]))
            raise InvalidDocument(sorted(found, key=lambda p: _order(p, files)))


def _order(problem: Problem, files: list[str]) -> tuple[int, int, int]:
    place = problem.place
    return (files.index(place.file), place.line, place.column) if place else (-1, 0, 0)


def slug(name: str) -> str:
    """Return a step's name as a key: lower case, words joined by dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "step"
