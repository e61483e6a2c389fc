"""So many good answers in a row, before the deadline: the count, the pauses, the clock."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.model.effects import Drive, Now, Say, Sleep
from runbook.steps.gate_asking import Asked, Patience, Sample, until_good

TWO = Patience(successes=2, interval=1.0, deadline=10.0)


class Clock:
    """Time passes in sleeps, and while a question is answered."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []
        self.left: list[float | None] = []

    def run(self, patience: Patience, answers: Iterable[tuple[str | None, float]]) -> Asked[str]:
        """Ask: each answer is what is wrong (`stop` ends it), and the seconds that it takes."""
        script = iter(answers)

        def sample(left_s: float | None) -> Drive[Sample[str]]:
            self.left.append(left_s)
            said, seconds = next(script)
            self.now += seconds
            yield from ()
            return Sample(problem=said, stop="no use" if said == "stop" else None)

        drive, value = until_good(patience, sample, stage="asking"), None
        while True:
            try:
                effect = drive.send(value)
            except StopIteration as stop:
                asked: Asked[str] = stop.value
                return asked
            match effect:
                case Now():
                    value = self.now
                case Sleep(seconds=seconds):
                    assert seconds >= 0
                    self.pauses.append(seconds)
                    self.now += seconds
                case Say():
                    value = None


def forever(said: str | None, seconds: float = 0.0) -> Iterable[tuple[str | None, float]]:
    while True:
        yield said, seconds


def test_one_bad_answer_starts_the_count_anew() -> None:
    asked = Clock().run(TWO, [(None, 0), ("bad", 0), (None, 0), (None, 0)])
    assert (asked.passed, asked.good, asked.attempts) == (True, 2, 4)


def test_it_never_passes_on_a_deadline() -> None:
    clock = Clock()
    asked = clock.run(TWO, forever("bad"))
    assert (asked.passed, asked.late, asked.problem) == (False, True, "bad")
    assert asked.seconds == pytest.approx(10.0)
    assert clock.pauses[:3] == [0.25, 0.5, 1.0]


def test_a_good_answer_after_the_deadline_comes_too_late() -> None:
    asked = Clock().run(TWO, [(None, 0), (None, 9.5)])
    assert (asked.passed, asked.late, asked.good) == (False, True, 2)
    asked = Clock().run(TWO, [(None, 0), (None, 8.5)])
    assert asked.passed


def test_a_question_is_told_how_long_it_may_take() -> None:
    clock = Clock()
    clock.run(TWO, [(None, 2.0), (None, 0)])
    assert clock.left == [10.0, 7.0]


def test_what_is_no_use_ends_it_at_once() -> None:
    asked = Clock().run(TWO, [(None, 0), ("stop", 0)])
    assert (asked.passed, asked.stop, asked.attempts) == (False, "no use", 2)


def test_without_a_deadline_the_first_bad_answer_is_the_last() -> None:
    patience = Patience(successes=3, interval=1.0, deadline=None)
    assert Clock().run(patience, [(None, 0), ("bad", 0)]).problem == "bad"
    clock = Clock()
    assert clock.run(patience, forever(None)).passed
    assert (clock.pauses, clock.left) == ([1.0, 1.0], [None, None, None])


def test_the_good_answers_must_last_for_as_long_as_they_should_settle() -> None:
    patience = Patience(successes=1, interval=1.0, deadline=10.0, settle=3.0)
    assert Clock().run(patience, forever(None)).attempts == 4
    broken = [(None, 0), (None, 0), ("bad", 0), *[(None, 0)] * 9]
    assert Clock().run(patience, broken).attempts == 7


@given(
    answers=st.lists(st.sampled_from([None, "bad"]), min_size=60, max_size=60),
    seconds=st.floats(0, 3),
    successes=st.integers(1, 5),
    settle=st.floats(0, 5),
)
def test_whatever_comes_it_passes_only_by_a_row_in_time(
    answers: list[str | None], seconds: float, successes: int, settle: float
) -> None:
    patience = Patience(successes=successes, interval=1.0, deadline=20.0, settle=settle)
    asked = Clock().run(patience, [*((each, seconds) for each in answers), *[("bad", 1.0)] * 99])
    row = answers[max(0, asked.attempts - successes) : asked.attempts]
    if asked.passed:
        assert row == [None] * successes
        assert asked.seconds < 20.0
    assert asked.passed != asked.late
