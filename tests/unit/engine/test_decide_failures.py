"""What follows a failure: continue, on_failure steps, always steps, includes that are left."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.engine.decide import why_not_run
from runbook.model.plan import Node, Plan, Result
from unit.engine.plans import History, plan, result, rolling_node, single_node
from unit.engine.scenes import rehearsing, scripted

BAD = result("failed", hint="look there")


def handler(key: str, of: str, **more: Any) -> Node:
    """Return a changing step that runs when another did not end well."""
    return single_node(key, changes=True, role="on_failure", of=of, **more)


def always(key: str, *, changes: bool = True, **more: Any) -> Node:
    """Return a step that runs at the end."""
    return single_node(key, changes=changes, role="always", **more)


def change(key: str, **more: Any) -> Node:
    """Return a changing step."""
    return single_node(key, changes=True, **more)


def played(made: Plan, script: dict[str, Result], **more: Any) -> tuple[History, Any]:
    """Play a plan; return its history and its end."""
    history = History(made, scripted(script), **more)
    return history, history.play()


def acted(history: History) -> list[str]:
    """Return the steps that acted, in order."""
    return [key.split("/")[0] for key in history.begun() if "/act/" in key or "/restart/" in key]


# ---- continue ------------------------------------------------------------------------------


def test_continue_lets_the_next_step_begin_and_the_run_fails_all_the_same() -> None:
    history, finish = played(
        plan(change("x", on_failure="continue"), change("y")), {"x/act/db": BAD}
    )
    assert acted(history) == ["x", "y"]
    assert (finish.status, finish.reason, finish.hint) == (
        "failed",
        "x: it is failed",
        "look there",
    )


def test_what_is_unknown_stays_unknown_when_the_run_goes_on() -> None:
    history, finish = played(
        plan(change("x", on_failure="continue"), change("y")), {"x/act/db": result("unknown")}
    )
    assert acted(history) == ["x", "y"]
    assert finish.status == "unknown"


def test_a_rolling_step_that_halts_lets_the_next_step_begin_too() -> None:
    made = plan(
        rolling_node(3, (1, 1, 1), on_failure="continue", save="roll"),
        single_node("b", when="steps.roll.status == 'failed'"),
    )
    history, finish = played(made, {"roll/restart/web-1": BAD})
    assert acted(history) == ["roll", "roll", "b"]
    assert (finish.status, finish.not_reached) == ("failed", ("web-2",))


def test_a_step_that_stopped_because_of_an_interrupt_lets_nothing_begin() -> None:
    stopped = result("failed", data={"interrupted": True})
    history, finish = played(
        plan(change("x", on_failure="continue"), change("y")), {"x/act/db": stopped}
    )
    assert acted(history) == ["x"]
    assert finish.status == "interrupted"


def test_a_condition_sees_a_step_that_failed_on_one_of_its_hosts() -> None:
    x = change("x", on_failure="continue", save="x", targets=("h0", "h1"))
    made = plan(x, single_node("b", when="steps.x.status == 'ok'"))
    history, _ = played(made, {"x/act/h0": BAD})
    assert acted(history) == ["x", "x"]


# ---- on_failure ----------------------------------------------------------------------------


def test_a_handler_runs_when_its_step_failed_and_the_run_ends_as_that_failure_said() -> None:
    made = plan(change("x"), handler("undo", "x"), handler("tell", "x"), change("y"))
    history, finish = played(made, {"x/act/db": BAD})
    assert acted(history) == ["x", "undo", "tell"]
    assert (finish.status, finish.reason) == ("failed", "x: it is failed")


def test_a_handler_whose_step_ended_well_does_not_run_and_says_so() -> None:
    made = plan(change("x"), handler("undo", "x"), change("y"))
    history, finish = played(made, {"y/act/db": BAD})
    assert acted(history) == ["x", "y"]
    assert finish.reason == "y: it is failed"
    why = why_not_run(made, made.nodes[1], history.results)
    assert why is not None
    assert why.status == "skipped"
    assert "only when x does not end well" in why.summary


def test_handlers_and_always_steps_are_prepared_and_confirmed_with_everything_else() -> None:
    made = plan(change("x"), handler("undo", "x"), always("tidy"))
    history, _ = played(made, {})
    assert history.performed[0] == ("x/prepare/db", "undo/prepare/db", "tidy/prepare/db")
    assert [confirm.touches for confirm in history.asked] == [("touch db",) * 3]


def test_a_handler_that_cannot_be_prepared_refuses_the_run_before_anything_changed() -> None:
    made = plan(change("x"), handler("undo", "x"))
    history, finish = played(made, {"undo/prepare/db": result("refused")})
    assert acted(history) == []
    assert finish.status == "refused"


def test_a_handler_of_a_step_that_is_over_is_not_shown_any_more() -> None:
    made = plan(single_node("look"), handler("tell", "look"), change("x"))
    history, _ = played(made, {})
    assert history.keys("prepare") == ["db"]


def test_a_failed_look_has_its_handlers_prepared_and_confirmed_then() -> None:
    made = plan(single_node("look"), handler("tell", "look"), change("x"), handler("no", "x"))
    history, finish = played(made, {"look/act/db": BAD})
    assert history.begun() == ["look/act/db", "tell/prepare/db", "tell/act/db"]
    assert history.asked[0].touches == ("touch db",)
    assert finish.reason == "look: it is failed"


def test_a_no_to_a_handlers_changes_is_no_other_end() -> None:
    made = plan(single_node("look"), handler("tell", "look"))
    history, finish = played(made, {"look/act/db": BAD}, answer=False)
    assert acted(history) == ["look"]
    assert finish.status == "failed"
    assert finish.reason.startswith("look: it is failed")


def test_a_handler_that_fails_ends_its_list_and_hides_nothing() -> None:
    made = plan(change("x"), handler("undo", "x"), handler("tell", "x"))
    history, finish = played(made, {"x/act/db": BAD, "undo/act/db": result("unknown")})
    assert acted(history) == ["x", "undo"]
    assert finish.status == "failed"
    assert finish.reason == "x: it is failed; undo: it is unknown"


def test_the_items_of_a_loop_have_the_loops_handlers() -> None:
    items = [change(f"l[{i}]", loop="l", item=i) for i in ("a", "b")]
    history, _ = played(plan(*items, handler("undo", "l")), {"l[a]/act/db": BAD})
    assert acted(history) == ["l[a]", "undo"]


def test_what_is_inside_an_include_has_its_own_handlers_and_the_includes() -> None:
    made = plan(
        change("inc.a", scope="inc"),
        handler("inc.undo", "inc.a", scope="inc"),
        handler("page", "inc"),
        change("y"),
    )
    history, finish = played(made, {"inc.a/act/db": BAD})
    assert acted(history) == ["inc.a", "inc.undo", "page"]
    assert finish.reason == "inc.a: it is failed"


def test_a_handler_knows_what_was_not_reached() -> None:
    made = plan(
        single_node("look", save="look"),
        change("x"),
        change("y", save="y"),
        handler("undo", "x", when="steps.y.status == 'not_reached' && steps.look.rows == 3"),
        handler("never", "x", when="steps.y.status == 'ok'"),
    )
    history, _ = played(made, {"x/act/db": BAD})
    assert acted(history) == ["look", "x", "undo"]


def test_a_step_that_was_not_reached_is_not_said_to_have_failed_for_its_arguments() -> None:
    made = plan(
        change("x"),
        single_node("z", save="z"),
        single_node("y", save="y", args={"n": "${steps.z.rows}"}),
        handler("undo", "x", when="steps.y.status == 'not_reached'"),
    )
    history, _ = played(made, {"x/act/db": BAD})
    assert acted(history) == ["x", "undo"]


def test_an_interrupt_begins_no_handler_and_says_so() -> None:
    made = plan(change("x"), handler("undo", "x"))
    history = History(made, scripted({"x/act/db": BAD}))
    history.interrupt_after = 2  # preparation, x
    finish = history.play()
    assert acted(history) == ["x"]
    assert (finish.status, finish.reason) == ("failed", "x: it is failed; undo did not run")


def test_an_include_that_continues_is_left_at_its_first_failure() -> None:
    made = plan(
        change("inc.a", scope="inc", continues="inc"),
        handler("inc.undo", "inc.a", scope="inc", continues="inc"),
        change("inc.b", scope="inc", continues="inc"),
        change("y"),
    )
    history, finish = played(made, {"inc.a/act/db": BAD})
    assert acted(history) == ["inc.a", "inc.undo", "y"]
    assert (finish.status, finish.reason) == ("failed", "inc.a: it is failed")


def test_an_include_that_continues_among_the_handlers_is_left_and_the_next_one_runs() -> None:
    made = plan(
        change("x"),
        handler("inc.a", "x", scope="inc", continues="inc"),
        handler("inc.b", "x", scope="inc", continues="inc"),
        handler("tell", "x"),
    )
    history, finish = played(made, {"x/act/db": BAD, "inc.a/act/db": BAD})
    assert acted(history) == ["x", "inc.a", "tell"]
    assert finish.reason == "x: it is failed; inc.a: it is failed"


# ---- always --------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [{}, {"x/act/db": BAD}, {"x/act/db": result("unknown")}])
def test_always_steps_run_once_however_the_run_went(bad: dict[str, Result]) -> None:
    history, _ = played(plan(change("x"), always("a"), always("b", changes=False)), bad)
    assert acted(history) == ["x", "a", "b"]


@pytest.mark.parametrize(
    ("script", "answer"),
    [({"x/prepare/db": result("refused")}, True), ({}, False), ({"look/act/db": BAD}, True)],
)
def test_always_steps_do_not_run_when_nothing_acted(
    script: dict[str, Result], answer: bool
) -> None:
    made = plan(single_node("look"), change("x"), always("tidy"))
    history, _ = played(made, script, answer=answer)
    assert "tidy" not in acted(history)
    why = why_not_run(made, made.nodes[2], history.results)
    assert why is not None
    assert why.summary == "not run: nothing was changed"


def test_an_always_step_that_fails_is_told_and_keeps_no_other_from_running() -> None:
    made = plan(change("x"), always("a"), handler("after-a", "a"), always("b"))
    history, finish = played(made, {"a/act/db": BAD})
    assert acted(history) == ["x", "a", "after-a", "b"]
    assert (finish.status, finish.reason) == ("failed", "a: it is failed")
    worse = {"x/act/db": result("unknown"), "a/act/db": BAD}
    _, finish = played(made, worse)
    assert (finish.status, finish.reason) == ("unknown", "x: it is unknown; a: it is failed")


@pytest.mark.parametrize("after", [2, 3])  # preparation, x; then within the always steps
def test_an_interrupt_lets_the_always_steps_run(after: int) -> None:
    history = History(plan(change("x"), change("y"), always("a"), always("b")), scripted({}))
    history.interrupt_after = after
    finish = history.play()
    assert acted(history) == (["x", "a", "b"] if after == 2 else ["x", "y", "a", "b"])
    assert finish.status == ("interrupted" if after == 2 else "done")


def test_after_a_handler_has_acted_nothing_is_called_refused() -> None:
    made = plan(change("x"), handler("tell", "x"))
    _, finish = played(made, {"x/act/db": result("refused")})
    assert finish.status == "halted"


# ---- rehearsal -----------------------------------------------------------------------------


def test_a_rehearsal_prepares_handlers_and_shows_the_always_steps() -> None:
    made = plan(change("x"), handler("undo", "x"), always("xtidy"), rehearsal=True)
    history = History(made, rehearsing())
    assert history.play().status == "rehearsed"
    assert history.performed[0] == ("x/prepare/db", "undo/prepare/db", "xtidy/prepare/db")
    assert acted(history) == ["x", "xtidy"]
    why = why_not_run(made, made.nodes[1], history.results)
    assert why is not None
    assert why.status == "not_exercised"
