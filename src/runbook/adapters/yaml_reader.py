"""Reads playbooks and inventories: YAML 1.2 without its traps, every value with its place.

The parser's events become plain values here, without recursion and without the library's own
constructors, so that nothing in a file can choose a type, run code or exhaust the machine.
Mistakes are collected and raised together, as one `InvalidDocument`.
"""

from __future__ import annotations

import errno
import math
import os
import re
import stat
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from runbook.model.document import (
    Document,
    Place,
    Problem,
    excerpt,
    nearest,
    split_lines,
    visible,
)
from runbook.model.errors import InvalidDocument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from runbook.model.document import DocumentPath

Kind = Literal["playbook", "inventory"]

MAX_BYTES: dict[Kind, int] = {"playbook": 1_000_000, "inventory": 16_000_000}
MAX_DEPTH = 60
#: How many nodes aliases may add; what is written out is bounded by the file's size already.
MAX_ALIASED_NODES = 200_000
MAX_PROBLEMS = 50
_INTEGERS = range(-(2**63), 2**63)
_LONGEST_QUOTE = 40


def read_document(path: Path, *, max_bytes: int | None = None, kind: Kind = "playbook") -> Document:
    """Read the YAML file at `path`, or raise `InvalidDocument` with all that is wrong with it."""
    data = _read_bytes(path, kind, MAX_BYTES[kind] if max_bytes is None else max_bytes)
    return parse_document(_decode(data, str(path)), str(path))


def parse_document(text: str, source: str) -> Document:
    """Parse YAML `text`; `source` is the name its places and problems carry."""
    text = text.removeprefix("\ufeff")
    problems = list(_unwelcome_characters(text, source))
    if not problems:
        builder = _Builder(source)
        builder.build(_events(text))
        problems = builder.problems
    if problems:
        raise InvalidDocument(_with_excerpts(problems, text))
    return Document(builder.value, source, text, builder.places, builder.key_places)


def _with_excerpts(problems: Iterable[Problem], text: str) -> list[Problem]:
    lines = split_lines(text)
    return [
        replace(problem, excerpt=excerpt(lines, problem.place)) if problem.place else problem
        for problem in problems
    ]


# --- from the disk to text ---------------------------------------------------------------------


def _read_bytes(path: Path, kind: Kind, max_bytes: int) -> bytes:
    """All of a regular file's bytes, none of one that is too large."""
    try:
        # Without O_NONBLOCK, opening a FIFO waits for somebody to write into it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            _refuse_irregular(status.st_mode, path, kind)
            # One byte more than allowed: some files (in /proc) do not tell their size.
            data = _read(descriptor, max_bytes + 1) if status.st_size <= max_bytes else None
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unreadable(error, path, kind) from error
    except ValueError as error:  # a NUL in the path
        raise _refusal(f"{_name(path)} is no file name: {error}") from error
    if data is None or len(data) > max_bytes:
        size = f"{status.st_size:,} bytes" if data is None else f"more than {max_bytes:,} bytes"
        message = f"{_name(path)} is too large for {_a(kind)}: {size}, the limit is {max_bytes:,}"
        raise _refusal(message, f"check that this is {_a(kind)}; if it is, split it")
    return data


def _read(descriptor: int, count: int) -> bytes:
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(count)


def _refuse_irregular(mode: int, path: Path, kind: Kind) -> None:
    if stat.S_ISDIR(mode):
        raise _refusal(f"{_name(path)} is a directory", f"name {_a(kind)} file inside it")
    if stat.S_ISFIFO(mode):
        hint = "write its output to a file first and name that file"
        raise _refusal(f"{_name(path)} is a pipe (FIFO), not a file", hint)
    if not stat.S_ISREG(mode):
        raise _refusal(f"{_name(path)} is a device, not a file", f"name {_a(kind)} file")


