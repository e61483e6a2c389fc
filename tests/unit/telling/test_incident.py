"""What an incident is told beyond notes: its status, an update, a field, change events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pagerduty.stand_in import PagerDutyStandIn
from unit.telling.world import INCIDENT, World, tell

Make = Callable[..., World]


@pytest.fixture
def pagerduty() -> Iterator[PagerDutyStandIn]:
    with PagerDutyStandIn() as stand_in:
        stand_in.add_incident(INCIDENT)
        yield stand_in
        assert stand_in.complaints == []


@pytest.fixture
def make(tmp_path: Path, pagerduty: PagerDutyStandIn) -> Iterator[Make]:
    made: list[World] = []

    def build(**wanted: Any) -> World:
        made.append(World(tmp_path, pagerduty.url, tell=tell(**wanted)))
        return made[-1]

    yield build
    for world in made:
        world.close()


ALL = {
    "notes": False,
    "acknowledge": True,
    "resolve": True,
    "status_update": True,
    "custom_field": "runbook",
}


def test_everything_that_a_rule_may_ask_for(make: Make, pagerduty: PagerDutyStandIn) -> None:
    world, incident = make(pagerduty=ALL), pagerduty.incidents[INCIDENT]
    world.begin()
    world.step()
    assert incident.status == "acknowledged"
    world.work()
    world.end()
    world.step()
    line = "Done: roll of shop: a new process, healthy"
    assert (incident.status, incident.resolution) == ("resolved", line)
    assert (incident.updates, incident.fields) == ([line], {"runbook": line})
    assert (incident.notes, world.pending()) == ({}, 0)


@pytest.mark.parametrize("already", ["acknowledged", "resolved"])
def test_what_is_so_already_is_well(make: Make, pagerduty: PagerDutyStandIn, already: str) -> None:
    world = make(pagerduty=ALL)
    pagerduty.incidents[INCIDENT].status = already
    world.begin()
    world.step()
    assert world.pending() == 0
    assert pagerduty.incidents[INCIDENT].status == already


def test_a_status_update_that_may_have_arrived_is_not_sent_again(
    make: Make, pagerduty: PagerDutyStandIn
) -> None:
    world = make(pagerduty={"notes": False, "status_update": True})
    world.begin()
    world.end()
    pagerduty.cut(on="POST .*/status_updates")
    world.step()
    world.step(1000)
    assert (len(pagerduty.incidents[INCIDENT].updates), world.pending()) == (1, 0)


DEBT: dict[str, Any] = {
    "key": "undrain app-1",
    "task": "roll/act/app-1",
    "what": "undrain app-1",
    "by_hand": [],
    "data": {},
}


def _unhealed(world: World, how: str) -> None:
    match how:
        case "rehearsal":
            world.begin(rehearsal=True)
            world.work(seen="assumed")
        case "full still":
            world.begin()
            world.work(used=21)
        case "no look after":
            world.begin()
            world.work(slots=None)
        case "unseen":
            world.begin()
            world.work(seen="unseen")
        case "came back":
            world.begin()
            world.work(verdict="came_back")
        case "only looked":
            world.begin(changes=False)
            world.finish_task("look/act/db", "ok", {"slots": {"used": 1, "usable": 25}})
        case "still ill":
            world.begin()
            world.work()
            world.say("task_started", "look/act/db", phase="act", target="db")
            diagnosis = {"finding": {"cause": "leaked-sessions"}}
            world.finish_task("look/act/db", "ok", {"diagnosis": diagnosis})
        case "owing":
            world.begin()
            world.say("owed", "roll/act/app-1", **DEBT)
            world.work()


UNHEALED = (
    *("rehearsal", "full still", "no look after", "unseen", "came back", "only looked"),
    *("still ill", "owing"),
)


@pytest.mark.parametrize("how", UNHEALED)
def test_an_incident_stays_open_unless_it_is_proved_to_be_healed(
    make: Make, pagerduty: PagerDutyStandIn, how: str
) -> None:
    world = make(pagerduty={"resolve": True})
    _unhealed(world, how)
    world.end("rehearsed" if how == "rehearsal" else "done")
    world.step()
    assert pagerduty.incidents[INCIDENT].status == "triggered"
    assert any(note.endswith("/result") for note in pagerduty.notes())


@pytest.mark.parametrize("status", ["failed", "halted", "unknown", "interrupted", "refused"])
def test_an_incident_stays_open_after_any_other_end(
    make: Make, pagerduty: PagerDutyStandIn, status: str
) -> None:
    world = make(pagerduty={"resolve": True})
    world.begin()
    world.work()
    world.end(status)
    world.step()
    assert pagerduty.incidents[INCIDENT].status == "triggered"


def test_a_healthy_last_look_resolves(make: Make, pagerduty: PagerDutyStandIn) -> None:
    world = make(pagerduty={"resolve": True})
    world.begin()
    world.work(slots=None)
    world.say("task_started", "look/act/db", phase="act", target="db")
    world.finish_task("look/act/db", "ok", {"diagnosis": {"finding": {"cause": "healthy"}}})
    world.end()
    world.step()
    assert pagerduty.incidents[INCIDENT].status == "resolved"


def test_a_remediation_is_a_change_event_at_both_ends(
    make: Make, pagerduty: PagerDutyStandIn
) -> None:
    world = make(pagerduty=None, change_event=True)
    world.begin()
    world.step()
    assert pagerduty.changes == []
    world.work()
    world.step()
    (start,) = pagerduty.changes
    assert start["payload"]["summary"] == "runbook changes: roll of shop"
    assert start["payload"]["custom_details"]["run"] == world.run_id
    world.end()
    world.step()
    details = pagerduty.changes[1]["payload"]["custom_details"]
    assert (details["status"], details["changes"]) == ("done", 1)


def test_a_rehearsal_is_no_change(make: Make, pagerduty: PagerDutyStandIn) -> None:
    world = make(change_event=True)
    world.begin(rehearsal=True)
    world.work(seen="assumed")
    world.end("rehearsed")
    world.step()
    assert pagerduty.changes == []
    (result,) = pagerduty.notes()
    assert "nothing was changed" in result.splitlines()[0]
    assert "Next: runbook run roll shop" in result
