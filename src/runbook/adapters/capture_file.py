"""Reads and writes captures: JSON files of mode 0600, replaced as a whole or not at all."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook.adapters.text_file import MAX_BYTES, read_text
from runbook.model.capture import FORMAT, FORMAT_VERSION, Capture, from_plain
from runbook.model.document import Place, Problem, shorten, visible, with_excerpts
from runbook.model.errors import DoorError, InvalidDocument, UsageError

if TYPE_CHECKING:
    from pydantic import ValidationError

#: Stands for stdout, and for stdin.
STREAM = "-"
#: Bytes at the beginning of a file that tell whether it is a capture.
_HEAD = 200
#: Problems that are listed; the rest of a broken file says nothing new.
_LISTED = 5
#: Whole numbers beyond these are no pid, count or port, and too large to calculate with.
_LARGEST = 2**63
_AT = re.compile(r" at line (\d+) column (\d+)$")


def check_writable(name: str, *, force: bool) -> None:
    """Look whether a capture may be written to a file, before the look that fills it.

    Raises:
        UsageError: when something else than a capture stands there, and not `force`.
    """
    if name == STREAM:
        return
    path = Path(name)
    try:
        if not path.parent.is_dir():
            raise UsageError(f"{visible(str(path.parent))} is no directory", hint="make it first")
        if path.is_dir() or (path.exists() and not path.is_file()):
            raise UsageError(
                f"{visible(name)} is no regular file", hint="name a file, or - for stdout"
            )
        foreign = path.is_file() and path.stat().st_size > 0 and not _is_capture(path)
    except (OSError, ValueError) as error:
        raise _unwritable(name, error) from error
    if foreign and not force:
        raise UsageError(
            f"{visible(name)} is there already, and is no capture",
            hint="name another file; --force replaces whatever it is",
        )


def write(name: str, plain: dict[str, Any]) -> None:
    """Write a capture; a file is replaced in one step, and can be read by its owner alone.

    Raises:
        DoorError: when it cannot be written; then nothing is there that was not there before.
    """
    text = json.dumps(plain, ensure_ascii=False, indent=1) + "\n"
    data = text.encode("utf-8", "replace")
    if name == STREAM:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    path = Path(name)
    try:
        _replace(path, data)
    except (OSError, ValueError) as error:
        raise _unwritable(name, error) from error


def read(name: str) -> Capture:
    """Return the capture in a file.

    Raises:
        InvalidDocument: when there is none, it is too large, or it is no capture that this
            runbook knows.
    """
    source = "<stdin>" if name == STREAM else name
    text = _stdin() if name == STREAM else read_text(Path(name), kind="capture")
    plain = _parsed(text, source)
    _check_kind(plain, source)
    _check_numbers(plain, source)
    from pydantic import ValidationError

    try:
        return from_plain(plain)
    except ValidationError as error:
        raise InvalidDocument(list(_problems(error, plain, source))) from None


def _is_capture(path: Path) -> bool:
    with path.open("rb") as file:
        return f'"{FORMAT}"'.encode() in file.read(_HEAD)


def _replace(path: Path, data: bytes) -> None:
    # mkstemp makes files of mode 0600.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def _unwritable(name: str, error: Exception) -> DoorError:
    why = error.strerror if isinstance(error, OSError) else error
    return DoorError(
        f"the capture {visible(name)} cannot be written: {why}",
        hint="name a file that can be written, or - for stdout",
    )


def _stdin() -> str:
    data = sys.stdin.buffer.read(MAX_BYTES["capture"] + 1)
    if len(data) > MAX_BYTES["capture"]:
        raise _refused("<stdin>", f"more than {MAX_BYTES['capture']:,} bytes", "is it a capture?")
    return data.decode("utf-8", "replace")


def _parsed(text: str, source: str) -> Any:
    from pydantic_core import from_json

    try:
        # Its depth is bounded, and a number must be finite.
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise _no_json(str(error), text, source) from None


def _no_json(said: str, text: str, source: str) -> InvalidDocument:
    at = _AT.search(said)
    place = Place(source, int(at[1]), int(at[2])) if at else None
    what = _AT.sub("", said)
    if what.startswith("EOF") and FORMAT in text[:_HEAD]:
        problem = Problem(
            "the capture ends too early: a part of it is missing",
            place,
            "copy it anew as a whole, or save it again",
        )
    else:
        problem = Problem(
            f"no JSON, so no capture: {what}",
            place,
            "name a file that `runbook diagnose TARGET --save FILE` wrote",
        )
    return InvalidDocument(with_excerpts([problem], text))


def _check_kind(plain: Any, source: str) -> None:
    """See to it that it says what it is, and is of a version that we know."""
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise _refused(
            source,
            f"JSON, but no capture: it has no `format: {FORMAT}`",
            "name a file that `runbook diagnose TARGET --save FILE` wrote",
        )
    version = plain.get("format_version")
    if version == FORMAT_VERSION and not isinstance(version, bool):
        return
    by = shorten(str(plain.get("runbook_version", "?")))
    newer = isinstance(version, int) and version > FORMAT_VERSION
    raise _refused(
        source,
        f"a capture of format version {shorten(str(version))}; this runbook knows version"
        f" {FORMAT_VERSION}",
        f"it was saved by runbook {by}: upgrade this one" if newer else "save it again",
    )


def _check_numbers(value: Any, source: str) -> None:
    """Refuse numbers that no server ever told, before anything is calculated with them."""
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)
        elif isinstance(item, int | float) and abs(item) > _LARGEST:
            raise _refused(source, "a number in it is beyond all bounds", "save it again")


def _problems(error: ValidationError, plain: Any, source: str) -> list[Problem]:
    details = error.errors(include_url=False, include_input=False)
    by = shorten(str(plain.get("runbook_version", "?")))
    found = []
    for item in details[:_LISTED]:
        where = visible(".".join(map(str, item["loc"])))
        message = item["msg"].removeprefix("Value error, ")
        found.append(Problem(f"{visible(source)}: {where}: {message}"))
    hint = f"it was saved by runbook {by}, and changed since, or is of a newer one"
    return [*found[:-1], Problem(found[-1].message, None, hint)]


def _refused(source: str, what: str, hint: str) -> InvalidDocument:
    return InvalidDocument([Problem(f"{visible(source)} is {what}", None, hint)])