def _unreadable(error: OSError, path: Path, kind: Kind) -> InvalidDocument:
    """The refusal for a file that the operating system would not let us read."""
    if error.errno == errno.ENOENT:
        return _refusal(f"{_name(path)} does not exist", _missing_hint(path, kind))
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = f"see who may: ls -l {_name(path)}"
        return _refusal(f"{_name(path)} may not be read by this user", hint)
    if error.errno == errno.ENXIO:
        return _refusal(f"{_name(path)} is a socket, not a file", f"name {_a(kind)} file")
    reason = error.strerror or str(error)
    return _refusal(f"{_name(path)} cannot be read: {reason}", f"check the path to the {kind}")


def _missing_hint(path: Path, kind: Kind) -> str:
    """The neighbour that was probably meant, or what to check."""
    try:
        meant = nearest(path.name, os.listdir(path.parent))  # noqa: PTH208 - names, not paths
    except OSError:
        return f"its directory {_name(path.parent)} cannot be listed either: check the path"
    if meant:
        return f"did you mean {_name(path.parent / meant)}?"
    return f"check the path to the {kind}"


def _decode(data: bytes, source: str) -> str:
    """UTF-8 text, with or without a byte order mark."""
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff") or (len(data) > 1 and 0 in data[:2])
    if wide:
        message = "this file seems to be UTF-16 or UTF-32, not UTF-8"
        hint = "save it as UTF-8, or convert it: iconv -f UTF-16 -t UTF-8"
        raise InvalidDocument([Problem(message, Place(source, 1, 1), hint)])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        shown = data.decode("utf-8-sig", "backslashreplace")
        raise InvalidDocument(_with_excerpts([_wrong_byte(data, error, source)], shown)) from error


def _wrong_byte(data: bytes, error: UnicodeDecodeError, source: str) -> Problem:
    # "utf-8-sig" counts from behind the byte order mark.
    start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
    before = data[:start].decode("utf-8-sig")
    return Problem(
        f"byte 0x{data[start]:02X} is not valid UTF-8",
        _place_at(before, len(before), source),
        "save the file as UTF-8; it may be in an older encoding such as Latin-1",
    )


_UNWELCOME = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]"
)


def _unwelcome_characters(text: str, source: str) -> Iterator[Problem]:
    """Characters that YAML forbids, or that parsers take for line breaks and people do not see."""
    for count, match in enumerate(_UNWELCOME.finditer(text)):
        if count == MAX_PROBLEMS:
            return
        code = ord(match[0])
        escape = visible(match[0]) if code else r"\0"
        yield Problem(
            f"an invisible or control character stands here: U+{code:04X}",
            _place_at(text, match.start(), source),
            "remove it: text holds no NUL" if not code else f'remove it, or write "{escape}"',
        )


def _place_at(text: str, index: int, source: str) -> Place:
    before = text[:index].replace("\r\n", "\n").replace("\r", "\n")
    return Place(source, before.count("\n") + 1, len(before) - before.rfind("\n"))


def _refusal(message: str, hint: str | None = None) -> InvalidDocument:
    return InvalidDocument([Problem(message, None, hint)])


def _name(path: Path) -> str:
    return visible(str(path))


def _a(kind: Kind) -> str:
    return "an inventory" if kind == "inventory" else "a playbook"


# --- from text to events -----------------------------------------------------------------------


@dataclass(eq=False)
class _SyntaxFault(Exception):
    """The parser could not go on: its own words, and where (counted from 0)."""

    problem: str
    line: int
    column: int
    #: Where what it was reading began.
    opened: tuple[int, int] | None = None
    #: What stands at the place.
    char: str = ""
    #: Only blanks stand before it in its line.
    leads: bool = False


# What the parser raises on odd input besides its own errors (an escape beyond Unicode, an
# unfinished directive): a mistake in the file all the same, never a traceback.
_PARSER_SLIPS = (ValueError, OverflowError, LookupError, TypeError, AttributeError, AssertionError)


