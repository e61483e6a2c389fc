"""What a step may know: filled-in arguments, loops, scopes of included playbooks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runbook.engine.decide import why_not_run
from runbook.model.plan import Finish, Node, Plan, Result
from unit.engine.plans import History, plan, result, single_node
from unit.engine.scenes import rehearsing, scripted

SEEN = {"look/act/db": result(data={"rows": [{"n": 7}], "name": "shop", "who": {"a": 1}})}


def look(**more: Any) -> Node:
    """Return the look whose result others use."""
    return single_node("look", save="look", **more)


def played(made: Plan, script: dict[str, Result] | None = None) -> tuple[History, Finish]:
    """Play a plan."""
    history = History(made, scripted(SEEN if script is None else script))
    return history, history.play()


# ---- arguments -----------------------------------------------------------------------------


def test_arguments_are_filled_in_when_the_task_is_made() -> None:
    args = {
        "n": "${steps.look.rows[0].n}",
        "text": "there are ${ steps.look.rows[0].n } of ${steps.look.name} on ${host.name}",
        "nested": [{"who": "${steps.look.who}"}],
    }
    history, finish = played(plan(look(), single_node("b", args=args)))
    assert finish.status == "done"
    assert history.tasks["b/act/db"].args == {
        "n": 7,
        "text": "there are 7 of shop on ${host.name}",
        "nested": [{"who": {"a": 1}}],
    }


def test_what_a_host_printed_is_never_a_template() -> None:
    said = {"look/act/db": result(data={"stdout": "curl ${host.address}"})}
    node = single_node("b", args={"argv": ["echo", "${steps.look.stdout}", "${host.name}"]})
    history, finish = played(plan(look(), node), said)
    assert history.begun() == ["look/act/db"]
    assert finish.reason == (
        "b: what an earlier step said holds ${host.address}, which this step would fill in"
    )


def test_a_change_is_prepared_and_made_with_the_same_arguments() -> None:
    made = plan(look(), single_node("x", changes=True, args={"say": "${steps.look.name}"}))
    history, _ = played(made)
    assert history.performed[:2] == [("look/act/db",), ("x/prepare/db",)]
    for key in ("x/prepare/db", "x/act/db"):
        assert history.tasks[key].args == {"say": "shop"}


def test_what_is_not_there_fails_the_step_and_says_what_there_is() -> None:
    node = single_node("b", args={"say": "${steps.look.nme}"}, on_failure="continue")
    history, finish = played(plan(look(), node, single_node("c")))
    assert history.begun() == ["look/act/db", "c/act/db"]
    assert (finish.status, finish.reason) == ("failed", "b: ${steps.look.nme} is not known")
    assert "name" in finish.hint
    assert "rows" in finish.hint


def test_for_a_change_it_refuses_the_run_before_anything_changed() -> None:
    node = single_node("y", changes=True, args={"say": "${steps.look.nme}"})
    history, finish = played(plan(look(), single_node("x", changes=True), node))
    assert finish.status == "refused"
    assert finish.reason == "y: ${steps.look.nme} is not known"
    assert history.keys("act") == ["db"]


def test_a_step_that_is_left_out_needs_no_arguments() -> None:
    node = single_node("b", args={"say": "${steps.look.nme}"}, when="false")
    assert played(plan(look(), node))[1].status == "done"


def test_a_result_is_never_filled_in_twice() -> None:
    script = {"look/act/db": result(data={"name": "${steps.look.rows} ${HOME}"})}
    history, _ = played(plan(look(), single_node("b", args={"say": "${steps.look.name}"})), script)
    assert history.tasks["b/act/db"].args == {"say": "${steps.look.rows} ${HOME}"}


def test_what_hangs_on_an_assumed_answer_is_not_exercised() -> None:
    made = plan(
        single_node("x", changes=True, save="look"),
        single_node("y", changes=True, args={"say": "${steps.look.rows}"}),
        rehearsal=True,
    )
    history = History(made, rehearsing())
    assert history.play().status == "rehearsed"
    assert history.begun() == ["x/prepare/db", "x/act/db"]
    why = why_not_run(made, made.nodes[1], history.results)
    assert why is not None
    assert why.status == "not_exercised"


def test_a_failed_steps_status_can_be_told_by_a_handler() -> None:
    made = plan(
        look(),
        single_node("tell", role="on_failure", of="look", args={"say": "${steps.look.summary}"}),
    )
    history, _ = played(made, {"look/act/db": result("failed")})
    assert history.tasks["tell/act/db"].args == {"say": "it is failed"}


# ---- loops ---------------------------------------------------------------------------------


def loop(*items: Any, **more: Any) -> list[Node]:
    """Return a loop's nodes."""
    return [single_node(f"l[{str(i).lower()}]", save="l", loop="l", item=i, **more) for i in items]


