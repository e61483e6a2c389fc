"""Regular expressions that are held against what others send: none may take for ever.

Python's `re` goes back and tries again: `(a+)+b` takes twice as long with every further `a`. Such
shapes are refused where they are written, not met at night; and what is matched is short.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

#: With 256 characters to try, three open repeats are some million steps at the very worst; each
#: choice (`?`, `|`) may double that.
MOST_REPEATS = 3
MOST_CHOICES = 6

_TOKEN = re.compile(
    r"(?P<escape>\\.)|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<open>\((?:\?:|\?P<\w+>)?)|(?P<close>\))"
    r"|(?P<choice>\|)|(?P<repeat>[*+?]|\{(?=,?\d)\d*,?\d*\})(?P<firm>[+?]?)|(?P<other>.)",
    re.DOTALL,
)
_REMEDY = "write one set of characters instead, as in [a-z0-9.-]+"


def check_pattern(pattern: str) -> str:
    """Return a pattern whose first group is a name, and which is quick whatever it is held against.

    Raises:
        ValueError: with what is wrong, and what to write instead.
    """
    try:
        groups = re.compile(pattern).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    if groups < 1:
        raise ValueError(f"{pattern!r} has no group: put what is the name in ( )")
    for why in _Reading().of(pattern):
        raise ValueError(f"{pattern!r} {why}")
    return pattern


@dataclass
class _Reading:
    """Goes through a pattern once; `varies` says of each open group whether it has a choice."""

    varies: list[bool] = field(default_factory=lambda: [False])
    #: Whether what a repeat would repeat is a group that varies.
    before: bool = False
    repeats: int = 0
    choices: int = 0

    def of(self, pattern: str) -> Iterator[str]:
        """Yield what is wrong with it."""
        for token in _TOKEN.finditer(pattern):
            kind = token.lastgroup if token.lastgroup != "firm" else "repeat"
            if kind == "repeat":
                yield from self._repeat(token["repeat"], firm=token["firm"] == "+")
                continue
            yield from self._refused(kind, token, pattern)
            self._step(kind)
        if self.repeats > MOST_REPEATS:
            yield (
                f"has {self.repeats} open repeats; {MOST_REPEATS} are allowed: say how many as in"
                " [0-9]{4}, or make one firm as in [0-9]++"
            )
        if self.choices > MOST_CHOICES:
            yield f"has {self.choices} choices (? and |); {MOST_CHOICES} are allowed: {_REMEDY}"

    def _refused(self, kind: str | None, token: re.Match[str], pattern: str) -> Iterator[str]:
        if kind == "open" and token[0] == "(" and pattern[token.end() :].startswith("?"):
            yield "has a group of another kind than ( ), (?: ) and (?P<name> )"
        if kind == "escape" and token[0][1] in "123456789":
            yield f"refers back to a group: {_REMEDY}"

    def _step(self, kind: str | None) -> None:
        self.before = False
        if kind == "open":
            self.varies.append(False)
        elif kind == "close":
            self.before = self.varies.pop()
            self.varies[-1] |= self.before
        elif kind == "choice":
            self.varies[-1] = True
            self.choices += 1

    def _repeat(self, text: str, *, firm: bool) -> Iterator[str]:
        many, is_open = text != "?", text in "*+?" or "," in text
        if many and self.before:
            yield f"has a repeat or a choice inside of a repeat: {_REMEDY}"
        if is_open and not firm:
            self.repeats += many
            self.choices += not many
        self.varies[-1] |= is_open
        self.before = False
