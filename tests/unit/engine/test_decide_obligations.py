"""Obligations: settled first on a resume, settled before the end, told when they stay open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runbook.model.plan import Obligation, Result, Status
from unit.engine.plans import History, plan, result, rolling_node, single_node
from unit.engine.scenes import scripted

ROLL = "roll/restart/web-1"
SETTLE = "roll/settle/web-1"


def debt(task: str = ROLL, key: str = "undrain web-1") -> Obligation:
    """Return what a task owes."""
    return Obligation(
        key=key, task=task, what=key, by_hand=(f"do {key}",), data={"balancer": "lb-1"}
    )


def rolled(script: dict[str, Result], **more: Any) -> tuple[History, Any]:
    """Play a rolling restart of three hosts."""
    made = plan(rolling_node(3, (1, 1, 1), max_failures=more.pop("max_failures", 0)))
    history = History(made, scripted(script), **more)
    return history, history.play()


def test_what_a_failed_host_owes_is_settled_before_the_end() -> None:
    history, finish = rolled({ROLL: result("failed")}, owes={ROLL: debt()})
    assert history.begun()[-1] == SETTLE
    assert finish.status == "halted"
    assert finish.by_hand == ()
    task = history.tasks[SETTLE]
    assert task.changes
    assert task.given["owed"]["data"] == {"balancer": "lb-1"}
    assert task.shown == ("restart web-0", "restart web-1", "restart web-2")


def test_a_debt_within_the_threshold_is_settled_when_the_line_is_over() -> None:
    history, finish = rolled({ROLL: result("failed")}, owes={ROLL: debt()}, max_failures=1)
    assert history.begun()[-2:] == ["roll/restart/web-2", SETTLE]
    assert finish.status == "failed"


def test_a_debt_that_is_not_paid_is_tried_once_and_told() -> None:
    bad = {ROLL: result("failed"), SETTLE: result("failed")}
    history, finish = rolled(bad, owes={ROLL: debt()})
    assert history.begun().count(SETTLE) == 1
    assert len(history.keys("settle")) == 1
    assert finish.status == "halted"
    assert finish.reason.endswith("; still owed: undrain web-1")
    assert finish.by_hand == ("do undrain web-1",)


def test_a_run_that_went_well_and_owes_something_did_not_go_well() -> None:
    history, finish = rolled(
        {SETTLE: result("failed"), SETTLE + "#2": result("failed")}, owes={ROLL: debt()}
    )
    assert (finish.status, finish.reason) == ("failed", "still owed: undrain web-1")
    assert len(history.keys("settle")) == 2  # the host is well: a second try may do


def test_a_settle_that_says_it_paid_and_did_not_comes_to_an_end() -> None:
    other = debt(key="undrain nothing")
    history = History(
        plan(rolling_node(3, (1, 1, 1))), scripted(), owes={ROLL: debt(), SETTLE: other}
    )
    finish = history.play()
    assert "still owed: undrain nothing" in finish.reason or history.owed == []
    assert len(history.keys("settle")) <= 2


def test_on_a_resume_what_the_crash_cut_off_is_settled_first() -> None:
    before = {
        f"roll/preflight/web-{i}": result(touches=(f"restart web-{i}",), data={"healthy": True})
        for i in range(3)
    }
    before["roll/admit/1"] = before["roll/restart/web-0"] = result()
    history, finish = rolled({}, owed=(debt(),), results=before)
    assert history.begun() == [
        SETTLE,
        "roll/admit/2",
        ROLL,
        "roll/admit/3",
        "roll/restart/web-2",
    ]
    assert finish.status == "done"


def test_what_is_under_way_is_left_to_its_own_task_and_settled_at_the_end() -> None:
    """The restart may still come: the host looks itself, and pays."""
    coming = replace(debt(), data={"under_way": True})
    history, finish = rolled({}, owed=(coming,))
    assert history.begun().index(ROLL) < history.begun().index(SETTLE)
    assert finish.status == "done"
    bad = {"roll/preflight/web-0": result("refused")}
    history, _ = rolled(bad, owed=(coming,))  # its turn never comes
    assert history.begun()[-1] == SETTLE


def test_what_was_settled_at_first_and_is_owed_anew_is_settled_again() -> None:
    history, finish = rolled({}, owed=(debt(),), owes={ROLL: debt()})
    assert history.begun()[0] == SETTLE
    assert history.begun()[-1] == f"{SETTLE}#2"
    assert finish.status == "done"


@pytest.mark.parametrize("after", [0, 5])
def test_an_interrupt_settles_what_is_owed(after: int) -> None:
    owing = {"owed": (debt(),)} if after == 0 else {"owes": {ROLL: debt()}}
    history = History(plan(rolling_node(3, (1, 1, 1))), scripted(), **owing)
    history.interrupt_after = after
    finish = history.play()
    assert finish.status == "interrupted"
    assert history.begun()[-1] == SETTLE
    assert history.owed == []


def test_a_task_that_owes_two_things_settles_both() -> None:
    history = History(
        plan(rolling_node(3, (1, 1, 1))), scripted(), owed=(debt(), debt(key="unsilence web-1"))
    )
    assert history.play().status == "done"
    assert history.performed[0] == (SETTLE, f"{SETTLE}#3")
    paid = [history.tasks[key].given["owed"]["key"] for key in history.performed[0]]
    assert paid == ["undrain web-1", "unsilence web-1"]


def test_debts_come_before_the_always_steps_and_theirs_come_after() -> None:
    made = plan(single_node("x", changes=True), single_node("tidy", changes=True, role="always"))
    owes = {
        "x/act/db": debt("x/act/db", "resume pool"),
        "tidy/act/db": debt("tidy/act/db", "close door"),
    }
    history = History(made, scripted(), owes=owes)
    assert history.play().status == "done"
    assert history.begun()[2:] == ["x/act/db", "x/settle/db", "tidy/act/db", "tidy/settle/db"]


def test_a_debt_of_a_task_that_no_plan_knows_is_told() -> None:
    _, finish = rolled({}, owed=(debt("gone/act/db"),))
    assert finish.status == "failed"
    assert "still owed: undrain web-1" in finish.reason


@pytest.mark.parametrize("paid", ["ok", "failed"])
def test_a_run_that_owes_or_has_owed_is_not_called_refused(paid: Status) -> None:
    bad = {"roll/preflight/web-0": result("refused"), SETTLE: result(paid)}
    _, finish = rolled(bad, owed=(debt(),))
    assert finish.status == "halted"
