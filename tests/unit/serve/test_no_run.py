"""A rule held and no run began: its incident is told why, once, whatever dies in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pagerduty.stand_in import PagerDutyStandIn
from runbook.model.errors import DoorError
from unit.serve.test_intake import PEOPLE, Room
from unit.telling.world import World

INCIDENT = "QINCIDENT1"
TELL: dict[str, Any] = {"run": "look-here.yaml", "cooldown": 0, "tell": {"pagerduty": {}}}
#: A rule may tell PagerDuty where the configuration has it.
CONFIG = {**PEOPLE, "pagerduty": {"token": {"env": "TOKEN"}, "from": "oncall@example.com"}}


@pytest.fixture
def pagerduty() -> Iterator[PagerDutyStandIn]:
    with PagerDutyStandIn() as stand_in:
        stand_in.add_incident(INCIDENT)
        yield stand_in
        assert stand_in.complaints == []


@pytest.fixture
def world(tmp_path: Path, pagerduty: PagerDutyStandIn) -> Iterator[World]:
    chat = {"chat": {"webhook": {"env": f"{pagerduty.url}/v2/enqueue"}}}
    url = {"url": "https://runbook.example.com"}
    made = World(tmp_path, pagerduty.url, notify=chat, listen=url)
    yield made
    made.close()


def room_for(folder: Path, world: World, **rule: Any) -> Room:
    notify = {"chat": {"webhook": {"env": "X"}}}
    room = Room(folder, {**TELL, **rule}, notify=notify, **CONFIG)
    room.not_begun = world.teller.keep_no_run
    return room


def test_the_incident_is_told_once(
    tmp_path: Path, world: World, pagerduty: PagerDutyStandIn
) -> None:
    room = room_for(tmp_path, world, target={"label": "database", "of": "database"})
    room.put("a", labels={"database": "prod-db-09"}, title="slots are full")
    assert room.take().state == "failed"
    room.put("b", labels={"database": "prod-db-09"})
    assert room.take().state == "failed"
    for _ in range(2):
        world.step(10)
    (note,) = pagerduty.notes(INCIDENT)
    lines = note.splitlines()
    assert lines[0].startswith("NO RUN: look-here.yaml could not begin: label database: the inv")
    assert len(lines[0]) <= 120
    assert lines[1] == "Why: label database: the inventory has no database named 'prod-db-09'"
    assert "Rule r0 held for workflow, slots are full of incident QINCIDENT1" in note
    assert "What came in: https://runbook.example.com/inbox" in lines
    assert lines[-1] == f"runbook {INCIDENT}/no-run"
    assert world.pending() == 0


def test_what_cannot_be_planned_is_told(
    tmp_path: Path, world: World, pagerduty: PagerDutyStandIn
) -> None:
    room = room_for(tmp_path, world)
    (tmp_path / "look-here.yaml").unlink()
    room.put("a")
    assert room.take().state == "failed"
    world.step()
    assert "look-here.yaml" in pagerduty.notes(INCIDENT)[0]


def test_a_note_that_may_have_arrived_is_looked_for(
    tmp_path: Path, world: World, pagerduty: PagerDutyStandIn
) -> None:
    room = room_for(tmp_path, world, target="nowhere")
    room.put("a")
    room.take()
    pagerduty.cut(on="POST .*/notes")
    world.step()
    # By a person, who asks for it; by what it is called.
    other = world.new_teller()
    other.step([told.run_id for told in other.left()], at_once=True)
    assert (len(pagerduty.notes(INCIDENT)), other.pending()) == (1, 0)
    other.close()


def test_without_an_incident_a_chat_is_told_once_an_hour(tmp_path: Path, world: World) -> None:
    room = room_for(tmp_path, world, target="nowhere", tell={"to": ["chat"]})
    room.put("a", "b", incident=None, source="alertmanager")
    room.intake.step()
    world.now += 3600
    room.put("c", incident=None, source="alertmanager")
    assert room.take().state == "failed"
    kept = world.teller.left()
    assert [(told.recipient, told.content["event"]) for told in kept] == [("chat", "no-run")] * 2
    assert kept[0].content["link"] == "https://runbook.example.com/inbox"


def test_a_rule_that_tells_nobody_and_one_that_holds_back(tmp_path: Path, world: World) -> None:
    room = room_for(tmp_path, world, target="nowhere", tell={})
    room.put("a")
    room.take()
    held_back = room_for(tmp_path, world, target="nowhere", max_age="1s")
    held_back.put("b")
    held_back.now += 5
    assert held_back.take().state == "ignored"
    assert world.pending() == 0


def test_news_that_cannot_be_kept_keep_no_event_waiting(tmp_path: Path, world: World) -> None:
    def full(*_about: Any) -> None:
        raise DoorError("disk full")

    room = room_for(tmp_path, world, target="nowhere")
    room.not_begun = full
    room.put("a")
    assert room.take().state == "failed"
    assert "disk full" in room.log.getvalue()
