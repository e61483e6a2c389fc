"""What a scalar means: YAML 1.2's core schema, less what reads like one thing and is another."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from runbook.model.document import LONGEST_QUOTE, quoted, shorten

if TYPE_CHECKING:
    from collections.abc import Callable

_INTEGERS = range(-(2**63), 2**63)


class Unfit(Exception):
    """A scalar that is refused."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


_PLAIN = re.compile(
    r"""
      (?P<null>   | ~ | null | Null | NULL )
    | (?P<true>   true | True | TRUE )
    | (?P<false>  false | False | FALSE )
    | (?P<legacy> [yYnN] | yes | Yes | YES | no | No | NO | on | On | ON | off | Off | OFF )
    | (?P<padded> [-+]? 0 [0-9]+ )
    | (?P<int>    [-+]? [0-9]+ )
    | (?P<octal>  0o [0-7]+ )
    | (?P<hex>    0x [0-9a-fA-F]+ )
    | (?P<float>  [-+]? (?: \. [0-9]+ | [0-9]+ (?: \. [0-9]* )? ) (?: [eE] [-+]? [0-9]+ )? )
    | (?P<endless> [-+]? \. (?: inf | Inf | INF ) | \. (?: nan | NaN | NAN ) )
    """,
    re.VERBOSE,
)


def resolve_plain(raw: str) -> object:
    """Return the value of an unquoted scalar.

    Raises:
        Unfit: when it is ambiguous (`yes`, `0755`), or no number a program can take.
    """
    _refuse_tab(raw)
    match = _PLAIN.fullmatch(raw)
    return _RESOLVERS[str(match.lastgroup)](raw) if match else raw


def _refuse_tab(raw: str) -> None:
    """YAML lets a tab stand inside an unquoted text, where nobody sees it."""
    if "\t" in raw:
        hint = f'replace it with a space, or quote the text: "{shorten(raw)}"'
        raise Unfit(f"{quoted(raw)} holds a tab", hint)


def check_text(value: str) -> str:
    """Return a quoted or block scalar; an escape can smuggle in what no program takes.

    Raises:
        Unfit: when it holds a NUL.
    """
    if "\0" in value:
        raise Unfit(
            f"{quoted(value)} holds a NUL character",
            r"remove the \0: no command or query takes it",
        )
    return value


def _legacy(raw: str) -> object:
    meant = "true" if raw.lower() in ("y", "yes", "on") else "false"
    raise Unfit(
        f"{raw} is neither true nor false in YAML 1.2", f'write {meant}, or quote it: "{raw}"'
    )


def _padded(raw: str) -> object:
    shown = shorten(raw)
    octal = raw.lstrip("0")
    or_octal = f", or write 0o{octal}" if octal and set(raw) <= set("01234567") else ""
    hint = f'quote it: "{shown}"{or_octal if len(raw) < LONGEST_QUOTE else ""}'
    raise Unfit(f"{shown} begins with a zero: octal or decimal?", hint)


def _integer(raw: str, base: int = 10) -> object:
    # Python itself refuses to convert thousands of decimal digits.
    number = int(raw, base) if len(raw) <= 70 else None
    if number is None or number not in _INTEGERS:
        raise Unfit(f"{shorten(raw)} is beyond a 64-bit integer", "quote it if it is not a number")
    return number


def _float(raw: str) -> object:
    number = float(raw)
    if math.isinf(number):
        raise Unfit(f"{shorten(raw)} is too large a number", "quote it if it is not a number")
    return number


def _endless(raw: str) -> object:
    raise Unfit(f"{raw} is not a finite number", f'write a number, or quote it: "{raw}"')


_RESOLVERS: dict[str, Callable[[str], object]] = {
    "null": lambda _: None,
    "true": lambda _: True,
    "false": lambda _: False,
    "legacy": _legacy,
    "padded": _padded,
    "int": _integer,
    "octal": lambda raw: _integer(raw[2:], 8),
    "hex": lambda raw: _integer(raw[2:], 16),
    "float": _float,
    "endless": _endless,
}
#: A key of the inventory's own (`drain: {haproxy: {on: lb-1}}`); YAML 1.2 reads it as the word.
_OWN_KEYS = {"on"}
_NO_STRINGS = {"null": "null", "true": "a boolean", "false": "a boolean"}


def check_plain_key(raw: str) -> None:
    """Refuse an unquoted key that is not a string, or that some readers take for something else.

    Raises:
        Unfit: with what it is taken for.
    """
    _refuse_tab(raw)
    if raw == "<<":
        hint = "write the entries out, or use defaults or groups; quote it if it is a name"
        raise Unfit("merge keys (<<) are not part of YAML 1.2", hint)
    match = _PLAIN.fullmatch(raw)
    if match is None or raw in _OWN_KEYS:
        return
    if not raw:
        raise Unfit("a key is missing before the ':'", 'write the key, or quote it: ""')
    group = str(match.lastgroup)
    what = "a boolean to many readers" if group == "legacy" else _NO_STRINGS.get(group, "a number")
    shown = shorten(raw)
    raise Unfit(f"the key {shown} is {what}, not a string", f'quote it: "{shown}"')
