"""A run read back from its journal: what every report shows of it."""

from __future__ import annotations

from typing import Any

from runbook.engine.history import history_of
from runbook.model.events import Event
from runbook.model.history import History
from runbook.model.plan import Node, Plan
from runbook.model.ports import KeptRun, RunRecord

HOSTILE = "<script>alert(1)</script> | `x` \x1b[31m \u202e ]]> & \"'"


def node(key: str = "roll", verb: str = "command", **changed: Any) -> Node:
    values: dict[str, Any] = {
        "key": key,
        "name": key,
        "verb": verb,
        "args": {},
        "changes": True,
        "flow": "single",
        "targets": ("web-1", "web-2"),
    }
    return Node(**{**values, **changed})


def result(status: str = "ok", summary: str = "", **more: Any) -> dict[str, Any]:
    return {"result": {"status": status, "summary": summary, **more}}


class Tape:
    """Writes events one second apart."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.events: list[Event] = []

    def add(self, kind: Any, task: str | None = None, /, **data: Any) -> Tape:
        self.at += 1
        self.events.append(Event(kind=kind, at=self.at, task=task, data=data))
        return self

    def begin(self, task: str) -> Tape:
        _, phase, target = task.split("/")
        return self.add("task_started", task, verb="command", phase=phase, target=target)

    def kept(self, status: str = "done", *nodes: Node, **changed: Any) -> KeptRun:
        plan = Plan(
            engine=2,
            playbook="roll",
            target="shop",
            params={"size": 2, "unset": None},
            nodes=nodes or (node(),),
            rehearsal=changed.get("rehearsal", False),
        )
        record: dict[str, Any] = {
            "run_id": "20260101-021700-abcd",
            "playbook": "roll",
            "target": "shop",
            "rehearsal": False,
            "status": status,
            "started_at": 1000.0,
            "ended_at": self.at,
            "who": "ana@bastion",
            "incident": "INC-1",
            "plan_hash": plan.hash,
        }
        return KeptRun(
            record=RunRecord(**{**record, **changed}),
            request=None,
            plan=plan.to_json(),
            events=self.events,
        )


def whole() -> Tape:
    """A run with everything in it: one host well, one whose end nobody saw."""
    tape = Tape()
    tape.add("asked", key="confirm", touches=["web-1: x"], hash="aaa", kind="plan", prompt="")
    tape.add("answered", key="confirm", yes=True, by="bo@bastion", hash="aaa", comment="go")
    tape.begin("roll/act/web-1")
    tape.add("said", "roll/act/web-1", stage="restarting", text="now")
    tape.add("intended", "roll/act/web-1", sentence="on web-1: x", footprint=["web-1: x"])
    tape.add("changed", "roll/act/web-1", sentence="on web-1: x", seconds=1.5)
    tape.add("said", "roll/act/web-1", stage="gating", text="1 of 2 good")
    tape.add("said", "roll/act/web-1", stage="gating", text="2 of 2 good")
    data = {
        "slots_before": {"used": 30, "usable": 37},
        "slots": {"used": 10, "usable": 37},
        "terminated": [11, 12],
        "answers": [{"kind": "http", "asked": "GET http://x/", "good": True, "answer": "200"}],
        "stdout": HOSTILE,
    }
    tape.add("task_finished", "roll/act/web-1", **result("ok", HOSTILE, data=data))
    tape.begin("roll/act/web-2")
    debt = {"key": "undrain web-2", "task": "roll/act/web-2", "what": "undrain"}
    tape.add("owed", "roll/act/web-2", **debt, by_hand=["undrain it"], data={})
    tape.add("intended", "roll/act/web-2", sentence="on web-2: x", footprint=["web-2: x"])
    return tape


def told() -> History:
    return history_of(whole().kept("failed", ended_at=None))


def test_stages_follow_what_was_said() -> None:
    first, second = told().tasks
    assert [(stage.name, stage.start, stage.end) for stage in first.stages] == [
        ("restarting", 1003.0, 1007.0),
        ("gating", 1007.0, 1009.0),
    ]
    assert first.stages[-1].text == "2 of 2 good"
    assert (first.node, first.phase, first.target, first.status) == ("roll", "act", "web-1", "ok")
    assert (second.status, second.result) == ("no end", None)


def test_a_change_whose_end_nobody_saw_is_told_as_that() -> None:
    changes = [(task.target, made.state, made.seconds) for task, made in told().changes]
    assert changes == [("web-1", "made", 1.5), ("web-2", "unseen", None)]


def test_slots_sessions_debts_and_answers() -> None:
    history = told()
    assert [(each.used, each.usable) for each in history.slots] == [(30, 37), (10, 37)]
    assert history.terminated == {"web-1": (11, 12)}
    assert [debt.key for debt in history.owed] == ["undrain web-2"]
    (asked,) = history.questions
    assert (asked.yes, asked.by, asked.comment) == (True, "bo@bastion", "go")
    assert history.params == {"size": 2}


def test_a_run_without_an_end_is_told_as_that() -> None:
    assert told().status == "no end"
    assert told().end == 1012.0


def test_a_second_process_goes_on_with_a_task() -> None:
    tape = whole()
    tape.add("resumed", by="cy@bastion", pid=2, choices={})
    tape.begin("roll/act/web-2")
    tape.add("intended", "roll/act/web-2", sentence="on web-2: y", footprint=[])
    tape.add("changed", "roll/act/web-2", sentence="on web-2: y", seconds=1)
    tape.add("task_finished", "roll/act/web-2", **result("ok"))
    tape.add("paid", "roll/act/web-2", key="undrain web-2")
    tape.add("finished", status="done", reason="", hint="")
    history = history_of(tape.kept("done"))
    assert [made.state for _, made in history.changes] == ["made", "unseen", "made"]
    assert history.owed == ()
    assert any("taken up again, by cy@bastion" in moment.text for moment in history.moments)
    (step,) = history.steps
    assert step.result is not None
    assert step.result.status == "ok"


def test_a_clock_that_was_set_back_turns_no_bar_around() -> None:
    tape = Tape().begin("roll/act/web-1")
    tape.at = 500
    tape.add("said", "roll/act/web-1", stage="a", text="")
    tape.add("task_finished", "roll/act/web-1", **result("ok"))
    history = history_of(tape.kept())
    assert all(stage.end >= stage.start for task in history.tasks for stage in task.stages)
    assert history.end >= history.start


def test_steps_that_were_not_reached() -> None:
    tape = Tape().begin("roll/act/web-1")
    tape.add("task_finished", "roll/act/web-1", **result("failed", "no"))
    tape.add("finished", status="failed", reason="web-1: no", hint="look")
    history = history_of(tape.kept("failed", node(), node("later")))
    first, later = history.steps
    assert first.result is not None
    assert first.result.status == "failed"
    assert later.result is None
    assert (history.reason, history.hint) == ("web-1: no", "look")


def test_a_journal_with_nothing_but_a_plan() -> None:
    history = history_of(Tape().kept("running", ended_at=None))
    assert (history.tasks, history.changes, history.status) == ((), [], "no end")
