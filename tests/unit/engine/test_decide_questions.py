"""Questions: the plan's, a step's own, an include's, approvals; what a yes and a no do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runbook.engine.decide import why_not_run
from runbook.model.plan import Confirm, Node, Plan
from unit.engine.plans import History, plan, result, rolling_node, single_node
from unit.engine.scenes import rehearsing, scripted


def approve(**args: Any) -> Node:
    """Return the step that somebody has to approve."""
    return single_node("ok", verb="approve", flow="approval", args=args, targets=("run",))


def played(made: Plan, **more: Any) -> tuple[History, Any]:
    """Play a plan in which all goes well."""
    history = History(made, scripted(), **more)
    return history, history.play()


def asked(history: History) -> list[tuple[str, str, int]]:
    """Return each question, and how many tasks had been begun before it (by its footprints)."""
    return [(one.kind, one.key, len(one.touches)) for one in history.asked]


# ---- a step's own --------------------------------------------------------------------------


def test_a_steps_question_comes_right_before_it_acts_and_after_the_plans() -> None:
    made = plan(
        single_node("x", changes=True), single_node("y", changes=True, confirm="Really go on?")
    )
    history, finish = played(made)
    assert finish.status == "done"
    assert asked(history) == [("plan", "confirm", 2), ("step", "y/confirm", 1)]
    assert history.asked[1].prompt == "Really go on?"
    assert history.asked[1].node == "y"


def test_a_no_before_anything_changed_refuses_and_afterwards_halts() -> None:
    ask = single_node("y", changes=True, confirm="Go on?")
    history, finish = played(plan(ask), answers={"y/confirm": False})
    assert (finish.status, finish.reason) == ("refused", "y: not confirmed")
    assert history.keys("act") == []
    made = plan(single_node("x", changes=True), ask, single_node("z", changes=True))
    history, finish = played(made, answers={"y/confirm": False})
    assert finish.status == "halted"
    assert finish.not_reached == ("db",)
    assert history.keys("act") == ["db"]


def test_a_no_is_no_failure() -> None:
    made = plan(
        single_node("x", changes=True),
        single_node("y", changes=True, confirm="Go on?", on_failure="continue"),
        single_node("undo", changes=True, role="on_failure", of="y"),
        single_node("z", changes=True),
        single_node("tidy", changes=True, role="always"),
    )
    history, _ = played(made, answers={"y/confirm": False})
    assert [key for key in history.begun() if "/act/" in key] == ["x/act/db", "tidy/act/db"]


def test_a_look_may_ask_too_and_a_rolling_step_asks_before_its_canary() -> None:
    made = plan(single_node("a", confirm="Look?"), rolling_node(2, (1, 1), confirm="Roll?"))
    history, finish = played(made)
    assert finish.status == "done"
    assert asked(history) == [
        ("step", "a/confirm", 0),
        ("plan", "confirm", 2),
        ("step", "roll/confirm", 2),
    ]
    history, finish = played(made, answers={"roll/confirm": False})
    assert finish.status == "refused"
    assert history.keys("restart") == []


def test_a_step_that_is_skipped_asks_nothing() -> None:
    history, _ = played(plan(single_node("a", confirm="Look?", when="false")))
    assert history.asked == []


def test_an_include_asks_once_before_its_first_step() -> None:
    ask = (("inc", "Go in?"),)
    made = plan(
        single_node("inc.a", changes=True, scope="inc", also_confirm=ask),
        single_node("inc.b", changes=True, scope="inc", also_confirm=ask),
    )
    history, _ = played(made)
    assert asked(history) == [("plan", "confirm", 2), ("step", "inc/confirm", 2)]


def test_a_question_names_what_was_seen() -> None:
    made = plan(
        single_node("a", save="a"), single_node("b", confirm="End ${steps.a.rows} sessions?")
    )
    history, _ = played(made)
    assert history.asked[0].prompt == "End 3 sessions?"


def test_a_question_binds_to_the_plan_its_step_and_its_footprints() -> None:
    def question(made: Plan, touch: str = "touch db") -> Confirm:
        script = {"x/prepare/db": result(touches=(touch,))}
        history = History(made, scripted(script))
        history.play()
        return history.asked[1]

    made = plan(single_node("x", changes=True, confirm="Go?"))
    one = question(made)
    assert question(made).hash == one.hash
    assert question(made, "touch everything").hash != one.hash
    assert question(replace(made, params={"size": 2})).hash != one.hash
    again = History(made, scripted())
    again.play()
    assert one.hash != again.asked[0].hash, "a yes to the plan is none to its step"


def test_an_interrupt_comes_before_a_question() -> None:
    history = History(plan(single_node("a", confirm="Look?")), scripted())
    history.interrupt_after = 0
    assert history.play().status == "interrupted"
    assert history.asked == []


# ---- approvals -----------------------------------------------------------------------------


def test_an_approval_is_asked_of_those_who_may_give_it_and_then_acts() -> None:
    made = plan(approve(prompt="Restart?", by=["ada", "bob@desk"], expires=3600.0))
    history, finish = played(made)
    assert finish.status == "done"
    (question,) = history.asked
    assert (question.kind, question.key, question.node) == ("approval", "ok/approval", "ok")
    assert (question.prompt, question.by) == ("Restart?", ("ada", "bob@desk"))
    assert question.expires_s == 3600.0
    assert history.begun() == ["ok/act/run"]


def test_without_approval_nothing_goes_on() -> None:
    made = plan(approve(prompt="Restart?"), single_node("x", changes=True))
    history, finish = played(made, answers={"ok/approval": False})
    assert (finish.status, finish.reason) == ("refused", "ok: not approved")
    assert history.begun() == ["x/prepare/db"]
    assert history.asked[0].expires_s is None
    assert history.asked[0].by == ()


def test_an_approval_before_the_first_change_shows_what_it_stands_for() -> None:
    made = plan(approve(prompt="?"), single_node("x", changes=True), rolling_node(2, (1, 1)))
    history, finish = played(made)
    assert finish.status == "done"
    assert history.asked[0].kind == "approval"
    lines = ("touch db", "restart web-0", "restart web-1")
    assert history.asked[0].touches == lines
    script = {"x/prepare/db": result(touches=("touch another",))}
    other = History(made, scripted(script))
    other.play()
    assert other.asked[0].hash != history.asked[0].hash


def test_nobody_is_asked_to_approve_what_cannot_be_done() -> None:
    made = plan(approve(prompt="?"), single_node("x", changes=True))
    history = History(made, scripted({"x/prepare/db": result("refused")}))
    assert history.play().status == "refused"
    assert history.asked == []


# ---- a yes stands for what was shown -----------------------------------------------------------


def two_lines() -> Plan:
    """Return an include whose look fails: its own step follows, then the including step's."""
    return plan(
        single_node("inc.look", scope="inc"),
        single_node("inc.first", changes=True, role="on_failure", of="inc.look", scope="inc"),
        single_node("second", changes=True, role="on_failure", of="inc"),
        single_node("later", changes=True),
        single_node("of-later", changes=True, role="on_failure", of="later"),
        single_node("tidy", changes=True, role="always"),
    )


