"""A run that lost its process half-way: its incident and its chats are told once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pagerduty.stand_in import PagerDutyStandIn
from unit.telling.world import INCIDENT, World, tell

DEBT: dict[str, Any] = {
    "key": "undrain app-1",
    "task": "roll/act/app-1",
    "what": "undrain app-1",
    "by_hand": ["curl -X POST http://lb/undrain/app-1"],
    "data": {},
}


@pytest.fixture
def pagerduty() -> Iterator[PagerDutyStandIn]:
    with PagerDutyStandIn() as stand_in:
        stand_in.add_incident(INCIDENT)
        yield stand_in


@pytest.fixture
def world(tmp_path: Path, pagerduty: PagerDutyStandIn) -> Iterator[World]:
    made = World(tmp_path, pagerduty.url, tell=tell())
    yield made
    made.close()
    assert pagerduty.complaints == []


def half_way(world: World) -> None:
    """Have a run that dies after it has asked for a restart; it owes an undrain."""
    world.begin()
    task = "roll/act/app-1"
    world.say("task_started", task, phase="act", target="app-1")
    world.say("said", task, stage="restarting", text="now")
    world.say("owed", task, **DEBT)
    sentence = "on app-1: restart shop.service"
    world.say("intended", task, sentence=sentence, footprint=["app-1: shop.service"])
    world.die()


def lost(pagerduty: PagerDutyStandIn) -> list[str]:
    return [note for note in pagerduty.notes() if note.startswith("LOST")]


def test_it_says_what_was_in_flight_what_is_owed_and_the_command(
    world: World, pagerduty: PagerDutyStandIn
) -> None:
    half_way(world)
    world.step()
    world.step(30)
    (note,) = lost(pagerduty)
    lines = note.splitlines()
    assert lines[0] == "LOST ITS PROCESS, a person must look: roll of shop"
    assert lines[2:4] == ["In flight:", "- app-1: restarting now"]
    assert "- on app-1: restart shop.service" in lines
    assert "STILL OWED: undrain app-1" in lines
    assert "By hand: curl -X POST http://lb/undrain/app-1" in lines
    assert f"Next, as ana@bastion: runbook runs resume {world.run_id} --show" in lines
    assert f"Then: runbook runs resume {world.run_id}" in lines
    # The note that is kept up to date does not go on saying that somebody is at work.
    assert pagerduty.notes()[0].startswith("runbook LOST ITS PROCESS: roll of shop")


def test_it_is_told_once_whoever_looks(world: World, pagerduty: PagerDutyStandIn) -> None:
    half_way(world)
    other = world.new_teller()
    for _ in range(3):
        world.step(30)
        other.step()
    other.close()
    assert len(lost(pagerduty)) == 1


def test_a_run_that_goes_on_is_not_lost(world: World, pagerduty: PagerDutyStandIn) -> None:
    half_way(world)
    with world.runs.hold(world.run_id):
        world.step(30)
    assert lost(pagerduty) == []


@pytest.mark.parametrize("how", ["waits", "ended", "looks", "rehearses"])
def test_only_what_has_begun_to_change_and_has_no_end_is_lost(
    world: World, pagerduty: PagerDutyStandIn, how: str
) -> None:
    world.begin(rehearsal=how == "rehearses")
    if how == "rehearses":
        world.work(seen="assumed")
    elif how != "looks":
        world.work()
    if how == "waits":
        world.ask()
    elif how == "ended":
        world.end("unknown")
    world.die()
    world.step(30)
    assert lost(pagerduty) == []


def test_one_that_is_taken_up_and_lost_anew_is_told_anew(
    world: World, pagerduty: PagerDutyStandIn
) -> None:
    half_way(world)
    world.step()
    world.say("resumed", by="ana@bastion")
    with world.runs.hold(world.run_id):
        world.step(30)
    assert len(lost(pagerduty)) == 1
    assert pagerduty.notes()[0].startswith("runbook is at work")
    world.step(30)
    assert len(lost(pagerduty)) == 2


def test_a_loss_that_could_not_be_told_is_no_news_once_it_is_taken_up(
    world: World, pagerduty: PagerDutyStandIn
) -> None:
    half_way(world)
    pagerduty.fail(on="POST .*/notes", status=503, times=9)
    world.step()
    world.say("resumed", by="ana@bastion")
    pagerduty.mend()
    with world.runs.hold(world.run_id):
        world.step(600)
    assert lost(pagerduty) == []


def test_a_chat_is_told_as_well(tmp_path: Path, pagerduty: PagerDutyStandIn) -> None:
    wanted = tell(pagerduty=None, to=["chat"])
    notify = {"chat": {"webhook": {"env": f"{pagerduty.url}/v2/enqueue"}}}
    world = World(tmp_path, pagerduty.url, tell=wanted, notify=notify)
    half_way(world)
    world.step()
    (message,) = [t for t in world.teller.told_of(world.run_id, "chat") if t.key == "lost/1"]
    world.close()
    assert message.content["event"] == "lost"
    assert message.content["run"]["status"] == "lost"
    assert message.content["headline"].startswith("LOST ITS PROCESS")
