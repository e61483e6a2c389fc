"""Reads playbooks and inventories: YAML 1.2 without its traps, every value with its place.

Mistakes are collected and raised together, as one `InvalidDocument`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.adapters.text_file import MAX_BYTES, Kind, read_text, unwelcome_characters
from runbook.adapters.yaml_anchors import MAX_ALIASED_NODES, MAX_DEPTH
from runbook.adapters.yaml_builder import MAX_PROBLEMS, Builder
from runbook.adapters.yaml_events import parse_events
from runbook.model.document import Document, with_excerpts
from runbook.model.errors import InvalidDocument

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "MAX_ALIASED_NODES",
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_PROBLEMS",
    "Kind",
    "parse_document",
    "read_document",
]


def read_document(path: Path, *, max_bytes: int | None = None, kind: Kind = "playbook") -> Document:
    """Return what the YAML file at `path` says.

    Raises:
        InvalidDocument: with all that is wrong with the file.
    """
    return parse_document(read_text(path, max_bytes=max_bytes, kind=kind), str(path))


def parse_document(text: str, source: str) -> Document:
    """Return what YAML `text` says; `source` is the name its places and problems carry.

    Raises:
        InvalidDocument: with all that is wrong with the text.
    """
    text = text.removeprefix("\ufeff")
    problems = list(unwelcome_characters(text, source, MAX_PROBLEMS))
    if not problems:
        builder = Builder(source)
        builder.build(parse_events(text))
        problems = builder.problems
    if problems:
        raise InvalidDocument(with_excerpts(problems, text))
    return Document(builder.value, source, text, builder.places, builder.key_places)
