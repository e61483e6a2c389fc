"""Builds one plain value from the parser's events, noting the place of every part on the way.

No recursion and none of the library's constructors, so that nothing in a file can choose a type,
run code or exhaust the machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runbook.adapters.yaml_anchors import MAX_DEPTH, AliasRefused, Anchors, Node
from runbook.adapters.yaml_faults import ONE_DOCUMENT, SECOND_DOCUMENT, SyntaxFault, explain
from runbook.adapters.yaml_scalars import Unfit, check_plain_key, check_text, resolve_plain
from runbook.model.document import Place, Problem, quoted, shorten, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runbook.model.document import DocumentPath

MAX_PROBLEMS = 50


class _Enough(Exception):
    """There is no sense in reading on."""


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been read yet."""

    node: Node
    route: DocumentPath
    place: Place
    anchor: str | None
    #: Where each key of a mapping stands.
    keys: dict[str, Place] = field(default_factory=dict)
    #: The key that waits for its value.
    key: str | None = None

    @property
    def wants_key(self) -> bool:
        return self.key is None and isinstance(self.node.value, dict)


@dataclass(slots=True)
class Builder:
    """Turns events into one value, noting places and problems on the way."""

    source: str
    value: object = None
    places: dict[DocumentPath, Place] = field(default_factory=dict)
    key_places: dict[DocumentPath, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _stack: list[_Open] = field(default_factory=list)
    _anchors: Anchors = field(default_factory=Anchors)
    _documents: int = 0

    def build(self, events: Iterator[Any]) -> None:
        handlers: dict[str, Callable[[Any], None]] = {
            "DocumentStartEvent": self._on_document,
            "MappingStartEvent": self._on_mapping,
            "MappingEndEvent": self._on_end,
            "SequenceStartEvent": self._on_sequence,
            "SequenceEndEvent": self._on_end,
            "ScalarEvent": self._on_scalar,
            "AliasEvent": self._on_alias,
        }
        try:
            for event in events:
                handler = handlers.get(type(event).__name__)
                if handler:
                    handler(event)
            if not self._documents:
                self._refuse_empty(Place(self.source, 1, 1))
        except SyntaxFault as fault:
            self.problems.append(explain(fault, self.source))
        except _Enough:
            pass

    def _refuse_empty(self, place: Place) -> None:
        self._report("the file is empty", place, "write the document, or name another file")

    def _report(self, message: str, place: Place, hint: str | None = None) -> None:
        self.problems.append(Problem(message, place, hint))
        if len(self.problems) >= MAX_PROBLEMS:
            hint = "mend these first"
            self.problems.append(Problem("more problems follow; reading stopped", place, hint))
            raise _Enough

    def _place(self, event: Any) -> Place:
        mark = event.start_mark
        return Place(self.source, mark.line + 1, mark.column + 1)

    # Documents and collections

    def _on_document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            self._report(SECOND_DOCUMENT, self._place(event), ONE_DOCUMENT)
            raise _Enough
        if event.version and tuple(event.version) != (1, 2):
            version = ".".join(map(str, event.version))
            hint = "remove the %YAML line: this is YAML 1.2"
            self._report(f"this file asks for YAML {version}", self._place(event), hint)

    def _on_mapping(self, event: Any) -> None:
        self._open(event, {})

    def _on_sequence(self, event: Any) -> None:
        self._open(event, [])

    def _open(self, event: Any, value: object) -> None:
        place = self._place(event)
        if len(self._stack) >= MAX_DEPTH:
            hint = "flatten it; check for brackets that are never closed"
            self._report(f"nested more than {MAX_DEPTH} levels deep", place, hint)
            raise _Enough
        self._refuse_tag(event, place)
        route = self._route()
        if self._stack and self._stack[-1].wants_key:
            self._refuse_key("a list or mapping", place, "use a plain word as the key")
        self.places[route] = place
        self._anchors.begin(event.anchor)
        self._stack.append(_Open(Node(value), route, place, event.anchor))

    def _on_end(self, event: Any) -> None:  # noqa: ARG002 - handlers are called alike
        done = self._stack.pop()
        self._anchors.end(done.anchor, done.node)
        done.node.height += 1
        self._attach(done.node)

    # Scalars and aliases

    def _on_scalar(self, event: Any) -> None:
        place = self._place(event)
        self._refuse_tag(event, place)
        if self._stack and self._stack[-1].wants_key:
            self._on_key(event, place)
            return
        self.places[self._route()] = place
        node = Node(self._scalar(event, place))
        if not self._stack and not event.style and not event.value:
            self._refuse_empty(place)
        self._anchors.end(event.anchor, node)
        self._attach(node)

    def _scalar(self, event: Any, place: Place) -> object:
        """The value of a scalar; for an unfit one its own text, so that reading can go on."""
        try:
            if event.style:
                return check_text(event.value)
            return resolve_plain(event.value)
        except Unfit as unfit:
            self._report(unfit.message, place, unfit.hint)
            return event.value

    def _on_key(self, event: Any, place: Place) -> None:
        name = str(event.value)
        try:
            if event.style:
                check_text(name)
            else:
                check_plain_key(name)
        except Unfit as unfit:
            self._report(unfit.message, place, unfit.hint)
        self._anchors.end(event.anchor, Node(name))
        self._take_key(name, place)

    def _take_key(self, name: str, place: Place) -> None:
        mapping = self._stack[-1]
        first = mapping.keys.setdefault(name, place)
        if first is not place:
            message = f"the key {quoted(name)} is here for the second time"
            self._report(message, place, f"the first is at {first}: remove or rename one")
        mapping.key = name
        self.key_places[(*mapping.route, name)] = place

    def _on_alias(self, event: Any) -> None:
        place = self._place(event)
        if self._stack and self._stack[-1].wants_key:
            self._refuse_key(f"the alias *{visible(event.anchor)}", place, "write the key out")
            self._stack[-1].key = event.anchor
            return
        self.places[self._route()] = place
        self._attach(self._aliased(event.anchor, place))

    def _aliased(self, anchor: str, place: Place) -> Node:
        """A copy of what `anchor` names; nothing, once the refusal is noted."""
        try:
            return self._anchors.repeat(anchor, len(self._stack))
        except AliasRefused as refused:
            self._report(refused.message, place, refused.hint)
            if refused.bomb:
                raise _Enough from refused
            return Node(None)

    # What they have in common

    def _route(self) -> DocumentPath:
        """The path of the value that begins now."""
        if not self._stack:
            return ()
        top = self._stack[-1]
        if isinstance(top.node.value, list):
            return (*top.route, len(top.node.value))
        return (*top.route, top.key or "")

    def _attach(self, node: Node) -> None:
        """Put a finished value where it belongs."""
        if not self._stack:
            self.value = node.value
            return
        top = self._stack[-1]
        top.node.count += node.count
        top.node.height = max(top.node.height, node.height)
        if isinstance(top.node.value, list):
            top.node.value.append(node.value)
        elif top.wants_key:
            top.key = ""  # stands in for a collection as a key, reported when it began
        elif isinstance(top.node.value, dict):
            top.node.value.setdefault(top.key, node.value)
            top.key = None

    def _refuse_key(self, what: str, place: Place, hint: str) -> None:
        self._report(f"{what} cannot be a key", place, hint)

    def _refuse_tag(self, event: Any, place: Place) -> None:
        if event.tag is not None:
            tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
            hint = "remove it; to make a value a string, quote it"
            self._report(f"the tag {shorten(tag)} is not supported", place, hint)