def _events(text: str) -> Iterator[Any]:
    """The parser's events; the one place that knows which library parses."""
    # Imported late: it takes longer to load than most files take to read.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    # Always the Python parser: the C one of some installations refuses {url: http://a:1/b}.
    events = YAML(typ="safe", pure=True).parse(text)
    line = column = 0
    try:
        for event in events:
            line, column = event.end_mark.line, event.end_mark.column
            yield event
    except MarkedYAMLError as error:
        raise _fault(error, text) from error
    except (YAMLError, *_PARSER_SLIPS) as error:
        raise _SyntaxFault("not valid YAML from here on", line, column) from error


def _fault(error: Any, text: str) -> _SyntaxFault:
    """The library's error in our terms."""
    mark = error.problem_mark or error.context_mark
    opened = error.context_mark
    index = mark.index
    line_start = max(text.rfind("\n", 0, index), text.rfind("\r", 0, index)) + 1
    return _SyntaxFault(
        problem=str(error.problem or error.context),
        line=mark.line,
        column=mark.column,
        opened=(opened.line, opened.column) if opened else None,
        char=text[index : index + 1],
        leads=not text[line_start:index].strip(),
    )


@dataclass(frozen=True, slots=True)
class _Reading:
    """How one of the parser's complaints reads to a person."""

    pattern: str
    message: str
    hint: str
    #: The mistake is where the construct was opened, not where the parser gave up.
    at_opening: bool = False


_TAB_INDENT = _Reading(
    "", "a tab is used to indent; YAML takes spaces only", "replace the tab with spaces"
)
_TAB_BETWEEN = _Reading("", "a tab stands where a space is wanted", "replace the tab with a space")

# The first that matches counts.
_READINGS = (
    _Reading(
        "cannot start any token",
        "{char} cannot start a bare value",
        'quote the value: "{char}..."',
    ),
    _Reading(
        "mapping values are not allowed",
        "a ':' is not expected here",
        "quote a value that holds ': '; or give this line the same indent as its neighbours",
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
        "found unexpected end of stream|found unexpected document separator",
        "this quote is not closed",
        "close it with the same quote character",
        at_opening=True,
    ),
    _Reading(
        "unknown escape character|expected escape sequence|chr\\(\\)",
        "a backslash escape that YAML does not know",
        r"double the backslash (\\), or use single quotes, where it stands for itself",
    ),
    _Reading(
        "sequence entries are not allowed",
        "a list item ('- ') is not expected here",
        "put the list on lines of its own below its key; quote a value that begins with '- '",
    ),
    _Reading(
        "expected <block end>",
        "this line does not fit those above it",
        "give it the same indent as its neighbours; check the quotes of the line before",
    ),
    _Reading(
        "expected the node content",
        "a value is missing, or this character cannot begin one: {char}",
        "write a value; quote it if it begins with a special character",
    ),
    _Reading(
        "undefined tag handle|YAML tag",
        "tags are not supported",
        "remove the tag; quote a value that begins with '!'",
    ),
    _Reading(
        "incompatible YAML document|expected a digit",
        "this file asks for another YAML version",
        "remove the %YAML line: this is YAML 1.2",
    ),
    _Reading(
        "indentation indicator|chomping or indentation",
        "what follows '|' or '>' is not understood",
        "start the text on the next line, indented",
    ),
    _Reading(
        "expected '<document start>'",
        "something is left over here, after the end of the document",
        "check the brackets and the indent of this line",
    ),
)
_UNREAD = "check the quotes, escapes, brackets and indent of this line and the one before"


def _explain(fault: _SyntaxFault, source: str) -> Problem:
    """The parser's complaint as a problem that says what to do."""
    reading = _reading_of(fault)
    if reading is None:
        place = Place(source, fault.line + 1, fault.column + 1)
        return Problem(_own_words(fault.problem), place, _UNREAD)
    line, column = (reading.at_opening and fault.opened) or (fault.line, fault.column)
    char = _quoted(fault.char) if fault.char.strip() else "the end of the line"
    hint = reading.hint.replace("{char}", fault.char)
    place = Place(source, line + 1, column + 1)
    return Problem(reading.message.replace("{char}", char), place, hint)


def _own_words(problem: str) -> str:
    """The parser's own words; to it, the file ends in a NUL."""
    return visible(problem.replace(repr("\0"), "the end of the file"))


