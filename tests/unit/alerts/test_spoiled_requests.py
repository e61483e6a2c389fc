"""Some thousand spoiled requests: read, or rejected, and nothing wanted that no rule allows."""

from __future__ import annotations

from collections import Counter

import pytest

from fuzz.alerts import trial
from fuzz.requests import HOOKS, Made, made, requests

_COUNT = 4000


@pytest.fixture(scope="module")
def ended() -> Counter[str]:
    found: Counter[str] = Counter()
    for number in range(_COUNT):
        done = trial(made(number))
        assert done.ended != "broken", f"request {number}: {done.said}"
        found[done.ended] += 1
    return found


def test_every_way_out_is_taken_often_enough_to_mean_something(ended: Counter[str]) -> None:
    for way in ("400", "401", "403", "ping", "answer", "ignored", "wanted"):
        assert ended[way] > 20, ended


def test_they_are_for_every_hook_and_the_same_each_time() -> None:
    first = list(requests(0, 100))
    assert first == list(requests(0, 100))
    assert {hook for hook, _, _ in first} == set(HOOKS)


def test_a_caller_who_got_in_without_the_secret_would_be_noticed() -> None:
    honest = next(one for one in map(made, range(1000)) if trial(one).ended == "wanted")
    forged = Made(honest.hook, honest.headers, honest.body, honest=False)
    assert trial(forged).ended == "broken"
