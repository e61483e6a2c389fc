"""Answers from Slack: the same rules as in the browser, another way to know who it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.model.alert import Answer
from runbook.model.errors import DoorError
from runbook.serve import answering
from unit.pages.world import DIGEST, House


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A house with one run that waits."""
    made = House(tmp_path)
    made.begin()
    made.ask(by=["dana"])
    return made


def pressed(by: str, **more: object) -> Answer:
    """A button that somebody has pressed."""
    values = {"run_id": "r1", "key": "confirm", "digest": DIGEST, "yes": True, **more}
    return Answer(by=by, **values)  # type: ignore[arg-type]


def test_a_slack_user_is_somebody_of_the_configuration(house: House) -> None:
    said = answering.take_answer(house.context, pressed("U0DANA123"))
    assert said == f"You have approved run r1 (confirmation {DIGEST}), as dana@slack."
    assert [each["by"] for each in house.said("answered")] == ["dana@slack"]
    assert house.started == ["r1"]


@pytest.mark.parametrize("user", ["U0SOMEBODY", "", "dana", "None"])
def test_anybody_else_is_nobody(house: House, user: str) -> None:
    said = answering.take_answer(house.context, pressed(user))
    assert "There is nobody with `slack:" in said
    assert "answered" not in house.kinds()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"digest": "ffffffffffff"}, "asks something else now"),
        ({"digest": ""}, "asks something else now"),
        ({"key": "other"}, "asks something else now"),
        ({"run_id": "r9"}, "There is no run r9"),
    ],
)
def test_an_answer_binds_to_its_question(house: House, more: dict[str, object], words: str) -> None:
    assert words in answering.take_answer(house.context, pressed("U0DANA123", **more))
    assert "answered" not in house.kinds()
    assert house.started == []


def test_a_process_that_cannot_be_begun_is_told(house: House) -> None:
    def fails(_run_id: str) -> None:
        raise DoorError("no process could be started", hint="free some memory")

    house.context.runs._start = fails
    said = answering.take_answer(house.context, pressed("U0DANA123"))
    assert said == "That could not be done: No process could be started. free some memory."
    assert len(house.said("answered")) == 1


def test_a_journal_that_cannot_be_written_is_told(house: House) -> None:
    house.journal._db.execute("PRAGMA query_only = ON")
    said = answering.take_answer(house.context, pressed("U0DANA123"))
    assert said.startswith("That could not be done: The journal ")
