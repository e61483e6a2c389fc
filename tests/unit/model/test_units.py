"""Durations, percentages, amounts: what people write, in integers where it counts."""

from __future__ import annotations

import pytest

from runbook.model.units import (
    amount_ceil,
    amount_floor,
    format_duration,
    parse_amount,
    parse_duration,
    parse_percent,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90.0), ("1m30s", 90.0), ("250ms", 0.25), ("2h", 7200.0), (0, 0.0), ("1.5m", 90.0)],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["5", 5, "5 m", "-5s", "", "m", True, "5d", "1:30"])
def test_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize("value", [0, "0", "0%", "101%", -1, "x", True, "5.5%"])
def test_no_amounts(value: object) -> None:
    with pytest.raises(ValueError, match=r"0|percentage|count"):
        parse_amount(value)


def test_percentages_are_exact_integers() -> None:
    assert amount_floor("29%", 100) == 29  # a float would make it 28.999…
    assert amount_floor("25%", 3) == 1  # never less than one host
    assert amount_ceil("50%", 3) == 2  # what must be kept is rounded up
    assert amount_floor("3", 100) == amount_ceil("3", 100) == 3
    assert parse_percent("100%") == 100


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.44, "0.4s"), (12.3, "12s"), (200, "3m 20s"), (7500, "2h 05m"), (356_400, "4d 3h")],
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert format_duration(seconds) == said
