"""What would be false by the time that it arrives is not told, also when it was tried before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pagerduty.stand_in import PagerDutyStandIn
from unit.telling.world import INCIDENT, World, tell


@pytest.fixture
def pagerduty() -> Iterator[PagerDutyStandIn]:
    with PagerDutyStandIn() as stand_in:
        stand_in.add_incident(INCIDENT)
        yield stand_in


@pytest.fixture
def world(tmp_path: Path, pagerduty: PagerDutyStandIn) -> Iterator[World]:
    wanted = tell(pagerduty={"acknowledge": True}, to=["chat"])
    notify = {"chat": {"webhook": {"env": f"{pagerduty.url}/v2/enqueue"}}}
    made = World(tmp_path, pagerduty.url, tell=wanted, notify=notify)
    yield made
    made.close()


def test_a_question_that_was_answered_while_nobody_could_be_told(
    world: World, pagerduty: PagerDutyStandIn
) -> None:
    world.begin()
    world.step()
    pagerduty.fail(status=500, times=99)
    world.ask()
    world.step(10)
    waiting = {told.recipient for told in world.teller.left() if told.key.startswith("waiting/")}
    assert waiting == {"pagerduty", "chat"}
    world.say("answered", key="confirm", hash="abc123def456", yes=True, by="ada@browser")
    world.end()
    pagerduty.mend()
    world.step(600)
    assert not any("waits for approval" in note.splitlines()[0] for note in pagerduty.notes())
    # A button of it would answer nothing any more.
    assert not any(told.key.startswith("waiting/") for told in world.teller.left())
    assert any(note.startswith("Done") for note in pagerduty.notes())


def test_an_incident_is_not_acknowledged_for_a_run_that_is_over(
    tmp_path: Path, pagerduty: PagerDutyStandIn
) -> None:
    wanted = tell(pagerduty={"acknowledge": True, "notes": False})
    world = World(tmp_path, pagerduty.url, tell=wanted)
    pagerduty.fail(status=500, times=99)
    world.begin()
    world.step()
    world.end("failed", "app-1 did not come back")
    pagerduty.mend()
    world.step(600)
    world.close()
    assert pagerduty.incidents[INCIDENT].status == "triggered"