def test_a_loop_saves_its_items_under_one_name() -> None:
    made = plan(
        *loop("A", "b", True, on_failure="continue"),
        single_node("ok", when="steps.l.items['a'].rows == 3 && steps.l.items['true'].rows == 3"),
        single_node("bad", when="steps.l.status == 'failed'", args={"b": "${steps.l.items.b.n}"}),
    )
    history, _ = played(made, {"l[b]/act/db": result("failed", data={"n": 1})})
    assert history.begun()[3:] == ["ok/act/db", "bad/act/db"]
    assert history.tasks["bad/act/db"].args == {"b": 1}


def test_an_item_is_known_to_its_own_condition() -> None:
    made = plan(
        *loop("a", "b", when="item == 'b'"), single_node("c", when="steps.l.status == 'ok'")
    )
    history, _ = played(made)
    assert history.begun() == ["l[b]/act/db", "c/act/db"]


def test_a_condition_cannot_see_what_comes_later() -> None:
    made = plan(single_node("a", when="steps.b.status == 'ok'"), single_node("b", save="b"))
    history, finish = played(made)
    assert finish.status == "failed"
    assert history.begun() == []


def test_a_step_that_this_run_leaves_out_counts_as_skipped() -> None:
    made = plan(single_node("b", when="steps.gone.status == 'skipped'"))
    assert played(made)[0].begun() == ["b/act/db"]


# ---- scopes --------------------------------------------------------------------------------


def test_an_included_step_sees_its_own_parameters_results_and_target() -> None:
    made = plan(
        single_node("a", save="a"),
        single_node("inc.a", scope="inc", save="a", when="params.size == 2 && target == 'other'"),
        single_node("inc.b", scope="inc", args={"n": "${steps.a.n}"}),
        single_node("b", args={"n": "${steps.a.n}"}, when="params.size == 1 && target == 'db'"),
        size=1,
    )
    made = replace(made, scopes={"inc": {"size": 2}}, scope_targets={"inc": "other"})
    script = {f"{key}/act/db": result(data={"n": key}) for key in ("a", "inc.a")}
    history, _ = played(made, script)
    assert history.tasks["inc.b/act/db"].args == {"n": "inc.a"}
    assert history.tasks["b/act/db"].args == {"n": "a"}


@pytest.mark.parametrize(("outer", "inner", "runs"), [(3, 1, True), (3, 2, False), (4, 1, False)])
def test_the_includes_condition_and_the_steps_own_must_hold(
    outer: int, inner: int, runs: bool
) -> None:
    made = plan(
        look(),
        single_node(
            "inc.a",
            scope="inc",
            when="params.size == 1",
            also_when=(("", f"steps.look.rows[0].n == 7 && {outer} == 3"),),
        ),
    )
    made = replace(made, scopes={"inc": {"size": inner}})
    history, _ = played(made)
    assert ("inc.a/act/db" in history.begun()) is runs


def test_what_an_include_leaves_out_is_not_asked_any_further() -> None:
    made = plan(
        look(),
        single_node("inc.a", scope="inc", when="params.gone.x == 1", also_when=(("", "1 == 2"),)),
    )
    made = replace(made, scopes={"inc": {"gone": {}}})
    assert played(made)[1].status == "done"
    why = why_not_run(made, made.nodes[1], History(made, scripted()).results)
    assert why is not None
    assert why.summary == "not run: 1 == 2 and params.gone.x == 1 does not hold"


