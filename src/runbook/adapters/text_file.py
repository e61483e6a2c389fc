"""Reads a text file a person wrote: regular, not too large, UTF-8, without invisible characters."""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING, Literal

from runbook.model.document import Place, Problem, nearest, visible, with_excerpts
from runbook.model.errors import InvalidDocument

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Kind = Literal["playbook", "inventory", "capture"]

#: A playbook is written by hand, and one that is packed with values is still read within 2 s; an
#: inventory may be generated for thousands of hosts; a capture has about 1 KB for each session, and
#: PostgreSQL's users rarely have more than 10,000.
MAX_BYTES: dict[Kind, int] = {
    "playbook": 300_000,
    "inventory": 16_000_000,
    "capture": 64_000_000,
}
_UNWELCOME = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]"
)


def read_text(path: Path, *, max_bytes: int | None = None, kind: Kind = "playbook") -> str:
    """Return the text of the file at `path`, of at most `max_bytes` (else its kind's limit).

    Raises:
        InvalidDocument: when there is no such file, or it is not a readable UTF-8 text.
    """
    data = _read_bytes(path, kind, MAX_BYTES[kind] if max_bytes is None else max_bytes)
    return _decode(data, str(path))


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step: nobody ever finds half of it.

    Raises:
        InvalidDocument: when it cannot be written.
    """
    name = f".{path.name}.{os.getpid()}"
    try:
        half = path.with_name(name)
        try:
            half.write_text(text, encoding="utf-8")
            half.replace(path)
        finally:
            half.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        message = f"{_name(path)} cannot be written: {reason}"
        raise _refusal(message, "name a file in a folder that you may write to") from error


def unwelcome_characters(text: str, source: str, limit: int) -> Iterator[Problem]:
    """Yield up to `limit` characters YAML forbids, or parsers alone take for line breaks."""
    for count, match in enumerate(_UNWELCOME.finditer(text)):
        if count == limit:
            return
        code = ord(match[0])
        escape = visible(match[0]) if code else r"\0"
        yield Problem(
            f"an invisible or control character stands here: U+{code:04X}",
            _place_at(text, match.start(), source),
            "remove it: text holds no NUL" if not code else f'remove it, or write "{escape}"',
        )


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
        remedy = "; if it is, split it" if kind != "capture" else ""
        raise _refusal(message, f"check that this is {_a(kind)}{remedy}")
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
        raise InvalidDocument(with_excerpts([_wrong_byte(data, error, source)], shown)) from error


def _wrong_byte(data: bytes, error: UnicodeDecodeError, source: str) -> Problem:
    # "utf-8-sig" counts from behind the byte order mark.
    start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
    before = data[:start].decode("utf-8-sig")
    return Problem(
        f"byte 0x{data[start]:02X} is not valid UTF-8",
        _place_at(before, len(before), source),
        "save the file as UTF-8; it may be in an older encoding such as Latin-1",
    )


def _place_at(text: str, index: int, source: str) -> Place:
    before = text[:index].replace("\r\n", "\n").replace("\r", "\n")
    return Place(source, before.count("\n") + 1, len(before) - before.rfind("\n"))


def _refusal(message: str, hint: str | None = None) -> InvalidDocument:
    return InvalidDocument([Problem(message, None, hint)])


def _name(path: Path) -> str:
    return visible(str(path))


def _a(kind: Kind) -> str:
    return "an inventory" if kind == "inventory" else f"a {kind}"
