"""`runs list` narrowed: by target, playbook, incident, age, and whether a run has an end."""

from __future__ import annotations

from typing import Any

import click
import pytest

from runbook.cli.runs_filter import Filter, moment
from runbook.model.ports import RunRecord


def record(number: int, **changed: Any) -> RunRecord:
    values: dict[str, Any] = {
        "run_id": f"r{number}",
        "playbook": "roll",
        "target": "shop",
        "rehearsal": False,
        "status": "done",
        "started_at": float(number),
        "ended_at": float(number) + 1,
        "who": "ana@bastion",
        "incident": None,
        "plan_hash": "x",
    }
    return RunRecord(**{**values, **changed})


RUNS = [
    record(5, target="db"),
    record(4, incident="INC-1", status="halted"),
    record(3, playbook="diagnose"),
    record(2, ended_at=None, status="running"),
    record(1),
]


class Journal:
    """The newest runs first, as the journal has them."""

    def runs(self, limit: int = 20) -> list[RunRecord]:
        return RUNS[:limit]

    def owing(self, run_ids: list[str]) -> set[str]:
        return {"r4"} & set(run_ids)


def ids(limit: int = 20, **wanted: Any) -> list[str]:
    journal: Any = Journal()
    return [each.run_id for each in Filter(**wanted).of_journal(journal, limit)]


def test_each_filter_and_all_together() -> None:
    assert ids() == ["r5", "r4", "r3", "r2", "r1"]
    assert ids(target="shop") == ["r4", "r3", "r2", "r1"]
    assert ids(playbook="diagnose") == ["r3"]
    assert ids(incident="INC-1") == ["r4"]
    assert ids(since=3.0) == ["r5", "r4", "r3"]
    assert ids(only_open=True) == ["r4", "r2"]
    assert ids(target="shop", since=2.0, playbook="roll") == ["r4", "r2"]


def test_the_limit_counts_what_fits_and_not_what_was_looked_at() -> None:
    assert ids(limit=1, only_open=True) == ["r4"]


@pytest.mark.parametrize(
    ("written", "at"), [("24h", 1e6 - 86_400), ("7d", 1e6 - 604_800), ("90s", 1e6 - 90)]
)
def test_an_age_is_a_moment(written: str, at: float) -> None:
    assert moment(written, 1e6) == at


def test_a_date_is_a_moment() -> None:
    assert moment("2026-11-23", 0) < moment("2026-11-23T02:17", 0)


@pytest.mark.parametrize("written", ["", "x", "7", "d", "-1d", "yesterday", "2026-13-01"])
def test_what_is_no_moment_is_told(written: str) -> None:
    with pytest.raises(click.BadParameter):
        moment(written, 0)
