"""One value in a text on a host: read as its reader reads it, and rewritten with nothing else.

Three kinds of text: an EnvironmentFile of systemd's, a drop-in of runbook's own for `Environment=`,
and any text in which a regular expression finds one line. A text that is rewritten is read again:
what would not come out as it went in is refused. No message repeats a value: it may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_COMMENTS, _NEWLINES, _SPACES = "#;", "\n\r", " \t\n\r"
#: What a backslash takes its meaning from inside double quotes (systemd's SHELL_NEED_ESCAPE).
_NEED_ESCAPE = '"\\`$'
#: Needs no quotes in any shell, nor in systemd.
_PLAIN = re.compile(r"[A-Za-z0-9_@%+:,./=-]+")
_SHELL_EXPORT = re.compile(r"export\s+(?P<key>[A-Za-z_][A-Za-z0-9_]*)")


class CannotSet(ValueError):
    """The text has no such value, or cannot hold it; the message says why, without any value."""


def value_problem(value: str) -> str | None:
    """Say why no process would be started with this value, or None.

    systemd drops a variable with a control character but tab and line end, and one that is no
    UTF-8 or holds a noncharacter (`env_value_is_valid`, `unichar_is_valid`).
    """
    for char in value:
        code = ord(char)
        if (code < 0x20 and char not in "\t\n") or code == 0x7F:
            return f"it holds the control character U+{code:04X}, and systemd drops such a variable"
        if 0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE:
            return (
                f"it holds U+{code:04X}, which is no character, and systemd drops such a variable"
            )
    return None


def _check_value(value: str) -> None:
    problem = value_problem(value)
    if problem is not None:
        raise CannotSet(f"the new value cannot be set: {problem}")


# ---- an EnvironmentFile ----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """One `KEY=value` of an EnvironmentFile; positions are of the text."""

    key: str
    value: str
    #: Where what follows the `=` begins, and where it ends: at the line end, or the text's.
    begin: int
    end: int
    #: Its line, from 1.
    line: int


def assignments(text: str, *, comments_go_on: bool = False) -> list[Assignment]:
    """Return what systemd reads in an EnvironmentFile, in order; the last of a key wins.

    Its own state machine (`parse_env_file_internal`): `#` and `;` begin a comment where a key could
    begin, quotes may stand anywhere in a value, a backslash takes the next character as it is, and
    swallows a line end. `comments_go_on`: a backslash at the end of a comment takes the next line
    into the comment, as it does before systemd 254.
    """
    return list(_Reader(text, comments_go_on=comments_go_on).read())


class _Reader:
    def __init__(self, text: str, *, comments_go_on: bool) -> None:
        self._text = text
        self._comments_go_on = comments_go_on
        self._at = 0

    def read(self) -> Iterator[Assignment]:
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in _SPACES:
                self._at += 1
            elif char in _COMMENTS:
                self._skip_comment()
            else:
                found = self._assignment()
                if found is not None:
                    yield found

    def _skip_comment(self) -> None:
        while (char := self._take()) and char not in _NEWLINES:
            if char == "\\":
                char = self._take()
                if char and char in _NEWLINES and not self._comments_go_on:
                    return

    def _assignment(self) -> Assignment | None:
        start = self._at
        self._at += 1  # whatever it is: even a `=` begins a key here
        while (char := self._take()) != "=":
            if not char or char in _NEWLINES:
                return None  # a line without `=` says nothing
        key, begin = self._text[start : self._at - 1].rstrip(_SPACES), self._at
        value = self._value()
        line = self._text.count("\n", 0, start) + 1
        return Assignment(key=key, value=value, begin=begin, end=self._at, line=line)

    def _value(self) -> str:
        """Read up to the line end; quotes open only where no plain character has come before."""
        parts: list[str] = []
        begun, held = False, 0  # up to `held` nothing is white space at the end
        while (char := self._peek()) and char not in _NEWLINES:
            self._at += 1
            if char == "\\":
                escaped = self._take()
                parts += [escaped] if escaped and escaped not in _NEWLINES else []
                begun, held = True, len(parts)
            elif not begun and char in "'\"":
                parts += self._single() if char == "'" else self._double()
                held = len(parts)
            elif begun or char not in _SPACES:
                parts.append(char)
                begun = True
        while len(parts) > held and parts[-1] in _SPACES:
            parts.pop()
        return "".join(parts)

    def _single(self) -> list[str]:
        parts: list[str] = []
        while (char := self._take()) and char != "'":
            parts.append(char)
        return parts

    def _double(self) -> list[str]:
        parts: list[str] = []
        while (char := self._take()) and char != '"':
            if char != "\\":
                parts.append(char)
                continue
            escaped = self._take()
            if escaped and escaped in _NEED_ESCAPE:
                parts.append(escaped)
            elif escaped and escaped != "\n":
                parts += ["\\", escaped]
        return parts

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._peek()
        self._at += len(char)
        return char


def env_value(text: str, key: str) -> str | None:
    """Return what systemd takes a variable to be; None when the text does not set it.

    Raises:
        CannotSet: where systemd's versions differ, or only a shell would see the assignment.
    """
    found = _last(text, key)
    return found.value if found is not None else None


def _last(text: str, key: str) -> Assignment | None:
    read = assignments(text)
    found = next((each for each in reversed(read) if each.key == key), None)
    older = assignments(text, comments_go_on=True)
    if found != next((each for each in reversed(older) if each.key == key), None):
        raise CannotSet(
            f"{key} stands after a comment that ends in a backslash: systemd before 254 takes it"
            " for a part of the comment, a later one does not"
        )
    exported = [(m["key"], a.line) for a in read if (m := _SHELL_EXPORT.fullmatch(a.key))]
    line = next((line for name, line in exported if name == key), None)
    if line is not None and (found is None or found.line < line):
        raise CannotSet(
            f"`export {key}=` in line {line} is as shells write it: systemd does not understand it,"
            " and leaves the line out"
        )
    return found


def with_env(text: str, key: str, value: str) -> str:
    """Return an EnvironmentFile's text in which a variable has a value; no other line changes.

    The last assignment is rewritten, quoted as it was where that can be; one that is missing is
    added at the end.

    Raises:
        CannotSet: see `env_value`; and for a value that no process would get.
    """
    _check_value(value)
    found = _last(text, key)
    if found is None:
        gap = "" if not text or text.endswith("\n") else "\n"
        written = f"{text}{gap}{key}={_quoted(value, '')}\n"
    else:
        raw = text[found.begin : found.end].lstrip(_SPACES)
        written = text[: found.begin] + _quoted(value, raw[:1]) + text[found.end :]
    _check_rewritten(text, written, key, value)
    return written


def _check_rewritten(old: str, new: str, key: str, value: str) -> None:
    """Read it again: one variable has the value, every other is as it was."""
    for comments_go_on in (False, True):
        before = _others(assignments(old, comments_go_on=comments_go_on), key)
        read = assignments(new, comments_go_on=comments_go_on)
        last = next((each.value for each in reversed(read) if each.key == key), None)
        if last != value or _others(read, key) != before:
            raise CannotSet(
                f"{key} cannot be set without a change to another line: a quote that is not closed,"
                " or a comment that ends in a backslash, stands before it"
            )


def _others(read: list[Assignment], key: str) -> list[tuple[str, str]]:
    return [(each.key, each.value) for each in read if each.key != key]


def _quoted(value: str, quote: str) -> str:
    """Return a value as systemd and a shell read it alike."""
    if not quote or quote not in "'\"":
        quote = "" if _PLAIN.fullmatch(value) else '"'
    if quote == "'" and "'" in value:
        quote = '"'
    if quote == '"':
        return '"' + "".join(f"\\{c}" if c in _NEED_ESCAPE else c for c in value) + '"'
    return f"{quote}{value}{quote}"


# ---- a drop-in of runbook's own --------------------------------------------------------------

#: Its first line; a run id follows. By it a later run knows that there was no such file before.
MADE_BY = "# Written by runbook; there was no such file before run "
_SECTION = "[Service]"
_ENVIRONMENT = re.compile(r'Environment="(?P<key>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)"')
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "%": "%%"}
_UNESCAPED = {written: char for char, written in _ESCAPES.items()}
_ESCAPED = re.compile(r'\\[\\"nt]|%%|[^\\"%]', re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class DropIn:
    """A drop-in for `Environment=`, as runbook writes it."""

    #: The run that made the file.
    made_by: str
    values: Mapping[str, str]


def drop_in_path(unit: str) -> str:
    """Return where runbook keeps what it lays over a unit."""
    return f"/etc/systemd/system/{unit}.d/50-runbook.conf"


def drop_in_text(drop_in: DropIn) -> str:
    """Return the file: one `Environment=` a variable, with systemd's own escapes.

    Inside double quotes systemd reads C escapes, then specifiers (`%`); a `$` is a `$`.
    """
    lines = [
        f'Environment="{key}={"".join(_ESCAPES.get(char, char) for char in value)}"'
        for key, value in drop_in.values.items()
    ]
    return "\n".join([f"{MADE_BY}{drop_in.made_by}", _SECTION, *lines, ""])


def read_drop_in(text: str) -> DropIn:
    """Return what a drop-in of runbook's says.

    Raises:
        CannotSet: when it is not, to the byte, what runbook writes: somebody edits it by hand.
    """
    first, _, rest = text.partition("\n")
    section, _, body = rest.partition("\n")
    values: dict[str, str] = {}
    for line in body.split("\n")[:-1]:
        match = _ENVIRONMENT.fullmatch(line)
        if match is not None:
            escaped = _ESCAPED.findall(match["value"])
            values[match["key"]] = "".join(_UNESCAPED.get(each, each) for each in escaped)
    drop_in = DropIn(made_by=first.removeprefix(MADE_BY), values=values)
    if section != _SECTION or not first.startswith(MADE_BY) or drop_in_text(drop_in) != text:
        raise CannotSet("it holds what runbook did not write there: somebody has edited it by hand")
    return drop_in


def with_drop_in(text: str | None, key: str, value: str, run_id: str) -> str:
    """Return the drop-in with a variable in it; `text` None makes a new one.

    Raises:
        CannotSet: see `read_drop_in`; and for a value that no process would get.
    """
    _check_value(value)
    drop_in = DropIn(made_by=run_id, values={}) if text is None else read_drop_in(text)
    values = {**drop_in.values, key: value}
    written = drop_in_text(DropIn(made_by=drop_in.made_by, values=values))
    if read_drop_in(written).values != values:
        raise CannotSet(f"the new value of {key} cannot be written into a unit file")
    return written


# ---- any text, by a regular expression -------------------------------------------------------


def matched_value(text: str, pattern: str) -> str:
    """Return what the one group of a regular expression finds, in exactly one line.

    Raises:
        CannotSet: when no line matches, or several do.
    """
    begin, end = _found(text, pattern)
    return text[begin:end]


def with_matched(text: str, pattern: str, value: str) -> str:
    """Return the text with another value in the place of what the one group finds.

    Raises:
        CannotSet: see `matched_value`; and where the pattern would not find the new value.
    """
    _check_value(value)
    if "\n" in value:
        raise CannotSet("the new value has more than one line")
    begin, end = _found(text, pattern)
    written = text[:begin] + value + text[end:]
    try:
        again = matched_value(written, pattern)
    except CannotSet:
        again = None
    if again != value:
        raise CannotSet(f"{pattern!r} would not find the new value in its line any more")
    return written


def _found(text: str, pattern: str) -> tuple[int, int]:
    spans: list[tuple[int, int]] = []
    numbers: list[int] = []
    start = 0
    for number, line in enumerate(text.split("\n"), 1):
        match = re.search(pattern, line.removesuffix("\r"))
        if match is not None and match.start(1) >= 0:
            spans.append((start + match.start(1), start + match.end(1)))
            numbers.append(number)
        start += len(line) + 1
    if not spans:
        raise CannotSet(f"no line matches {pattern!r}")
    if len(spans) > 1:
        lines = ", ".join(map(str, numbers[:5]))
        raise CannotSet(f"{pattern!r} finds {len(spans)} lines ({lines}), and it must be one")
    return spans[0]