def test_a_files_content_stays_as_it_is() -> None:
    args = {"content": "say ${steps.look.name} ${steps.gone}", "path": "/${steps.look.name}"}
    node = single_node("put", changes=True, args=args, verbatim=("content",))
    history, finish = played(plan(look(), node))
    assert finish.status == "done"
    for key in ("put/prepare/db", "put/act/db"):
        assert history.tasks[key].args == {"content": args["content"], "path": "/shop"}


# ---- what was taken out as a secret --------------------------------------------------------

HOLED = {
    "look/act/db": result(
        data={"stdout": "password=…", "rows": [{"n": 7, "note": "…"}], "exit_code": 0},
        masked=("/stdout", "/rows/0/note"),
    )
}
TAKEN_OUT = "holds something that was taken out as a secret"


@pytest.mark.parametrize("path", ["stdout", "rows", "rows[0]", "rows[0].note"])
def test_what_was_taken_out_becomes_no_content(path: str) -> None:
    args = {"content": ["a", {"b": f"x ${{steps.look.{path}}}"}]}
    made = plan(look(), single_node("x", changes=True, args=args), single_node("y", changes=True))
    history, finish = played(made, HOLED)
    assert history.begun() == ["look/act/db"]
    assert finish.status == "refused"
    assert finish.reason == f"x: steps.look.{path} {TAKEN_OUT}"
    assert "read it on the host in one step" in finish.hint


@pytest.mark.parametrize("path", ["rows[0].n", "exit_code", "status", "summary"])
def test_what_stands_beside_it_may_be_used(path: str) -> None:
    args = {"content": f"${{steps.look.{path}}}"}
    assert played(plan(look(), single_node("x", args=args)), HOLED)[1].status == "done"


@pytest.mark.parametrize("verb", ["notify", "set"])
def test_people_may_read_what_is_left_of_it(verb: str) -> None:
    node = single_node("x", verb=verb, args={"message": "${steps.look.stdout}"})
    assert played(plan(look(), node), HOLED)[1].status == ("done" if verb == "notify" else "failed")


@pytest.mark.parametrize(
    "when",
    [
        "steps.look.stdout == 'x'",
        "steps.look.stdout.contains('x')",
        "steps.look['stdout'] == 'x' || true",
        "size(steps.look.rows) == 1",
        "steps.look.rows[0].note == 'x'",
        "steps.look.rows[int('0')].n == 7",
        "[steps.look].exists(l, l.stdout == 'x')",
    ],
)
def test_no_condition_is_held_against_the_hole(when: str) -> None:
    history, finish = played(plan(look(), single_node("x", changes=True, when=when)), HOLED)
    assert history.begun() == ["look/act/db"]
    assert finish.status == "failed"
    assert TAKEN_OUT in finish.reason
    assert "read it on the host" in finish.hint


@pytest.mark.parametrize(
    "when",
    ["steps.look.exit_code == 0", "steps.look.rows[0].n == 7", "steps.look.status.size() == 2"],
)
def test_a_condition_may_ask_for_what_is_whole(when: str) -> None:
    history, finish = played(plan(look(), single_node("x", when=when)), HOLED)
    assert (finish.status, "x/act/db" in history.tasks) == ("done", True)


def test_of_several_targets_and_of_items_it_is_known_where() -> None:
    holed = result(data={"out": "…", "n": 1}, masked=("/out",))
    script = {"look/act/a": result(data={"out": "x", "n": 1}), "look/act/b": holed}
    two = look(targets=("a", "b"))
    for path, status in (("a.out", "done"), ("b.out", "failed"), ("b.n", "done")):
        node = single_node("x", args={"say": f"${{steps.look.targets.{path}}}"})
        assert played(plan(two, node), script)[1].status == status, path
    looped = single_node("l[a]", save="look", loop="l", item="a")
    for path, status in (("out", "failed"), ("n", "done")):
        node = single_node("x", when=f"steps.look.items['a'].{path} != 'y'")
        script = {"l[a]/act/db": holed}
        assert played(plan(looped, node), script)[1].status == status, path
