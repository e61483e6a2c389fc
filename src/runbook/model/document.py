"""A document that was read: its plain value, where each part of it stands, and what is wrong."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: Keys (str) and indices (int) from the top of the document down; () is the whole of it.
DocumentPath = tuple[str | int, ...]

_LINE_BREAK = re.compile(r"\r\n|\n|\r")
_EXCERPT_WIDTH = 96
_LONGEST_NAME = 64
#: The most characters of a file's own words that a message repeats.
LONGEST_QUOTE = 40


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{visible(self.file)}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: what is wrong (with the value), where, and what to do about it."""

    message: str
    place: Place | None = None
    hint: str | None = None
    #: The source line with a caret, where the text was at hand.
    excerpt: str | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        remedy = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{where}{self.message}{remedy}"


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says (dicts with string keys, lists, core scalars), and where it says it."""

    value: object
    #: The file's name, as its user wrote it.
    source: str
    text: str = field(repr=False)
    #: The place of each value; what an alias brought in has the alias's own place.
    places: Mapping[DocumentPath, Place] = field(repr=False)
    #: The place of each mapping entry's key.
    key_places: Mapping[DocumentPath, Place] = field(repr=False)

    def place_of(self, path: DocumentPath) -> Place:
        """The place of the value at `path`, or of its nearest ancestor that has one."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place(self.source, 1, 1))

    def key_place_of(self, path: DocumentPath) -> Place:
        """The place of the key that leads to `path`; of the value, where there is no key."""
        return self.key_places.get(path) or self.place_of(path)

    def part(self, path: DocumentPath) -> Document:
        """The value at `path` as a document of its own; its places are those in the whole file."""
        value = self.value
        for step in path:
            value = value[step]  # type: ignore[index]

        def inside(places: Mapping[DocumentPath, Place]) -> dict[DocumentPath, Place]:
            size = len(path)
            return {key[size:]: place for key, place in places.items() if key[:size] == path}

        places, key_places = inside(self.places), inside(self.key_places)
        return Document(value, self.source, self.text, places, key_places)

    def excerpt(self, place: Place) -> str:
        """The source line of `place` with its number, and a caret under the column."""
        return excerpt(_lines_of(self.text), place)


@lru_cache(maxsize=2)
def _lines_of(text: str) -> list[str]:
    """The lines of a text whose many problems are shown one by one."""
    return split_lines(text)


def split_lines(text: str) -> list[str]:
    """The lines as YAML counts them; `str.splitlines` knows more line breaks than YAML does."""
    return _LINE_BREAK.split(text)


def excerpt(lines: Sequence[str], place: Place) -> str:
    """The line that `place` names, safe to print, with a caret under the column."""
    line = lines[place.line - 1] if 0 < place.line <= len(lines) else ""
    before, after = _cut(line, max(0, place.column - 1))
    number = f"{place.line:>5}"
    return f"{number} | {before}{after}".rstrip() + f"\n{' ' * len(number)} | {_blank(before)}^"


def with_excerpts(problems: Iterable[Problem], text: str) -> list[Problem]:
    """Return the problems of `text`, each that has a place with the line it stands in."""
    lines = split_lines(text)
    return [
        replace(problem, excerpt=excerpt(lines, problem.place)) if problem.place else problem
        for problem in problems
    ]


def _cut(line: str, column: int) -> tuple[str, str]:
    """The shown text before and from `column`, cut so that both fit one terminal line."""
    before, after = visible(line[:column]), visible(line[column : column + _EXCERPT_WIDTH])
    # A caret near the start leaves its share of the line to what follows.
    room_before = max(_EXCERPT_WIDTH // 2, _EXCERPT_WIDTH - len(after))
    if len(before) > room_before:
        before = "..." + before[-(room_before - 3) :]
    room_after = _EXCERPT_WIDTH - len(before)
    if len(after) > room_after or len(line) > column + _EXCERPT_WIDTH:
        after = after[: room_after - 3] + "..."
    return before, after


def _blank(shown: str) -> str:
    """As many spaces as `shown` takes columns on a terminal."""
    return " " * sum(_columns(char) for char in shown)


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def visible(text: str) -> str:
    """`text` with tabs, control and other unprintable characters written as escapes.

    What a file holds must not be able to move the cursor or recolour the terminal.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def quoted(text: str) -> str:
    """Return `text` in quotes, as `shorten` shows it."""
    return f"'{shorten(text)}'"


def shorten(text: str) -> str:
    """Return `text` safe to print, in at most `LONGEST_QUOTE` characters."""
    shown = visible(text[: LONGEST_QUOTE + 1])
    return shown if len(shown) <= LONGEST_QUOTE else shown[: LONGEST_QUOTE - 3] + "..."


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` was probably meant to be, or None rather than a wild guess."""
    plain = {_plain(candidate): candidate for candidate in candidates}
    wanted = _plain(name)
    if wanted in plain:
        return plain[wanted]
    if not 1 < len(wanted) <= _LONGEST_NAME:
        return None
    # Two letters of three shared is little evidence; a short name needs as much and no less.
    cutoff = 0.65 if len(wanted) <= 3 else 0.6
    close = get_close_matches(wanted, plain, n=1, cutoff=cutoff)
    return plain[close[0]] if close else None


def _plain(name: str) -> str:
    """`name` without what people get wrong first: case, and dashes for underscores."""
    return name.casefold().replace("-", "_").replace(" ", "_")