def _reading_of(fault: _SyntaxFault) -> _Reading | None:
    if fault.char == "\t":
        return _TAB_INDENT if fault.leads else _TAB_BETWEEN
    matches = (reading for reading in _READINGS if re.search(reading.pattern, fault.problem))
    return next(matches, None)


# --- from events to values ---------------------------------------------------------------------


class _Enough(Exception):
    """There is no sense in reading on."""


@dataclass(slots=True)
class _Node:
    """A finished value, with what it costs to repeat it."""

    value: object
    count: int = 1
    height: int = 0


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been read yet."""

    node: _Node
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
class _Builder:
    """Turns events into one value, noting places and problems on the way."""

    source: str
    value: object = None
    places: dict[DocumentPath, Place] = field(default_factory=dict)
    key_places: dict[DocumentPath, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _stack: list[_Open] = field(default_factory=list)
    #: What each anchor names; None while it is still being read.
    _anchors: dict[str, _Node | None] = field(default_factory=dict)
    _aliased: int = 0
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
        except _SyntaxFault as fault:
            self.problems.append(_explain(fault, self.source))
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
            hint = "keep one document a file: remove the '---' or '...', or split the file"
            self._report("a second document begins here", self._place(event), hint)
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
        if event.anchor:
            self._anchors[event.anchor] = None
        self._stack.append(_Open(_Node(value), route, place, event.anchor))

    def _on_end(self, event: Any) -> None:  # noqa: ARG002 - handlers are called alike
        done = self._stack.pop()
        if done.anchor:
            self._anchors[done.anchor] = done.node
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
        node = _Node(self._scalar(event, place))
        if not self._stack and not event.style and not event.value:
            self._refuse_empty(place)
        if event.anchor:
            self._anchors[event.anchor] = node
        self._attach(node)

    def _scalar(self, event: Any, place: Place) -> object:
        """The value of a scalar; for an unfit one its own text, so that reading can go on."""
        try:
            if event.style:
                return _text(event.value)
            return resolve_plain(event.value)
        except _Unfit as unfit:
            self._report(unfit.message, place, unfit.hint)
            return event.value

    def _on_key(self, event: Any, place: Place) -> None:
        name = str(event.value)
        try:
            if event.style:
                _text(name)
            else:
                _check_plain_key(name)
        except _Unfit as unfit:
            self._report(unfit.message, place, unfit.hint)
        if event.anchor:
            self._anchors[event.anchor] = _Node(name)
        self._take_key(name, place)

    def _take_key(self, name: str, place: Place) -> None:
        mapping = self._stack[-1]
        first = mapping.keys.setdefault(name, place)
        if first is not place:
            message = f"the key {_quoted(name)} is here for the second time"
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
        self._attach(self._aliased_node(event.anchor, place))

    def _aliased_node(self, anchor: str, place: Place) -> _Node:
        """A copy of what `anchor` names, as long as the whole stays small."""
        shown = visible(anchor)
        if anchor not in self._anchors:
            meant = nearest(anchor, self._anchors)
            hint = (
                f"did you mean *{visible(meant)}?"
                if meant
                else "quote a value that begins with '*'"
            )
            self._report(f"nothing above is anchored as &{shown}", place, hint)
            return _Node(None)
        node = self._anchors[anchor]
        if node is None:
            message = f"*{shown} stands inside &{shown} itself, and would never end"
            self._report(message, place, "write the value out instead of the alias")
            return _Node(None)
        self._refuse_bomb(node, shown, place)
        return replace(node, value=_copy(node.value))

    def _refuse_bomb(self, node: _Node, anchor: str, place: Place) -> None:
        """Aliases of aliases multiply: a few lines can stand for billions of values."""
        self._aliased += node.count
        too_deep = len(self._stack) + node.height > MAX_DEPTH
        if self._aliased <= MAX_ALIASED_NODES and not too_deep:
            return
        limit = f"{MAX_DEPTH} levels" if too_deep else f"{MAX_ALIASED_NODES:,} values"
        message = f"*{anchor} makes the document grow beyond {limit} (an alias bomb)"
        self._report(message, place, "write the values out instead of repeating aliases")
        raise _Enough

    # What they have in common

    def _route(self) -> DocumentPath:
        """The path of the value that begins now."""
        if not self._stack:
            return ()
        top = self._stack[-1]
        if isinstance(top.node.value, list):
            return (*top.route, len(top.node.value))
        return (*top.route, top.key or "")

    def _attach(self, node: _Node) -> None:
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
            self._report(f"the tag {_shorten(tag)} is not supported", place, hint)


def _copy(value: object) -> object:
    """A copy of its own for each alias; the depth is bounded by then."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value


