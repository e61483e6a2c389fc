"""Durations, percentages and amounts as people write them, checked when a document is read."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_PERCENT = re.compile(r"(\d{1,3})%")


def parse_duration(value: object) -> float:
    """Return seconds for `90s`, `1m30s`, `250ms`, `2h` or the number 0.

    Raises:
        ValueError: for a bare number other than 0: its unit would be a guess.
    """
    if isinstance(value, float) and not isinstance(value, bool):
        return value  # already parsed: models are validated again when a plan is read back
    if value in (0, "0") and not isinstance(value, bool):  # a list has no hash
        return 0.0
    text = str(value)
    parts = list(_DURATION.finditer(text))
    if not parts or "".join(part.group() for part in parts) != text:
        raise ValueError(f"{value!r} is no duration: write it with a unit, as in 30s, 5m or 250ms")
    return float(sum(Decimal(part[1]) * _SECONDS[part[2]] for part in parts))


def format_duration(seconds: float) -> str:
    """Return `seconds` as a person would say it: `0.4s`, `12s`, `3m 20s`, `2h 05m`, `4d 3h`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def parse_percent(value: object) -> int:
    """Return the integer in `25%`; 0% and more than 100% are refused.

    Raises:
        ValueError: when `value` is no percentage between 1% and 100%.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100:
        return value  # already parsed
    match = _PERCENT.fullmatch(str(value))
    if match is None or not 1 <= int(match[1]) <= 100:
        raise ValueError(f"{value!r} is no percentage between 1% and 100%")
    return int(match[1])


def parse_amount(value: object) -> str:
    """Return a batch or a floor as written: a count (`3`) or a percentage (`"25%"`).

    Raises:
        ValueError: for 0, 0%, negative numbers and anything else.
    """
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is neither a count nor a percentage")  # noqa: TRY004 - pydantic
    if isinstance(value, int) or str(value).isdigit():
        if int(value) < 1:  # type: ignore[call-overload]
            raise ValueError("0 is no amount: use at least 1, or leave the key out")
        return str(value)
    return f"{parse_percent(value)}%"


def parse_floor(value: object) -> str:
    """Return an amount that must be kept; an explicit 0 says that everything may be down.

    Raises:
        ValueError: for negative numbers, percentages beyond 100% and anything else.
    """
    if value in (0, "0") and not isinstance(value, bool):
        return "0"
    return parse_amount(value)


def amount_floor(amount: str, total: int) -> int:
    """Return how many of `total` an amount is, rounded down but at least 1.

    Integers only: 29% of 100 is 29 (a float would make it 28.999…).
    """
    if amount.endswith("%"):
        return max(1, int(amount[:-1]) * total // 100)
    return int(amount)


def amount_ceil(amount: str, total: int) -> int:
    """Return how many of `total` an amount is, rounded up: for floors that must be kept."""
    if amount.endswith("%"):
        return -(-int(amount[:-1]) * total // 100)
    return int(amount)


_DURATION_SCHEMA = {
    "anyOf": [{"type": "string", "pattern": r"^(0|(\d+(\.\d+)?(ms|s|m|h))+)$"}, {"const": 0}],
    "description": "a duration with its unit: 30s, 5m, 1m30s, 250ms",
}
_PERCENTAGE = r"(0{0,2}[1-9]|0?[1-9]\d|100)%"
_PERCENT_SCHEMA = {
    "type": "string",
    "pattern": f"^{_PERCENTAGE}$",
    "description": "a percentage: 25%",
}
_FLOOR_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": rf"^(0|0*[1-9]\d*|{_PERCENTAGE})$"},
    ],
    "description": "a count, 0 included, or a percentage of the whole: 0, 3, 25%",
}
_AMOUNT_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": rf"^(0*[1-9]\d*|{_PERCENTAGE})$"},
    ],
    "description": "a count, or a percentage of the whole: 3, 25%",
}

#: Seconds, written `30s`, `5m`, `250ms`.
Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(_DURATION_SCHEMA)]
#: 1 to 100, written `25%`.
Percent = Annotated[int, BeforeValidator(parse_percent), WithJsonSchema(_PERCENT_SCHEMA)]
#: An amount that is kept up; 0 is allowed when it is said.
Floor = Annotated[str, BeforeValidator(parse_floor), WithJsonSchema(_FLOOR_SCHEMA)]
#: A count or a percentage, kept as written: `3`, `25%`.
Amount = Annotated[str, BeforeValidator(parse_amount), WithJsonSchema(_AMOUNT_SCHEMA)]
