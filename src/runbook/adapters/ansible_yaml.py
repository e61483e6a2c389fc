"""Reads YAML as Ansible does: YAML 1.1 (`yes` is true), merge keys, and tags such as `!vault`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runbook.adapters.text_file import unwelcome_characters
from runbook.adapters.yaml_builder import MAX_PROBLEMS, Builder
from runbook.adapters.yaml_events import parse_events
from runbook.model.ansible_inventory import Foreign
from runbook.model.document import Document, visible, with_excerpts
from runbook.model.errors import InvalidDocument

if TYPE_CHECKING:
    from runbook.model.document import Place

_YAML = "tag:yaml.org,2002:"
#: Tags that leave a text a text: `!unsafe` only says that it is no template.
_TEXT = ("!", "!unsafe", f"{_YAML}str")


def parse_ansible(text: str, source: str) -> Document:
    """Return what YAML `text` says to Ansible; an empty one says None.

    Raises:
        InvalidDocument: with all that is wrong with the text.
    """
    text = text.removeprefix("\ufeff")
    problems = list(unwelcome_characters(text, source, MAX_PROBLEMS))
    if not problems:
        builder = _AnsibleBuilder(source)
        builder.build(parse_events(text))
        problems = builder.problems
    if problems:
        raise InvalidDocument(with_excerpts(problems, text))
    return Document(builder.value, source, text, builder.places, builder.key_places)


class _AnsibleBuilder(Builder):
    """The builder, with the reading of scalars and keys that PyYAML's safe loader has."""

    def _refuse_empty(self, place: Place) -> None:
        """A file of vars may well be empty."""

    def _refuse_tag(self, event: Any, place: Place) -> None:
        """Tags are values' own: see `_scalar`."""

    def _on_document(self, event: Any) -> None:
        event.version = None  # %YAML 1.1 is what is read here
        super()._on_document(event)

    def _scalar(self, event: Any, place: Place) -> object:  # noqa: ARG002 - the builder's own
        if event.tag in _TEXT or (event.style and event.tag is None):
            return event.value
        if event.tag and not event.tag.startswith(_YAML):
            return Foreign(visible(str(event.tag)))
        return _resolved(event.value, event.tag)

    def _on_key(self, event: Any, place: Place) -> None:
        value = self._scalar(event, place)
        name = event.value if isinstance(value, Foreign) else _key(value, event.value)
        self._take_key(name, place)

    def _take_key(self, name: str, place: Place) -> None:
        """The last of two equal keys counts, as it does for Ansible."""
        mapping = self._stack[-1]
        if isinstance(mapping.node.value, dict):
            mapping.node.value.pop(name, None)
        mapping.keys.pop(name, None)
        super()._take_key(name, place)

    def _on_end(self, event: Any) -> None:
        value = self._stack[-1].node.value
        if isinstance(value, dict) and "<<" in value:
            _merge(value)
        super()._on_end(event)


def _resolved(text: str, tag: str | None) -> object:
    """A plain scalar as YAML 1.1 has it: `yes`, `0644`, `1:30`, `2026-11-23` are no texts."""
    from yaml import ScalarNode, YAMLError
    from yaml.constructor import SafeConstructor
    from yaml.resolver import Resolver

    resolver: Any = Resolver()
    tag = tag or str(resolver.resolve(ScalarNode, text, (True, False)))
    if tag in {f"{_YAML}value", f"{_YAML}merge"}:
        return text
    try:
        return SafeConstructor().construct_object(ScalarNode(tag, text))
    except (YAMLError, ValueError, OverflowError):
        return Foreign(visible(str(tag).removeprefix(_YAML)))


def _key(value: object, text: str) -> str:
    """A key that YAML reads as a number or a boolean is a name all the same."""
    return text if isinstance(value, str) else str(value)


def _merge(mapping: dict[str, object]) -> None:
    """Lay the mappings of `<<` under the entries that are written out; earlier ones win."""
    merged = mapping.pop("<<")
    for part in merged if isinstance(merged, list) else [merged]:
        if isinstance(part, dict):
            for key, value in part.items():
                mapping.setdefault(key, value)
