"""The fast scenarios on the PostgreSQL of the tests, and the corpus held against its own rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runbook.findings.table import FINDINGS
from scenarios.corpus import SCENARIOS
from scenarios.running import play

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scenarios.scenario import Scenario
    from scenarios.servers import Server

FAST = [scenario for scenario in SCENARIOS if scenario.fast]


@pytest.fixture(scope="module")
def eighteen() -> Iterator[Server]:
    """A PostgreSQL 18 with 60 slots, from the Python package of server binaries."""
    from scenarios.servers import running

    with running("18", package=None) as started:
        yield started


@pytest.mark.parametrize("scenario", FAST, ids=lambda scenario: scenario.name)
def test_a_scenario_is_judged_as_its_clients_know_it(scenario: Scenario, eighteen: Server) -> None:
    judged = play(scenario, eighteen)
    assert judged.failed == ""
    assert judged.skipped == ""
    assert (judged.cause, judged.cause_right) == (scenario.cause, True)
    assert judged.also_right, judged.also
    assert judged.owner_right is not False, judged.owner
    assert judged.killed == 0
    if scenario.cause in {"leaked-sessions", "idle-in-transaction"}:
        # Half is a low bar on purpose: a proof that has gone missing altogether is what it holds.
        assert judged.proved * 2 >= judged.lost > 0


def test_names_are_unique() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names)


def test_every_cause_has_a_scenario_and_every_scenario_a_cause() -> None:
    known = {kind.name for kind in FINDINGS}
    assert {scenario.cause for scenario in SCENARIOS} == known
    assert {cause for s in SCENARIOS for cause in (*s.also, *s.tolerated)} <= known


def test_there_are_mixtures_enough() -> None:
    assert sum(scenario.kind == "mixture" for scenario in SCENARIOS) >= 10
