"""What a count alone proves, and the healthy things that it must not mistake for a leak."""

from __future__ import annotations

import pytest

from runbook.findings import by_count
from runbook.model.leaks import LeakPolicy
from unit.findings.world import JUDGE, fleet, many, snapshot

#: The pool of SHOP in `world`: 2 processes x (5 + 0).
BUDGET = 10


def ended(*sessions: object) -> set[int]:
    """Return the pids that would be ended."""
    plan = JUDGE.leaks(snapshot(sessions), fleet(), LeakPolicy())  # type: ignore[arg-type]
    return {leaked.session.pid for leaked in plan.sessions}


@pytest.mark.parametrize(
    ("old", "young", "over"),
    [
        pytest.param(10, 10, 0, id="two generations of a deploy"),
        pytest.param(20, 0, 10, id="both are old: no deploy takes so long"),
        pytest.param(0, 22, 12, id="one generation alone is over"),
        pytest.param(10, 13, 3, id="more than the new generation may hold"),
        pytest.param(12, 0, 0, id="a cron job and a listener"),
        pytest.param(13, 0, 3, id="one more than strangers explain"),
    ],
)
def test_a_deploy_and_strangers_are_allowed_for(old: int, young: int, over: int) -> None:
    sessions = [
        *many(old, age_s=by_count.OVERLAP_S + 1, state_age_s=60),
        *many(young, age_s=by_count.OVERLAP_S - 1, state_age_s=60),
    ]
    assert by_count.excess(sessions, BUDGET) == over
    diagnosis = JUDGE.diagnose(snapshot(sessions), fleet())
    named = {f.cause for f in (diagnosis.finding, *diagnosis.also)}
    assert ("leaked-sessions" in named) == bool(over)


def test_a_process_that_has_been_idle_for_longest_is_left_alone() -> None:
    idle_process = many(5, age_s=90_000, state_age_s=80_000)
    at_work = many(5, age_s=90_000, state_age_s=1)
    leaked = many(17, age_s=3_000, state_age_s=2_900)
    # 17 are too many; two at either end may be strangers, and the five idle longest were opened
    # first, and may be a neighbour's pool.
    assert ended(*idle_process, *at_work, *leaked) == {s.pid for s in leaked[7:]}


def test_a_pool_at_its_daily_work_is_the_pool_and_all_that_is_older_idle_may_go() -> None:
    pool = many(10, age_s=90_000, state_age_s=5)
    leaked = many(17, age_s=90_001, state_age_s=80_000)
    assert ended(*pool, *leaked) == {s.pid for s in leaked[2:-2]}


def test_more_at_their_daily_work_than_declared_refute_the_declaration() -> None:
    """The inventory is old, or an old generation drains for longer than usual."""
    assert ended(*many(20, age_s=90_000, state_age_s=3)) == set()


def test_cron_jobs_beside_a_small_leak_are_not_ended_for_it() -> None:
    pool = many(10, age_s=90_000, state_age_s=5)
    cron = many(2, age_s=80_000, state_age_s=3_000)
    assert not {s.pid for s in cron} & ended(*pool, *cron, *many(1, age_s=500, state_age_s=400))


def test_what_was_opened_for_one_request_is_not_the_pool_at_work() -> None:
    """Ten sessions lost within the last minute do not stand for the pool."""
    pool_asleep = many(10, age_s=90_000, state_age_s=80_000)
    just_lost = many(10, age_s=31, state_age_s=30)
    leaked = many(20, age_s=3_000, state_age_s=2_990)
    assert not {s.pid for s in pool_asleep} & ended(*pool_asleep, *just_lost, *leaked)


def test_a_hidden_age_proves_nothing_of_daily_work() -> None:
    sessions = many(30, age_s=None, state_age_s=100)
    assert len(by_count.maybe_pooled(sessions, BUDGET)) == BUDGET
