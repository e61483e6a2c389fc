"""Ordinary steps: order, conditions, preparation of later changes, rehearsal."""

from __future__ import annotations

import json
from dataclasses import replace

from runbook.model.plan import Result, Task, plan_from_json
from unit.engine.plans import History, plan, result, single_node


def calm(task: Task) -> Result:
    """A world in which everything goes well."""
    touches = (f"touch {task.target}",) if task.phase == "prepare" else ()
    return result(touches=touches, data={"rows": 3})


def test_looks_run_in_order_and_ask_for_nothing() -> None:
    history = History(plan(single_node("a"), single_node("b")), calm)
    assert history.play().status == "done"
    assert history.performed == [("a/act/db",), ("b/act/db",)]
    assert history.asked == []


def test_later_changes_are_prepared_and_confirmed_before_the_first_acts() -> None:
    history = History(
        plan(single_node("look"), single_node("x", changes=True), single_node("y", changes=True)),
        calm,
    )
    assert history.play().status == "done"
    assert history.performed == [
        ("look/act/db",),
        ("x/prepare/db", "y/prepare/db"),
        ("x/act/db",),
        ("y/act/db",),
    ]
    assert len(history.asked) == 1
    assert history.asked[0].touches == ("touch db", "touch db")


def test_a_preparation_that_says_no_ends_the_run_before_anything_changed() -> None:
    def world(task: Task) -> Result:
        return result("refused") if task.key == "y/prepare/db" else calm(task)

    history = History(plan(single_node("x", changes=True), single_node("y", changes=True)), world)
    assert history.play().status == "refused"
    assert history.keys("act") == []


def test_a_false_condition_skips_a_step_and_what_hangs_on_it() -> None:
    history = History(
        plan(
            single_node("a", save="a", when="params.size > 3"),
            single_node("b", when="steps.a.status == 'ok'"),
            single_node("c", when="steps.a.status == 'skipped'"),
            size=1,
        ),
        calm,
    )
    assert history.play().status == "done"
    assert history.performed == [("c/act/db",)]


def test_a_condition_reads_what_an_earlier_step_saved() -> None:
    history = History(
        plan(single_node("a", save="a"), single_node("b", when="steps.a.rows == 3")), calm
    )
    history.play()
    assert history.performed == [("a/act/db",), ("b/act/db",)]


def test_a_condition_that_cannot_be_decided_fails_the_run() -> None:
    history = History(
        plan(single_node("a", save="a"), single_node("b", when="steps.a.nothing > 3")), calm
    )
    finish = history.play()
    assert finish.status == "failed"
    assert "nothing" in finish.reason


def test_a_failed_step_ends_the_run() -> None:
    def world(task: Task) -> Result:
        return result("failed") if task.node == "a" else calm(task)

    history = History(plan(single_node("a"), single_node("b")), world)
    assert history.play().status == "failed"
    assert history.performed == [("a/act/db",)]


def test_nothing_to_touch_asks_nothing() -> None:
    history = History(plan(single_node("x", changes=True)), lambda _task: result())
    assert history.play().status == "done"
    assert history.asked == []


def test_a_rehearsal_does_not_look_at_a_world_that_it_only_assumed() -> None:
    def world(task: Task) -> Result:
        return result("rehearsed") if task.phase == "act" and task.node == "x" else calm(task)

    history = History(
        plan(single_node("x", changes=True), single_node("verify"), rehearsal=True), world
    )
    assert history.play().status == "rehearsed"
    assert "verify/act/db" not in history.results


def test_a_condition_on_an_assumed_result_is_unknown_and_shown_both_ways() -> None:
    def world(task: Task) -> Result:
        return result("rehearsed") if task.phase == "act" else calm(task)

    history = History(
        plan(
            single_node("x", changes=True, save="x"),
            single_node("y", changes=True, when="steps.x.status == 'ok'"),
            rehearsal=True,
        ),
        world,
    )
    assert history.play().status == "rehearsed"
    assert history.keys("prepare") == ["db", "db"]


def test_a_plan_survives_the_journal_and_keeps_its_hash() -> None:
    made = plan(single_node("a", save="a"), single_node("b", when="true"), size=1)
    again = plan_from_json(json.loads(json.dumps(made.to_json())))
    assert again == made
    assert again.hash == made.hash
    assert plan(single_node("a"), rehearsal=True).hash == plan(single_node("a")).hash
    assert plan(single_node("b")).hash != plan(single_node("a")).hash


def test_a_change_that_fails_on_one_host_is_not_carried_to_the_hosts_that_wait() -> None:
    def world(task: Task) -> Result:
        return result("failed") if task.key == "x/act/h1" else calm(task)

    node = single_node("x", changes=True, targets=("h0", "h1", "h2", "h3"))
    history = History(replace(plan(node), parallel=2), world)
    finish = history.play()
    assert finish.status == "failed"
    assert finish.not_reached == ("h2", "h3")
    assert history.keys("act") == ["h0", "h1"]
