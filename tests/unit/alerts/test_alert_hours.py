"""Hours: days, over midnight, in the zone where they are kept."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from runbook.alerts.hours import said, within
from runbook.model.serve_config import Hours


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def hours(begins: str, ends: str, *days: str, zone: str = "UTC") -> Hours:
    given = {"from": begins, "to": ends, "timezone": zone}
    return Hours.model_validate({**given, "days": days} if days else given)


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2026-11-24T07:59:59", False),
        ("2026-11-24T08:00:00", True),
        ("2026-11-24T17:59:59", True),
        ("2026-11-24T18:00:00", False),
        ("2026-11-28T12:00:00", False),
    ],
)
def test_a_working_day(moment: str, inside: bool) -> None:
    kept = hours("08:00", "18:00", "mon", "tue", "wed", "thu", "fri")
    assert within(kept, at(moment)) is inside


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2026-11-27T21:59:00", False),  # Friday
        ("2026-11-27T22:00:00", True),
        ("2026-11-28T05:59:00", True),  # Saturday, still Friday's night
        ("2026-11-28T06:00:00", False),
        ("2026-11-28T22:00:00", False),
        ("2026-11-27T05:00:00", False),  # Thursday's night is not among them
    ],
)
def test_a_night_belongs_to_the_day_on_which_it_begins(moment: str, inside: bool) -> None:
    assert within(hours("22:00", "06:00", "fri"), at(moment)) is inside


def test_a_whole_day_and_always() -> None:
    assert within(hours("00:00", "24:00", "tue"), at("2026-11-24T23:59:59"))
    assert within(Hours(), at("2026-11-24T00:00:00"))
    # From eight to eight is a whole day from eight on.
    assert within(hours("08:00", "08:00", "tue"), at("2026-11-25T07:59:00"))
    assert not within(hours("08:00", "08:00", "tue"), at("2026-11-24T07:59:00"))


@pytest.mark.parametrize("month", ["01", "07"])
def test_the_time_of_day_is_the_one_that_people_there_see(month: str) -> None:
    kept = hours("08:00", "09:00", zone="Europe/Vienna")
    assert within(kept, at(f"2026-{month}-15T08:30:00", "Europe/Vienna"))
    assert not within(kept, at(f"2026-{month}-15T08:30:00"))


def test_the_hour_that_comes_twice_holds_twice() -> None:
    kept = hours("02:00", "03:00", zone="Europe/Vienna")
    first = at("2026-10-25T02:30:00", "Europe/Vienna")
    assert within(kept, first)
    assert within(kept, first + 3600)
    assert not within(kept, first + 7200)


def test_they_are_said_in_a_few_words() -> None:
    assert said(hours("22:00", "06:00", "fri")) == "22:00 to 06:00 on fri (UTC)"
    assert said(Hours()) == "00:00 to 24:00 (UTC)"
