"""What a playbook brings in from beside itself: other playbooks, and files that a step sends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from runbook.engine.written import INCLUDE, Included, Playbook, Problems
from runbook.model.document import Document, DocumentPath
from runbook.model.errors import InvalidDocument, UsageError
from runbook.model.playbook import IncludeSpec, StepFrame
from runbook.model.templates import placeholders
from runbook.model.validation import problems_of

#: What the step that includes may say; the rest belongs to the included steps themselves.
_SAYS = frozenset({"name", "when", "on_failure", "confirm", "tags"})
#: An include of an include of …: more than this is a mistake, and nobody can follow it.
MOST_DEPTH = 8
#: Files that one playbook may bring in, each read once.
MOST_FILES = 100


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Opens what a playbook names: (name as written, the playbook's own file) to what it holds."""

    #: The playbook of an include.
    document: Callable[[str, str], Document]
    #: The text of a file that a step brings along.
    text: Callable[[str, str], str]


class Includes:
    """Reads included playbooks, each file once, and tells circles from depth."""

    def __init__(
        self,
        beside: Beside | None,
        found: Problems,
        read: Callable[[Document, tuple[str, ...]], Playbook],
    ) -> None:
        self._beside = beside
        self._found = found
        self._read_one = read
        self._read: dict[str, Playbook] = {}

    def step(
        self,
        document: Document,
        raw: Mapping[str, Any],
        path: DocumentPath,
        files: tuple[str, ...],
        *,
        nested: bool,
    ) -> Included | None:
        """Read the playbook that a step includes; `files` lead to it, outermost first."""
        for key in raw:
            if key in StepFrame.model_fields and key not in _SAYS:
                message = f"a step that includes a playbook has no {key!r}"
                hint = "say it at the steps of the included playbook"
                self._found.at_key(document, (*path, key), message, hint)
        try:
            spec = IncludeSpec.model_validate(raw[INCLUDE])
        except ValidationError as error:
            place = (*path, INCLUDE)
            self._found.problems += problems_of(error, IncludeSpec, document, place)
            return None
        where = (*path, INCLUDE, "playbook")
        inner = self._open(document, spec.playbook, where, files)
        if inner is None:
            return None
        if nested and (inner.always or any(step.on_failure for step in inner.steps)):
            message = "what runs after a failure, or always, includes no playbook that has such"
            hint = f"{inner.document.source} has `always`, or a list at `on_failure`"
            self._found.at(document, where, message, hint)
        return Included(spec=spec, playbook=inner)

    def text(self, document: Document, name: str, where: DocumentPath) -> str | None:
        """Return what the file holds that a step names, or None when there is a mistake in it."""
        if self._beside is None or placeholders(name):
            message = "this is the fixed name of a file beside the playbook"
            self._found.at(document, where, message, "it is read before parameters are known")
            return None
        try:
            return self._beside.text(name, document.source)
        except UsageError as error:
            self._found.at(document, where, error.message, error.hint)
            return None

    def _open(
        self, document: Document, name: str, where: DocumentPath, files: tuple[str, ...]
    ) -> Playbook | None:
        opened = self._document(document, name, where)
        if opened is None:
            return None
        if opened.source in files:
            circle = " -> ".join([*files[files.index(opened.source) :], opened.source])
            self._found.at(document, where, f"it would include itself without end: {circle}")
        elif len(files) > MOST_DEPTH:
            message = f"playbooks include each other more than {MOST_DEPTH} deep"
            self._found.at(document, where, message, "put the steps into fewer files")
        elif opened.source not in self._read and len(self._read) >= MOST_FILES:
            self._found.at(document, where, f"more than {MOST_FILES} playbooks are included")
        else:
            if opened.source not in self._read:
                self._read[opened.source] = self._read_one(opened, files)
            return self._read[opened.source]
        return None

    def _document(self, document: Document, name: str, where: DocumentPath) -> Document | None:
        if self._beside is None or placeholders(name):
            message = "the included playbook is a fixed name, of a file beside this one"
            self._found.at(document, where, message, "it is read before parameters are known")
            return None
        try:
            return self._beside.document(name, document.source)
        except InvalidDocument as error:
            self._found.problems += error.problems
        except UsageError as error:
            self._found.at(document, where, error.message, error.hint)
        return None
