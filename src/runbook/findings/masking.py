"""Statements without the values in them: passwords and personal data stay out of every record."""

from __future__ import annotations

import re

# PostgreSQL's scanner takes every character beyond ASCII for a letter; the sets name the ASCII
# characters that are none.
_LETTER = r"[^\x00-@\[-^`{-\x7f]"  # A-Z a-z _
_TAG = r"[^\x00-/:-@\[-^`{-\x7f]"  # those and 0-9
_NAME = r"[^\x00-\x23\x25-/:-@\[-^`{-\x7f]"  # those and $
_TOKEN = re.compile(
    rf"""
      (?P<line>--[^\r\n]*)
    | (?P<block>/\*)
    | (?P<dollar>\$(?:{_LETTER}{_TAG}*)?\$)
    | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*')
    | (?P<string>'(?:[^'\\]|''|\\(?!'))*')
    | (?P<quoted>"(?:[^"]|"")*")
    | (?P<open>[eE]?'|")
    | (?P<parameter>\$[0-9]+)
    | (?P<number>[0-9][0-9A-Za-z_.]*)
    | (?P<word>{_LETTER}{_NAME}*)
    """,
    re.VERBOSE | re.DOTALL,
)
_STRING = "'…'"
#: What takes the place of a whole token; the others stay as they are.
_STANDS_FOR = {
    "line": "",
    "block": " ",
    "dollar": _STRING,
    "escaped": _STRING,
    "string": _STRING,
    "number": "?",
}


def masked(sql: str) -> str:
    """Return a statement, possibly cut off, with its values masked.

    Literals become '…' and numbers ?, comments blanks, and after the word PASSWORD nothing is kept.
    What does not end (the server keeps the beginning of a statement only) is masked to the end; so
    is a literal with a backslash before a quote, which ends here or later by a setting of the
    session that cannot be seen.
    """
    kept: list[str] = []
    position = 0
    while match := _TOKEN.search(sql, position):
        text, position = _replaced(sql, match)
        kept += (sql[match.pos : match.start()], text)
    return "".join([*kept, sql[position:]])


def _replaced(sql: str, match: re.Match[str]) -> tuple[str, int]:
    """Return what stands for a token, and where the next one may begin."""
    kind, end = match.lastgroup or "", match.end()
    text = _STANDS_FOR.get(kind, match[0])
    if kind == "block":
        end = _end_of_block(sql, end)
    elif kind == "dollar":
        close = sql.find(match[0], end)
        end = len(sql) if close < 0 else close + len(match[0])
    elif kind == "open" or (kind == "word" and match[0].casefold() == "password"):
        text = f"{match[0]}…" if kind == "open" else f"{match[0]} …"
        end = len(sql)
    return text, end


def _end_of_block(sql: str, position: int) -> int:
    """Return where a block comment ends, the end of the text if it does not; they nest."""
    depth = 1
    while depth:
        opens, closes = sql.find("/*", position), sql.find("*/", position)
        if closes < 0:
            return len(sql)
        inner = 0 <= opens < closes
        depth += 1 if inner else -1
        position = (opens if inner else closes) + 2
    return position
