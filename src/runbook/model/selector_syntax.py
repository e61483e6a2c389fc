"""The grammar of selectors: text in, a tree out, and every mistake with its place.

    expression := term (("," | "|" | "or") term)*     union
    term       := factor (("&" | "and") factor)*      intersection; binds tighter
    factor     := ("!" | "not") factor | "(" expression ")" | leaf
    leaf       := NAME | PATTERN | KEY OPERATOR VALUE
    OPERATOR   := "=" | "!=" | "~" | "!~" | "<" | "<=" | ">" | ">="

Quotes, single or double, take a name or a value as it stands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NoReturn, cast

from runbook.model.document import shorten, visible
from runbook.model.errors import UsageError

#: A person nests three or four deep; the parser calls itself, and must not run out of stack.
MAX_NESTING = 50
#: A comma list of 5,000 long host names is half of it.
MAX_CHARACTERS = 1_000_000
#: Characters of the selector that an error shows on either side of the mistake.
_SHOWN = 24

Operator = Literal["=", "!=", "~", "!~", "<", "<=", ">", ">="]

_SPACE = re.compile(r"\s*")
_OPERATOR = re.compile(r"!=|!~|==|=~|<=|>=|=|~|<|>")
_SYMBOL = re.compile(r"[,|&!()]")
_WORD = re.compile(r"[^\s,|&!()=~<>\"']+")
_VALUE = re.compile(r"[^\s,|&!()\"']+")
_QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'")
_BARE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/@+-]*")
_GLOB = re.compile(r"[*?\[]")
_WORDS = {"and": "&", "or": ",", "not": "!"}
#: What people write out of habit, and what it is here.
_HABITS = {"==": "=", "=~": "~"}


@dataclass(frozen=True, slots=True)
class Named:
    """A host or a group by its name, or `all`."""

    name: str
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Pattern:
    """Hosts whose name matches; `*`, `?` and `[…]` as in a shell."""

    glob: str
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Compare:
    """Hosts by a var, by `group` or by `name`."""

    key: str
    operator: Operator
    value: str
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    """All hosts but these; never of another Not."""

    inner: Expression


@dataclass(frozen=True, slots=True)
class AllOf:
    """Hosts that are in each part; two or more of them."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Hosts that are in some part; two or more of them."""

    parts: tuple[Expression, ...]


Leaf = Named | Pattern | Compare
Expression = Leaf | Not | AllOf | AnyOf


def parse(text: str) -> Expression:
    """Return the tree of a selector.

    Raises:
        UsageError: at the character where it stops being one.
    """
    if len(text) > MAX_CHARACTERS:
        raise UsageError(
            f"the selector has {len(text):,} characters; the limit is {MAX_CHARACTERS:,}",
            hint="give these hosts a group, and name the group",
        )
    return _Parser(text).parse()


def write(expression: Expression) -> str:
    """Return a selector that `parse` reads as this very tree."""
    match expression:
        case Named(name):
            return name if _BARE.fullmatch(name) and name not in _WORDS else f'"{name}"'
        case Pattern(glob):
            return glob
        case Compare(key, operator, value):
            return key + operator + (value if _BARE.fullmatch(value) else f'"{value}"')
        case Not(inner):
            return "!" + _inner(inner)
        case AllOf(parts):
            return " & ".join(_inner(part) for part in parts)
        case AnyOf(parts):
            return ", ".join(
                f"({write(part)})" if isinstance(part, AnyOf) else write(part) for part in parts
            )


def _inner(part: Expression) -> str:
    return f"({write(part)})" if isinstance(part, AllOf | AnyOf) else write(part)


def wrong(text: str, at: int, what: str, hint: str) -> UsageError:
    """Return the error of a selector that goes wrong at its character `at` (from 0)."""
    return UsageError(f"in the selector {_around(text, at)}: {what}", hint=hint)


def _around(text: str, at: int) -> str:
    """The whole selector with the place, or the part of a long one that matters."""
    if len(text) <= 2 * _SHOWN:
        return f"{_quote(text)}, character {at + 1}"
    start, end = max(0, at - _SHOWN), at + _SHOWN
    part = ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
    return f"{_quote(part)}, character {at + 1}"


