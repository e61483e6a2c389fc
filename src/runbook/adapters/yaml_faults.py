"""Says the parser's complaints in words that tell what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runbook.model.document import Place, Problem, quoted, visible


@dataclass(eq=False)
class SyntaxFault(Exception):
    """The parser could not go on: its own words, and where (counted from 0)."""

    problem: str
    line: int
    column: int
    #: What it was doing, in its own words: "while scanning a tag".
    context: str = ""
    #: Where what it was reading began.
    opened: tuple[int, int] | None = None
    #: What stands at the place; nothing at the end of the file.
    char: str = ""
    #: Only blanks stand before it in its line.
    leads: bool = False


@dataclass(frozen=True, slots=True)
class _Reading:
    """How one of the parser's complaints reads to a person."""

    #: Searched for in the parser's "context: problem at 'character'".
    pattern: str
    message: str
    hint: str
    #: The mistake is where the construct was opened, not where the parser gave up.
    at_opening: bool = False


_TAB_INDENT = _Reading(
    "", "a tab is used to indent; YAML takes spaces only", "replace the tab with spaces"
)
_TAB_BETWEEN = _Reading("", "a tab stands where a space is wanted", "replace the tab with a space")

SECOND_DOCUMENT = "a second document begins here"
ONE_DOCUMENT = "keep one document a file: remove the '---' or '...', or split the file"

# The first that matches counts.
_READINGS = (
    _Reading("after '...'", SECOND_DOCUMENT, ONE_DOCUMENT),
    _Reading(
        "(expected key|node content) at ':'",
        "a key is missing before the ':'",
        "write the key; quote a value that begins with ':'",
    ),
    _Reading(
        "cannot start any token",
        "{char} cannot start a bare value",
        'quote the value: "{raw}..."',
    ),
    _Reading(
        "mapping values are not allowed",
        "a ':' is not expected here",
        "quote a value that holds ': '; or give this line the same indent as its neighbours",
    ),
    _Reading(
        "found unexpected ':'",
        "a ':' is not expected here",
        "quote a value that ends in ':'; put a space after the ':' of an entry",
    ),
    _Reading(
        r"could not find expected ':'",
        "this line is no 'key: value'",
        "write 'key: value'; check for a missing ':', a missing quote or a wrong indent",
        at_opening=True,
    ),
    _Reading(
        r"expected ',' or '\]'",
        "this list's '[' is not closed, or a ',' is missing in it",
        "close it with ']'; separate its items with ','",
        at_opening=True,
    ),
    _Reading(
        r"expected ',' or '\}'",
        "this mapping's '{' is not closed, or a ',' is missing in it",
        "close it with '}'; separate its entries with ','",
        at_opening=True,
    ),
    _Reading(
        "found unexpected end of stream|found unexpected document indicator",
        "this quote is not closed",
        "close it with the same quote character",
        at_opening=True,
    ),
    _Reading(
        "unknown escape character|expected hexdecimal number",
        "a backslash escape that YAML does not know",
        r"double the backslash (\\), or use single quotes, where it stands for itself",
    ),
    _Reading(
        "invalid Unicode character escape",
        "a backslash escape in this text names half a character, or none",
        r"write the character itself, or its one escape (\U0001F600)",
        at_opening=True,
    ),
    _Reading(
        "sequence entries are not allowed",
        "a list item ('- ') is not expected here",
        "put the list on lines of its own below its key; quote a value that begins with '- '",
    ),
    _Reading(
        "mapping keys are not allowed",
        "a '? ' is not expected here",
        "quote a value that begins with '? '",
    ),
    _Reading(
        "expected key|expected '-' indicator",
        "this line does not fit those above it",
        "give it the same indent as its neighbours; check the quotes of the line before",
    ),
    _Reading(
        "expected node content",
        "a value is missing, or this character cannot begin one: {char}",
        "write a value; quote it if it begins with a special character",
    ),
    _Reading(
        "scanning an alias",
        "'*' begins an alias here, and no anchor has such a name",
        "quote a value that begins with '*'; names hold letters, digits, '-' and '_'",
        at_opening=True,
    ),
    _Reading(
        "scanning an anchor",
        "'&' begins an anchor here, and this is no name for one",
        "quote a value that begins with '&'; names hold letters, digits, '-' and '_'",
        at_opening=True,
    ),
    _Reading(
        "undefined tag handle|scanning a tag|parsing a tag",
        "tags are not supported",
        "remove the tag; quote a value that begins with '!'",
        at_opening=True,
    ),
    _Reading(
        "incompatible YAML document|%YAML directive",
        "this file asks for another YAML version",
        "remove the %YAML line: this is YAML 1.2",
    ),
    _Reading(
        "directive",
        "a line that begins with '%' is a directive, and {char} is not what it goes on with",
        "remove the line; quote a value that begins with '%'",
    ),
    _Reading(
        "scanning a block scalar",
        "what follows '|' or '>' is not understood",
        "start the text on the next line, indented",
    ),
    _Reading(
        "expected <document start>",
        "something is left over here, after the end of the document",
        "check the brackets and the indent of this line",
    ),
)
_UNREAD = "check the quotes, escapes, brackets and indent of this line and the one before"


def explain(fault: SyntaxFault, source: str) -> Problem:
    """Return the parser's complaint as a problem that says what to do."""
    reading = _reading_of(fault)
    if reading is None:
        place = Place(source, fault.line + 1, fault.column + 1)
        return Problem(visible(fault.problem), place, _UNREAD)
    line, column = (reading.at_opening and fault.opened) or (fault.line, fault.column)
    message = reading.message.replace("{char}", _shown(fault.char))
    hint = reading.hint.replace("{raw}", fault.char)
    return Problem(message, Place(source, line + 1, column + 1), hint)


def _reading_of(fault: SyntaxFault) -> _Reading | None:
    if fault.char == "\t":
        return _TAB_INDENT if fault.leads else _TAB_BETWEEN
    said = f"{fault.context}: {fault.problem} at '{fault.char}'"
    return next((each for each in _READINGS if re.search(each.pattern, said)), None)


def _shown(char: str) -> str:
    if not char:
        return "the end of the file"
    return quoted(char) if char.strip() else "the end of the line"
