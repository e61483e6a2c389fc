"""The page counts what was judged: nothing skipped as right, nothing killed as harmless."""

from __future__ import annotations

from dataclasses import replace

from scenarios.accuracy import line, page
from scenarios.corpus import SCENARIOS
from scenarios.scenario import Judged

LEAK = next(scenario for scenario in SCENARIOS if scenario.name == "leak-asyncpg")
RIGHT = Judged(
    scenario=LEAK.name,
    kind=LEAK.kind,
    version="16",
    expected=LEAK.cause,
    cause=LEAK.cause,
    cause_right=True,
    also_right=True,
    owner_right=True,
    owner="shop on web-01",
    rung="connect",
    lost=30,
    proved=24,
    healthy=20,
)


def test_what_is_right_counts_as_right() -> None:
    text = page([RIGHT], [LEAK])
    row = "| 1 | 1 (100%) | 1 (100%) | 1 (100%) | 30 | 24 (80%) | 20 | 0 |"
    assert f"| 16 {row}" in text
    assert f"| leaked-sessions {row}" in text
    assert "## What is wrong" not in text
    assert RIGHT.right


def test_a_healthy_session_killed_is_wrong_whatever_else_is_right() -> None:
    killed = replace(RIGHT, killed=2)
    assert not killed.right
    text = page([killed], [LEAK])
    assert "2 of 20 healthy sessions would be terminated" in text
    assert "leak-asyncpg (on 1 version): said leaked-sessions; would terminate healthy" in text
    assert "WRONG" in line(killed)


def test_what_was_skipped_counts_nowhere() -> None:
    skipped = replace(RIGHT, skipped="node is not installed")
    assert not skipped.right
    text = page([RIGHT, skipped], [LEAK])
    assert "1 of 1 diagnoses right in everything" in text
    assert "1 runs skipped" in text
    assert "- node is not installed: leak-asyncpg" in text


def test_what_could_not_be_judged_is_wrong() -> None:
    failed = replace(RIGHT, failed="no diagnosis", cause_right=False, owner_right=False)
    assert not failed.right
    assert "| 16 | 1 | 0 (0%) |" in page([failed], [LEAK])


def test_wrong_in_the_same_way_is_told_once() -> None:
    wrong = replace(RIGHT, cause="surge", cause_right=False)
    text = page([wrong, replace(wrong, version="17")], [LEAK])
    assert "- leak-asyncpg (on 2 versions): said surge" in text


def test_the_order_of_results_does_not_matter() -> None:
    other = replace(RIGHT, version="9")
    assert page([RIGHT, other], [LEAK]) == page([other, RIGHT], [LEAK])
