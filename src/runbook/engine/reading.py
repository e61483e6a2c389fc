"""Reads a playbook: all of its mistakes at once, or steps whose verbs and names are known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from runbook.engine.including import Beside, Includes
from runbook.engine.names import check_names, check_order
from runbook.engine.needs import looks, too_old
from runbook.engine.written import INCLUDE, Playbook, Problems, RawStep, slug
from runbook.model.document import Document, DocumentPath, Problem, nearest
from runbook.model.parameters import misfit_default, misfits
from runbook.model.playbook import Needs, Parameter, PlaybookFrame, StepFrame
from runbook.model.step import StepType
from runbook.model.validation import MOST_PROBLEMS, problem_at, problems_of

_FRAME = frozenset(StepFrame.model_fields)
__all__ = ["Beside", "Playbook", "Problems", "RawStep", "read_playbook", "slug"]

#: Five hundred steps with forty values each: whoever has more has generated them.
MOST_VALUES = 20_000
#: As many as the frames allow; a list that is longer is not read at all.
_MOST_STEPS = {"steps": 500, "always": 100, "on_failure": 100}


def read_playbook(
    document: Document, steps: Mapping[str, StepType], beside: Beside | None = None
) -> Playbook:
    """Return a playbook with its steps' verbs and names checked, and all that it includes.

    Without `beside` it stands alone: it may include nothing, and its steps bring no files.

    Raises:
        InvalidDocument: with every problem that can be seen without an inventory.
    """
    found = Problems(first=document.source)
    reader = _Reader(steps, beside, found)
    playbook = reader.playbook(document, ())
    if not found.problems:
        check_order(playbook, found)
    found.raise_if_any()
    return playbook


class _Reader:
    """Reads one playbook and those that it includes, each file once."""

    def __init__(
        self, steps: Mapping[str, StepType], beside: Beside | None, found: Problems
    ) -> None:
        self._steps = steps
        self._found = found
        self._includes = Includes(beside, found, self.playbook)

    def playbook(self, document: Document, including: tuple[str, ...]) -> Playbook:
        """Read one; `including` are the files that lead to it, outermost first."""
        old = too_old(document) or _too_large(document)
        if old is not None:
            # A newer language: whatever else looks wrong in it may be right there.
            self._found.problems.append(old)
        frame = self._frame(document) if old is None else _salvaged({})
        files = (*including, document.source)
        value = document.value if isinstance(document.value, dict) and old is None else {}
        read = Playbook(
            document=document,
            frame=frame,
            steps=self._list(document, value, ("steps",), files, nested=False),
            always=self._list(document, value, ("always",), files, nested=True),
            needs=looks(frame.needs, self._steps),
        )
        if not self._found.too_many and old is None:
            check_names(read, self._found)
        return read

    def _frame(self, document: Document) -> PlaybookFrame:
        if not isinstance(document.value, dict):
            hint = "it begins with `version: 1`, a `name` and `steps`"
            self._found.at(document, (), "a playbook is a mapping", hint)
            return _salvaged({})
        value = {key: _frame_part(key, part) for key, part in document.value.items()}
        try:
            frame = PlaybookFrame.model_validate(value)
        except ValidationError as error:
            self._found.problems += problems_of(error, PlaybookFrame, document)
            frame = _salvaged(document.value)
        self._check_parameters(document, frame)
        return frame

    def _check_parameters(self, document: Document, frame: PlaybookFrame) -> None:
        for name, spec in frame.parameters.items():
            if self._found.too_many:
                return
            wrong = False
            for key, message, hint in misfits(name, spec):
                wrong = True
                self._found.at(document, ("parameters", name, key), message, hint)
            error = None if wrong else misfit_default(name, spec)
            if error is not None:
                path = ("parameters", name, "default")
                self._found.at(document, path, error.message, error.hint)

    def _list(
        self,
        document: Document,
        holder: Mapping[str, Any],
        path: DocumentPath,
        files: tuple[str, ...],
        *,
        nested: bool,
    ) -> tuple[RawStep, ...]:
        """Read a list of steps; `nested` ones may have no failure steps of their own."""
        key = str(path[-1])
        raw = holder.get(key)
        if not isinstance(raw, list) or len(raw) > _MOST_STEPS[key]:
            return ()  # the frame has said so
        read: list[RawStep] = []
        for index, one in enumerate(raw):
            if self._found.too_many:
                break
            if isinstance(one, dict):
                read.append(self._step(document, one, (*path, index), files, nested=nested))
            else:
                hint = "it has a name and a verb"
                self._found.at(document, (*path, index), "a step is a mapping", hint)
        return tuple(read)

    def _step(
        self,
        document: Document,
        raw: Mapping[str, Any],
        path: DocumentPath,
        files: tuple[str, ...],
        *,
        nested: bool,
    ) -> RawStep:
        verb = self._verb(document, raw, path)
        frame = self._step_frame(document, raw, path)
        included = None
        args: object = {}
        if verb == INCLUDE:
            included = self._includes.step(document, raw, path, files, nested=nested)
        elif verb is not None:
            args = raw[verb] if raw[verb] is not None else {}
        if not isinstance(args, dict):
            message = f"{verb!r} takes a mapping of arguments"
            self._found.at(document, (*path, str(verb)), message)
            verb, args = None, {}
        return RawStep(
            path=path,
            frame=frame,
            verb=None if verb is None or verb == INCLUDE else self._steps[verb],
            args=args,
            contents=self._contents(document, verb, args, path),
            include=included,
            on_failure=self._on_failure(document, raw, path, files, nested=nested),
        )

    def _contents(
        self, document: Document, verb: str | None, args: Mapping[str, Any], path: DocumentPath
    ) -> dict[str, str]:
        """Return the contents of the files that a step names, as arguments of the step."""
        files = self._steps[verb].files if verb is not None and verb != INCLUDE else {}
        named = {key: becomes for key, becomes in files.items() if isinstance(args.get(key), str)}
        for key, becomes in named.items():
            if becomes in args:
                message = f"it has {key!r} and {becomes!r}: one of the two"
                self._found.at(document, (*path, str(verb), becomes), message)
        found = {
            becomes: self._includes.text(document, args[key], (*path, str(verb), key))
            for key, becomes in named.items()
        }
        return {becomes: text for becomes, text in found.items() if text is not None}

    def _verb(self, document: Document, raw: Mapping[str, Any], path: DocumentPath) -> str | None:
        """Return the one verb of a step, or None when there is a mistake in it."""
        verbs = [key for key in raw if key not in _FRAME]
        known = [key for key in verbs if key in self._steps or key == INCLUDE]
        hint = f"verbs: {', '.join([*sorted(self._steps), INCLUDE])}"
        unknown = [key for key in verbs if key not in known]
        for key in unknown[:MOST_PROBLEMS]:
            near = nearest(key, [*self._steps, INCLUDE, *_FRAME])
            message = f"{key!r} is neither a verb nor a key of a step"
            self._found.at_key(
                document, (*path, key), message, f"did you mean {near!r}?" if near else hint
            )
        if len(known) == 1:
            return known[0]
        if not unknown:
            said = f"it has {', '.join(verbs)}" if verbs else "it has none"
            self._found.at(document, path, f"a step has exactly one verb; {said}", hint)
        return None

    def _step_frame(
        self, document: Document, raw: Mapping[str, Any], path: DocumentPath
    ) -> StepFrame:
        """Return what is right in a step's frame, the rest as its defaults."""
        own = {"on_failure": _on_failure_word(raw), "for_each": _items(raw)}
        values = {k: v for k, v in raw.items() if k in _FRAME and k not in own}
        self._check_own(document, raw, path)
        try:
            frame = StepFrame.model_validate(values)
        except ValidationError as error:
            self._found.problems += problems_of(error, StepFrame, document, path)
            wrong = {str(item["loc"][0]) for item in error.errors(include_url=False)}
            sound = {key: value for key, value in values.items() if key not in wrong}
            frame = StepFrame.model_validate({"name": "step", **sound})
        return frame.model_copy(update={k: v for k, v in own.items() if v is not None})

    def _check_own(self, document: Document, raw: Mapping[str, Any], path: DocumentPath) -> None:
        """Check the keys that may be a word or a list: one mistake, said once."""
        failure = raw.get("on_failure", "stop")
        if not isinstance(failure, list) and failure not in ("stop", "continue"):
            message = f"'on_failure' is stop, continue or a list of steps, not {failure!r:.60}"
            near = nearest(str(failure), ("stop", "continue"))
            hint = f"did you mean {near!r}?" if near else None
            self._found.at(document, (*path, "on_failure"), message, hint)
        if failure == [] or (
            isinstance(failure, list) and len(failure) > _MOST_STEPS["on_failure"]
        ):
            message = f"'on_failure' has 1 to {_MOST_STEPS['on_failure']} steps"
            self._found.at(document, (*path, "on_failure"), message)
        if raw.get("for_each") is not None and _items(raw) is None:
            message = "'for_each' is a list of texts, numbers, true or false, or ${params.NAME}"
            self._found.at(document, (*path, "for_each"), message, "as in: for_each: [a, b]")

    def _on_failure(
        self,
        document: Document,
        raw: Mapping[str, Any],
        path: DocumentPath,
        files: tuple[str, ...],
        *,
        nested: bool,
    ) -> tuple[RawStep, ...]:
        if not isinstance(raw.get("on_failure"), list):
            return ()
        if nested:
            message = "what runs after a failure, or always, has no failure steps of its own"
            hint = "use stop or continue, or put the steps one after another"
            self._found.at_key(document, (*path, "on_failure"), message, hint)
            return ()
        return self._list(document, raw, (*path, "on_failure"), files, nested=True)