def lines_of(*keys: str) -> dict[str, Any]:
    """Return looks that show a line for each step."""
    return {f"{key}/prepare/db": result(touches=(f"line of {key}",)) for key in keys}


def test_all_that_may_follow_a_failure_is_shown_before_any_of_it_acts() -> None:
    script = lines_of("inc.first", "second", "tidy", "later", "of-later")
    history = History(two_lines(), scripted({**script, "inc.look/act/db": result("failed")}))
    assert history.play().status == "failed"
    (question,) = history.asked
    assert question.touches == ("line of inc.first", "line of second", "line of tidy")
    acted = [key for key in history.begun() if key.endswith("/act/db")]
    assert acted == ["inc.look/act/db", "inc.first/act/db", "second/act/db", "tidy/act/db"]


def test_what_may_follow_what_follows_is_shown_with_it() -> None:
    made = plan(
        single_node("look"),
        single_node("first", changes=True, role="on_failure", of="look"),
        single_node("second", changes=True, role="on_failure", of="first"),
    )
    bad = {"look/act/db": result("failed"), "first/act/db": result("failed")}
    history = History(made, scripted({**lines_of("first", "second"), **bad}))
    history.play()
    assert [one.touches for one in history.asked] == [("line of first", "line of second")]
    assert history.begun()[-1] == "second/act/db"


@pytest.mark.parametrize("yes", [True, False])
def test_what_was_not_known_when_the_yes_was_given_is_asked_anew(yes: bool) -> None:
    """Its arguments hang on a look that is taken after the failure."""
    made = plan(
        single_node("look"),
        single_node("first", changes=True, role="on_failure", of="look"),
        single_node("see", save="see", role="on_failure", of="look"),
        single_node(
            "second",
            changes=True,
            role="on_failure",
            of="look",
            args={"text": "${steps.see.rows}"},
        ),
        single_node("tidy", changes=True, role="always"),
    )
    script = {"look/act/db": result("failed"), **lines_of("first", "second", "tidy")}
    history = History(made, scripted(script))
    answers = iter((True, yes))

    class Answers(dict[str, bool]):
        def get(self, key: str, default: Any = None) -> Any:
            return next(answers) if key == "confirm" else default

    history.answers = Answers()
    history.play()
    assert [one.touches for one in history.asked] == [
        ("line of first", "line of tidy"),
        ("line of first", "line of second", "line of tidy"),
    ]
    assert history.asked[0].hash != history.asked[1].hash
    assert ("second/act/db" in history.begun()) is yes
    assert history.begun()[-1] == "tidy/act/db"  # it was confirmed, and always runs


def test_an_approval_after_the_plans_question_shows_what_it_stands_for() -> None:
    made = plan(single_node("x", changes=True), approve(prompt="?"), single_node("y", changes=True))
    history, _ = played(made)
    assert history.asked[1].touches == ("touch db", "touch db")


@pytest.mark.parametrize("node", [approve(prompt="?"), single_node("ok", confirm="Look?")])
def test_a_rehearsal_asks_nobody(node: Node) -> None:
    made = plan(node, single_node("x", changes=True, confirm="Go?", when="true"), rehearsal=True)
    history = History(made, rehearsing())
    assert history.play().status == "rehearsed"
    assert history.asked == []
    if node.flow == "approval":
        why = why_not_run(made, node, history.results)
        assert why is not None
        assert (why.status, why.summary) == ("not_exercised", "not run: a rehearsal asks nobody")


def test_what_hangs_on_an_approval_is_not_known_in_a_rehearsal() -> None:
    made = plan(
        replace(approve(prompt="?"), save="ok"),
        single_node("x", changes=True, when="steps.ok.status == 'ok'"),
        rehearsal=True,
    )
    history = History(made, rehearsing())
    assert history.play().status == "rehearsed"
    assert history.begun() == ["x/prepare/db", "x/act/db"]