def _quote(text: str) -> str:
    return f"'{visible(text)}'"


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._skip_space()

    def parse(self) -> Expression:
        if self._at == len(self._text):
            raise UsageError("the selector is empty", hint="name a host, a group, or `all`")
        found = self._union(0)
        if self._at < len(self._text):
            token = self._peek() or self._text[self._at :].split(maxsplit=1)[0]
            self._fail(
                f"'{shorten(token)}' is left over",
                "join two names with a comma (either) or & (both)",
            )
        return found

    def _union(self, depth: int) -> Expression:
        parts = self._several(",|", self._intersection, depth)
        return parts[0] if len(parts) == 1 else AnyOf(parts)

    def _intersection(self, depth: int) -> Expression:
        parts = self._several("&", self._factor, depth)
        return parts[0] if len(parts) == 1 else AllOf(parts)

    def _several(
        self, joints: str, part: Callable[[int], Expression], depth: int
    ) -> tuple[Expression, ...]:
        parts = [part(depth)]
        while (symbol := self._peek()) and symbol in joints:
            self._take()
            parts.append(part(depth))
        return tuple(parts)

    def _factor(self, depth: int) -> Expression:
        negated = False
        while self._peek() == "!":
            self._take()
            negated = not negated
        inner = self._parenthesis(depth) if self._peek() == "(" else self._leaf()
        if not negated:
            return inner
        return inner.inner if isinstance(inner, Not) else Not(inner)

    def _parenthesis(self, depth: int) -> Expression:
        if depth == MAX_NESTING:
            self._fail(
                f"parentheses stand more than {MAX_NESTING} deep", "flatten it, or use groups"
            )
        opened = self._at
        self._take()
        inner = self._union(depth + 1)
        if self._peek() != ")":
            if self._at < len(self._text) and not self._peek():
                self._fail("a comma or & is missing here", "as in: (web, api) & prod")
            self._at = opened
            self._fail("a closing parenthesis is missing for this one", "add a )")
        self._take()
        return inner

    def _leaf(self) -> Expression:
        start = self._at
        if start == len(self._text):
            self._fail("it ends too early", "as in: web & env=prod, !web-03")
        if self._peek():
            self._fail(f"{self._peek()!r} stands where a name belongs", "as in: web & !web-03")
        quoted = self._quoted()
        if quoted is not None:
            return Named(quoted, start)
        word = self._match(_WORD)
        if word is None:
            token = self._text[start]
            self._fail(
                f"{token!r} stands where a name belongs",
                "close the quote" if token in "'\"" else "as in: env=prod, memory>=8",
            )
        operator = self._match(_OPERATOR)
        if operator is not None:
            return self._compare(word, operator, start)
        return Pattern(word, start) if _GLOB.search(word) else Named(word, start)

    def _compare(self, key: str, operator: str, start: int) -> Compare:
        if operator in _HABITS:
            self._at = start
            self._fail(f"{operator} is no comparison", f"write {key}{_HABITS[operator]}VALUE")
        at = self._at
        value = self._quoted()
        if value is None:
            value = self._match(_VALUE)
        if value is None:
            self._fail("a value is missing", f'for the empty one, write {key}{operator}""')
        if operator[0] in "<>" and number_of(value) is None:
            self._at = at
            self._fail(f"'{shorten(value)}' is no number", f"as in: {key}{operator}8")
        return Compare(key, cast("Operator", operator), value, start)

    # Tokens

    def _peek(self) -> str:
        """The symbol that comes next, whichever way it is written; "" for anything else."""
        if _OPERATOR.match(self._text, self._at):
            return ""
        symbol = _SYMBOL.match(self._text, self._at)
        if symbol:
            return symbol[0]
        word = _WORD.match(self._text, self._at)
        return _WORDS.get(word[0], "") if word else ""

    def _take(self) -> None:
        """Go beyond the symbol that `_peek` has seen."""
        if self._match(_SYMBOL) is None:
            self._match(_WORD)

    def _quoted(self) -> str | None:
        match = _QUOTED.match(self._text, self._at)
        if match is None:
            return None
        self._at = match.end()
        self._skip_space()
        return match[1] if match[1] is not None else match[2]

    def _match(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self._text, self._at)
        if match is None:
            return None
        self._at = match.end()
        self._skip_space()
        return match[0]

    def _skip_space(self) -> None:
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at

    def _fail(self, what: str, hint: str) -> NoReturn:
        raise wrong(self._text, self._at, what, hint)


def number_of(text: str) -> float | None:
    """Return what `text` is as a finite number, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