# --- scalars: the core schema of YAML 1.2, less what reads like one thing and means another -----


class _Unfit(Exception):
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
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def resolve_plain(raw: str) -> object:
    """The value of an unquoted scalar."""
    match = _PLAIN.fullmatch(raw)
    return _RESOLVERS[str(match.lastgroup)](raw) if match else raw


def _text(value: str) -> str:
    """The value of a quoted or block scalar; escapes can smuggle in what no program takes."""
    if "\0" in value:
        raise _Unfit(
            f"{_quoted(value)} holds a NUL character",
            r"remove the \0: no command or query takes it",
        )
    if _HALF_CHARACTER.search(value):
        hint = r"write the character itself, or its one escape (\U0001F600)"
        raise _Unfit(f"{_quoted(value)} holds half a character", hint)
    return value


def _legacy(raw: str) -> object:
    meant = "true" if raw.lower() in ("y", "yes", "on") else "false"
    raise _Unfit(
        f"{raw} is neither true nor false in YAML 1.2", f'write {meant}, or quote it: "{raw}"'
    )


def _padded(raw: str) -> object:
    shown = _shorten(raw)
    octal = raw.lstrip("0")
    or_octal = f", or write 0o{octal}" if octal and set(raw) <= set("01234567") else ""
    hint = f'quote it: "{shown}"{or_octal if len(raw) < _LONGEST_QUOTE else ""}'
    raise _Unfit(f"{shown} begins with a zero: octal or decimal?", hint)


def _integer(raw: str, base: int = 10) -> object:
    # Python itself refuses to convert thousands of decimal digits.
    number = int(raw, base) if len(raw) <= 70 else None
    if number is None or number not in _INTEGERS:
        raise _Unfit(
            f"{_shorten(raw)} is beyond a 64-bit integer", "quote it if it is not a number"
        )
    return number


def _float(raw: str) -> object:
    number = float(raw)
    if math.isinf(number):
        raise _Unfit(f"{_shorten(raw)} is too large a number", "quote it if it is not a number")
    return number


def _endless(raw: str) -> object:
    raise _Unfit(f"{raw} is not a finite number", f'write a number, or quote it: "{raw}"')


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
_NO_STRINGS = {"null": "null", "true": "a boolean", "false": "a boolean"}


def _check_plain_key(raw: str) -> None:
    """Refuse an unquoted key that is not a string, or that some readers take for something else."""
    if raw == "<<":
        hint = "write the entries out, or use defaults or groups; quote it if it is a name"
        raise _Unfit("merge keys (<<) are not part of YAML 1.2", hint)
    match = _PLAIN.fullmatch(raw)
    if match is None:
        return
    if not raw:
        raise _Unfit("a key is missing before the ':'", 'write the key, or quote it: ""')
    group = str(match.lastgroup)
    what = "a boolean to many readers" if group == "legacy" else _NO_STRINGS.get(group, "a number")
    shown = _shorten(raw)
    raise _Unfit(f"the key {shown} is {what}, not a string", f'quote it: "{shown}"')


def _quoted(text: str) -> str:
    return f"'{_shorten(text)}'"


def _shorten(text: str) -> str:
    """`text` safe to print, and short enough for a message."""
    shown = visible(text[: _LONGEST_QUOTE + 1])
    return shown if len(shown) <= _LONGEST_QUOTE else shown[: _LONGEST_QUOTE - 3] + "..."
