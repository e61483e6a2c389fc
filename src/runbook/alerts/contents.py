"""What a body may hold: strict types, bounded sizes, and text that is safe to keep and to show."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NoReturn

from runbook.model.alert import Rejected

#: Deeper than any sender goes, and far from where a reader would give up by itself.
MOST_DEPTH = 64
#: More labels than that are no labels; rules name a few.
MOST_LABELS = 64
LONGEST_NAME = 128
#: A longer value is left out, not cut: a part of a value is another value.
LONGEST_VALUE = 1000
LONGEST_TITLE = 300

_PAGERDUTY_ID = re.compile(r"[A-Z0-9]{7,14}")
_EVENT_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_EVENT_NAME = re.compile(r"[a-z][a-z0-9_.]{0,99}")


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body is.

    Raises:
        Rejected: 400 for anything else, for names that come twice, numbers that are none, invalid
            UTF-8, and what is nested too deeply.
    """
    if not body.strip():
        raise Rejected(400, "the body is empty")
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_constant=_no_number,
            parse_float=_finite,
            object_pairs_hook=_once,
        )
    except (ValueError, RecursionError) as error:
        raise Rejected(400, f"the body is no JSON: {str(error)[:80]}") from None
    if not isinstance(value, dict):
        raise Rejected(400, "the body is no JSON object")
    _check_depth(value)
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        # One reader takes the first, another the last: what was signed must mean one thing.
        raise ValueError("a name comes twice")
    return made


def _check_depth(value: dict[str, Any]) -> None:
    level: list[Any] = [value]
    for _ in range(MOST_DEPTH):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return
    raise Rejected(400, f"the body is nested more than {MOST_DEPTH} deep")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a JSON object, or an empty one for null and for whatever is none."""
    return value if isinstance(value, dict) else {}


def objects(value: Any, most: int, what: str) -> list[dict[str, Any]]:
    """Return a list of at most so many JSON objects.

    Raises:
        Rejected: 400 for anything else.
    """
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise Rejected(400, f"{what} is no list of objects")
    if len(value) > most:
        raise Rejected(400, f"{what} has {len(value)} entries; {most} are allowed")
    return value


def event_id(value: Any) -> str:
    """Return what names an event at its source.

    Raises:
        Rejected: 400 for anything that could not be one.
    """
    if not isinstance(value, str) or not _EVENT_ID.fullmatch(value):
        raise Rejected(400, "the event has no id")
    return value


def event_name(value: Any) -> str:
    """Return an event's name, as in `incident.triggered`.

    Raises:
        Rejected: 400 for anything that could not be one.
    """
    if not isinstance(value, str) or not _EVENT_NAME.fullmatch(value):
        raise Rejected(400, "the event has no name")
    return value


def pagerduty_id(value: Any) -> str | None:
    """Return an id of PagerDuty's, or None for what is none."""
    return value if isinstance(value, str) and _PAGERDUTY_ID.fullmatch(value) else None


def moment(value: Any) -> float:
    """Return seconds since the epoch of a time in ISO 8601 with its zone.

    Raises:
        Rejected: 400 for anything else.
    """
    try:
        if not isinstance(value, str) or len(value) > 40:
            raise ValueError  # noqa: TRY301 - one answer for all that is no time
        read = datetime.fromisoformat(value)
        if read.tzinfo is None:
            raise ValueError  # noqa: TRY301
        return read.timestamp()
    except (ValueError, OverflowError):
        raise Rejected(400, "a time is malformed") from None


def plain(text: str) -> str:
    """Return text in which whatever no terminal and no log should interpret is a space."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def title(value: Any) -> str:
    """Return one line for people, or nothing for what is no text."""
    if not isinstance(value, str):
        return ""
    line = " ".join(plain(value[: 4 * LONGEST_TITLE]).split())
    return line if len(line) <= LONGEST_TITLE else line[: LONGEST_TITLE - 1] + "…"


def short(value: Any) -> str | None:
    """Return a short word of the source's, as a priority's name; None for anything else."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME:
        return None
    return plain(value)


def labels(pairs: Iterable[tuple[Any, Any]]) -> dict[str, str]:
    """Return what can be a label: short printable names, values that are text or numbers."""
    kept: dict[str, str] = {}
    for name, value in pairs:
        text = _value(value)
        if text is None or not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
            continue
        if name.isprintable() and len(kept) < MOST_LABELS:
            kept[name] = plain(text)
    return kept


def _value(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        # A huge whole number is no value of a label, and Python refuses to write it.
        return str(value) if isinstance(value, float) or abs(value) < 10**18 else None
    return value if isinstance(value, str) and len(value) <= LONGEST_VALUE else None


def digest(*parts: str | bytes) -> str:
    """Return a hash over parts that cannot run into one another."""
    made = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        made.update(len(data).to_bytes(8, "big") + data)
    return made.hexdigest()[:40]
