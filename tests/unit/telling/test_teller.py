"""Runs told on a stand-in for PagerDuty, by real HTTP: once, in order, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pagerduty.stand_in import PagerDutyStandIn
from unit.telling.world import INCIDENT, World


@pytest.fixture
def pagerduty() -> Iterator[PagerDutyStandIn]:
    with PagerDutyStandIn() as stand_in:
        stand_in.add_incident(INCIDENT)
        yield stand_in


@pytest.fixture
def world(tmp_path: Path, pagerduty: PagerDutyStandIn) -> Iterator[World]:
    made = World(tmp_path, pagerduty.url)
    yield made
    made.close()
    assert pagerduty.complaints == []


def test_a_run_is_told_at_its_start_and_its_end(world: World, pagerduty: PagerDutyStandIn) -> None:
    world.begin()
    world.step()
    (start,) = pagerduty.notes()
    assert start.splitlines()[0] == "runbook has begun: roll of shop"
    assert start.splitlines()[-1] == f"runbook {world.run_id}/start"
    world.work()
    world.end()
    world.step()
    start, result = pagerduty.notes()
    assert start.splitlines()[0].startswith("runbook has ended: Done: roll of shop")
    assert result.splitlines()[0] == "Done: roll of shop: a new process, healthy"
    assert result.splitlines()[-1] == f"runbook {world.run_id}/result"
    assert world.pending() == 0
