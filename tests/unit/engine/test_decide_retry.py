"""Retries, decided: attempts, what ends them, what the last one comes to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runbook.engine.outcomes import step_outcomes
from runbook.model.plan import Finish, Result, Retry, Status
from unit.engine.plans import History, plan, result, rolling_node, single_node
from unit.engine.scenes import scripted

THRICE = Retry(times=3, delay_s=5.0)


def retried(script: dict[str, Result], *, until: str | None = None, **more: Any) -> History:
    """Play one look that is retried, and one that comes after it."""
    retry = replace(THRICE, until=until)
    return History(plan(single_node("a", retry=retry, **more), single_node("b")), scripted(script))


def test_a_failed_attempt_is_done_again_after_its_delay() -> None:
    history = retried({"a/act/db": result("failed"), "a/act/db#2": result("unreachable")})
    assert history.play().status == "done"
    assert history.begun() == ["a/act/db", "a/act/db#2", "a/act/db#3", "b/act/db"]
    assert [history.tasks[key].wait_s for key in history.begun()] == [0.0, 5.0, 5.0, 0.0]


def test_the_outcome_is_that_of_the_last_attempt() -> None:
    script = {f"a/act/db{n}": result("failed", data={"n": n}) for n in ("", "#2", "#3")}
    history = retried(script)
    finish = history.play()
    assert finish.status == "failed"
    assert history.begun() == ["a/act/db", "a/act/db#2", "a/act/db#3"]
    outcome = step_outcomes(history._plan, history.results)[0].result
    assert outcome is not None
    assert outcome.data == {"n": "#3"}


@pytest.mark.parametrize(
    ("last", "ends"),
    [
        (result("unknown"), "unknown"),
        (result("failed", data={"interrupted": True}), "interrupted"),
    ],
)
def test_an_attempt_that_may_be_under_way_or_was_stopped_is_never_repeated(
    last: Result, ends: Status
) -> None:
    history = retried({"a/act/db": last})
    assert history.play().status == ends
    assert history.begun() == ["a/act/db"]


def test_until_is_asked_of_what_an_attempt_came_to() -> None:
    rows = {"a/act/db": result(data={"rows": 1}), "a/act/db#2": result(data={"rows": 0})}
    history = retried(rows, until="result.rows == 0 && result.status == 'ok'")
    assert history.play().status == "done"
    assert history.begun() == ["a/act/db", "a/act/db#2", "b/act/db"]


def test_what_is_well_but_not_what_was_waited_for_is_a_failure() -> None:
    finish = retried({}, until="result.rows == 0").play()
    assert finish.status == "failed"
    assert "`result.rows == 0` did not hold in 3 attempts" in finish.reason


def test_until_ends_the_attempts_and_leaves_the_verdict_to_the_step() -> None:
    history = retried({"a/act/db": result("failed", data={"n": 3})}, until="result.n == 3")
    assert history.play().status == "failed"
    assert history.begun() == ["a/act/db"]


def test_what_until_asks_for_and_is_not_there_does_not_hold() -> None:
    history = retried({"a/act/db": result("unreachable")}, until="result.rows == 3")
    assert history.play().status == "done"
    assert history.begun()[:2] == ["a/act/db", "a/act/db#2"]


def test_an_interrupt_begins_no_further_attempt() -> None:
    history = retried({"a/act/db": result("failed")})
    history.interrupt_after = 1
    finish = history.play()
    assert finish == Finish(status="interrupted", reason="stopped between steps")
    assert history.begun() == ["a/act/db"]


def test_each_target_has_attempts_of_its_own() -> None:
    history = retried({"a/act/dc": result("failed")}, targets=("db", "dc"))
    assert history.play().status == "done"
    assert history.performed[:2] == [("a/act/db", "a/act/dc"), ("a/act/dc#2",)]


def test_a_change_that_is_retried_acts_within_what_was_shown() -> None:
    node = single_node("x", changes=True, retry=THRICE)
    history = History(plan(node), scripted({"x/act/db": result("failed")}))
    assert history.play().status == "done"
    first, second = history.tasks["x/act/db"], history.tasks["x/act/db#2"]
    assert second == replace(first, key="x/act/db#2", wait_s=5.0)
    assert first.changes
    assert first.shown == ("touch db",)


def test_a_rolling_step_is_never_retried() -> None:
    node = rolling_node(2, (1, 1), retry=THRICE)
    history = History(plan(node), scripted({"roll/restart/web-0": result("failed")}))
    assert history.play().status == "halted"
    assert history.keys("restart") == ["web-0"]


def test_until_is_not_held_against_what_was_taken_out() -> None:
    holed = result(data={"stdout": "token=…", "exit_code": 0}, masked=("/stdout",))
    history = retried({"a/act/db": holed}, until="result.stdout.contains('ready')")
    finish = history.play()
    assert history.begun() == ["a/act/db"]
    assert finish.status == "failed"
    assert "result.stdout holds something that was taken out as a secret" in finish.reason
    assert retried({"a/act/db": holed}, until="result.exit_code == 0").play().status == "done"