def _too_large(document: Document) -> Problem | None:
    count = len(document.places)
    if count <= MOST_VALUES:
        return None
    message = f"a playbook has at most {MOST_VALUES:,} values; this one has {count:,}"
    return problem_at(document, (), message, "put long lists into the inventory or into a file")


def _frame_part(key: str, part: Any) -> Any:
    """Steps are read one by one: for the frame it is enough that they are mappings."""
    if key in {"steps", "always"} and isinstance(part, list):
        return [one if isinstance(one, dict) else {} for one in part]
    return part


def _salvaged(value: Mapping[str, Any]) -> PlaybookFrame:
    """Return a frame in which at least the names of parameters are as they were written."""
    raw = value.get("parameters")
    parameters = {}
    for name, spec in raw.items() if isinstance(raw, dict) else ():
        try:
            parameters[name] = Parameter.model_validate(spec)
        except ValidationError:
            parameters[name] = Parameter(type="string")
    try:
        needs = Needs.model_validate(value.get("needs", {}))
    except ValidationError:
        needs = Needs()
    frame = PlaybookFrame(version=1, name="unread", steps=({},), needs=needs)
    return frame.model_copy(update={"parameters": parameters})


def _on_failure_word(raw: Mapping[str, Any]) -> str | None:
    word = raw.get("on_failure")
    return word if word in ("stop", "continue") else None


_WHOLE = re.compile(r"\$\{\s*params\.[^{}]+\}")


def _items(raw: Mapping[str, Any]) -> str | tuple[Any, ...] | None:
    """Return a sound `for_each`, or None."""
    items = raw.get("for_each")
    if isinstance(items, str) and _WHOLE.fullmatch(items):
        return items
    scalars = isinstance(items, list) and all(isinstance(i, str | int | float) for i in items)
    return tuple(items) if scalars and items else None
