"""What a run goes on with: whatever was cut off, wherever it was cut off."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.engine.resume import (
    TakenUp,
    check_standing,
    in_time,
    may_answer,
    open_question,
    take_up,
)
from runbook.model.errors import Refused
from runbook.model.events import Event, Kind
from runbook.model.plan import AfterCrash, Node, Plan, Result, Retry, Status, Task
from unit.engine.plans import History, plan, result, rolling_node, single_node


def event(kind: Kind, task: str | None = None, /, *, at: float = 1.0, **data: Any) -> Event:
    """Return an event as the journal gives it back."""
    return Event(kind=kind, at=at, task=task, data=json.loads(json.dumps(data)))


def ended(task: str, status: Status = "ok", **more: Any) -> Event:
    """Return the end of a task."""
    return event("task_finished", task, result=asdict(result(status, **more)))


def act(after_crash: AfterCrash = "ask", **more: Any) -> Plan:
    """Return a plan that changes `db`."""
    return plan(single_node("act", changes=True, after_crash=after_crash, **more))


KEY = "act/act/db"
INTENT = event("intended", KEY, sentence="do it", footprint=[])


# ---- one task --------------------------------------------------------------------------------


def test_what_ended_well_stands_and_what_did_not_is_done_anew() -> None:
    both = plan(single_node("a"), single_node("b"))
    known = take_up(both, [ended("a/act/db"), ended("b/act/db", "failed")])
    assert set(known.results) == {"a/act/db"}
    assert known.crashed == {}


def test_a_change_without_an_outcome_is_looked_at_first() -> None:
    events = [
        event("noted", KEY, before=7, ours=["lb"]),
        event("noted", KEY, before=8),
        INTENT,
        event("changed", KEY, sentence="do it", seconds=1),
        event("intended", KEY, sentence="and that", footprint=[]),
    ]
    known = take_up(act("probe"), events)
    crashed = known.crashed[KEY]
    assert known.results == {}
    assert (crashed.intended, crashed.changed) == (("do it", "and that"), ("do it",))
    assert crashed.notes == {"before": 8, "ours": ["lb"]}
    assert crashed.result is None


def test_a_change_that_failed_is_looked_at_again_with_how_it_ended() -> None:
    known = take_up(act("probe"), [INTENT, ended(KEY, "failed", data={"stage": "gating"})])
    last = known.crashed[KEY].result
    assert last is not None
    assert (last["status"], last["data"]) == ("failed", {"stage": "gating"})


def test_what_cannot_be_looked_at_stays_unknown_until_a_person_says() -> None:
    known = take_up(act("ask"), [INTENT])
    assert known.results[KEY].status == "unknown"
    assert [doubt.key for doubt in known.doubts] == [KEY]
    assert known.doubts[0].what == "do it"
    assert f"--done {KEY} or --again {KEY}" in known.results[KEY].hint


def said(**choices: list[str]) -> Event:
    """Return a resume with what a person said of doubts."""
    return event("resumed", by="ada@desk", pid=7, choices=choices)


def test_a_person_says_that_it_was_done() -> None:
    known = take_up(act("ask"), [INTENT, said(done=[KEY])])
    assert known.results[KEY].status == "ok"
    assert "ada@desk" in known.results[KEY].summary
    assert (known.doubts, known.crashed) == ((), {})


def test_a_person_says_do_it_again_and_only_this_once() -> None:
    known = take_up(act("ask"), [INTENT, said(again=[KEY])])
    assert known.doubts == ()
    assert KEY not in known.results
    # A person has looked: the step need not find out what became of the first attempt.
    assert known.crashed[KEY].intended == ()
    once_more = take_up(act("ask"), [INTENT, said(again=[KEY]), INTENT])
    assert [doubt.key for doubt in once_more.doubts] == [KEY]


@pytest.mark.parametrize("choices", [{"again": [KEY]}, {"done": [KEY]}])
def test_what_ended_well_meanwhile_is_not_settled_by_an_older_word(
    choices: dict[str, list[str]],
) -> None:
    """Two people look at the same doubt; the second answers when the first has had it done."""
    events = [INTENT, said(again=[KEY]), INTENT, ended(KEY, "ok", data={"seen": 1})]
    known = take_up(act("ask"), [*events, said(**choices)])
    assert known.results[KEY].data == {"seen": 1}
    assert (known.doubts, known.crashed) == ((), {})


@pytest.mark.parametrize("status", ["unreachable", "refused"])
def test_what_certainly_was_not_done_is_no_doubt(status: Status) -> None:
    known = take_up(act("ask"), [INTENT, ended(KEY, status)])
    assert known.doubts == ()
    assert KEY not in known.results


def test_half_of_it_done_and_then_unreachable_is_a_doubt() -> None:
    events = [INTENT, event("changed", KEY, sentence="do it", seconds=1), INTENT]
    known = take_up(act("ask"), [*events, ended(KEY, "unreachable")])
    assert [doubt.key for doubt in known.doubts] == [KEY]


def test_a_retry_goes_on_with_the_attempt_that_was_cut_off() -> None:
    node = act("probe", retry=Retry(times=5, delay_s=1.0))
    events = [INTENT, ended(KEY, "failed"), event("intended", f"{KEY}#2", sentence="again")]
    known = take_up(node, events)
    assert known.results[KEY].status == "failed"
    assert set(known.crashed) == {f"{KEY}#2"}
    finished = take_up(node, [*events, ended(f"{KEY}#2")])
    assert set(finished.results) == {KEY, f"{KEY}#2"}


def test_an_attempt_is_good_when_it_is_what_the_retry_waits_for() -> None:
    waits = plan(single_node("act", retry=Retry(times=2, delay_s=1.0, until="result.up == true")))
    down, up = ({"data": {"up": False}}, {"data": {"up": True}})
    first = [ended(KEY, "ok", **down)]
    assert set(take_up(waits, first).results) == {KEY}
    over = [*first, ended(f"{KEY}#2", "ok", **down)]
    assert set(take_up(waits, over).results) == {KEY}
    assert set(take_up(waits, [*first, ended(f"{KEY}#2", "ok", **up)]).results) == {
        KEY,
        f"{KEY}#2",
    }


def test_an_older_journals_not_begun_is_no_result() -> None:
    not_begun = asdict(Result(status="skipped", summary="not begun: interrupted"))
    events = [event("task_finished", "a/act/db", result=not_begun)]
    assert take_up(plan(single_node("a")), events).results == {}


# ---- a rolling step ----------------------------------------------------------------------------


def test_all_hosts_are_probed_anew_before_a_further_one_is_restarted() -> None:
    rolling = plan(rolling_node(3, (1, 2), after_crash="probe"))
    events = [ended(f"roll/preflight/web-{i}") for i in range(3)]
    events += [ended("roll/admit/1"), ended("roll/restart/web-0"), ended("roll/admit/2")]
    events += [ended("roll/restart/web-1")]
    known = take_up(rolling, events)
    assert "roll/admit/2" not in known.results
    assert "roll/admit/1" not in known.results
    assert {"roll/restart/web-0", "roll/restart/web-1"} <= set(known.results)
    over = take_up(rolling, [*events, ended("roll/restart/web-2")])
    assert {"roll/admit/1", "roll/admit/2"} <= set(over.results)


# ---- debts and questions -----------------------------------------------------------------------


def owed(key: str) -> Event:
    """Return a debt of the act."""
    return event("owed", KEY, key=key, task=KEY, what=f"{key}!", by_hand=["hand"], data={"n": 1})


def test_what_is_owed_and_not_paid_is_owed_still() -> None:
    events = [owed("a"), owed("b"), event("paid", KEY, key="a"), owed("c")]
    known = take_up(act(), events)
    assert [debt.key for debt in known.owed] == ["b", "c"]
    assert known.owed[0].by_hand == ("hand",)


def test_settling_is_tried_anew_whatever_it_came_to() -> None:
    known = take_up(act("probe"), [owed("a"), ended("act/settle/db", "failed"), ended(KEY)])
    assert set(known.results) == {KEY}


def asked(at: float = 1.0, kind: str = "plan", **more: Any) -> Event:
    """Return a question."""
    said: dict[str, Any] = {"key": "confirm", "hash": "h", "kind": kind, "touches": [], **more}
    return event("asked", at=at, **said)


def answered(
    at: float = 2.0, *, yes: bool = True, by: str = "ada@desk", digest: str = "h"
) -> Event:
    """Return an answer."""
    return event("answered", at=at, key="confirm", hash=digest, yes=yes, by=by)


def yes_of(known: TakenUp) -> bool | None:
    """Return the answer that stands."""
    answer = known.answers.get(("confirm", "h"))
    return None if answer is None else answer.yes


def test_the_first_answer_stands_and_only_for_what_was_shown() -> None:
    events = [asked(), answered(by="ada@desk"), answered(yes=False, by="grace@desk")]
    known = take_up(act(), events)
    assert yes_of(known) is True
    assert known.answers["confirm", "h"].by == "ada@desk"
    other = take_up(act(), [asked(), answered(digest="of something else")])
    assert yes_of(other) is None
    assert other.open_question is not None


def test_an_answer_that_comes_too_late_counts_no_more() -> None:
    events = [asked(at=10.0, expires_s=60.0), answered(at=71.0)]
    known = take_up(act(), events)
    assert yes_of(known) is None
    assert known.open_question is not None
    assert in_time(events[0], 70.0)
    assert yes_of(take_up(act(), [events[0], answered(at=70.0)])) is True


@pytest.mark.parametrize(("kind", "stands"), [("plan", None), ("step", None), ("approval", False)])
def test_a_no_that_ended_a_run_is_asked_anew_but_for_an_approval(
    kind: str, stands: bool | None
) -> None:
    end = event("finished", status="refused", reason="", hint="")
    events = [asked(kind=kind), answered(yes=False), end, said()]
    assert yes_of(take_up(act(), events)) is stands


def test_a_no_to_a_run_that_waits_stands() -> None:
    waits = event("finished", status="waiting", reason="", hint="")
    assert yes_of(take_up(act(), [asked(), waits, answered(yes=False), said()])) is False


def test_a_question_of_version_1_has_no_key() -> None:
    events = [event("asked", touches=[], hash="h"), event("answered", yes=True, by="x", hash="h")]
    assert yes_of(take_up(act(), events)) is True
    assert open_question(events) is None


@pytest.mark.parametrize(
    ("by", "who", "may"),
    [
        ((), "ada@desk", True),
        (("ada",), "ada@desk", True),
        (("ada@desk",), "ada@desk", True),
        (("ada@other",), "ada@desk", False),
        (("grace", "ada"), "ada@desk", True),
        (("ada",), "adam@desk", False),
    ],
)
def test_who_may_answer(by: tuple[str, ...], who: str, may: bool) -> None:
    assert may_answer(by, who) is may


# ---- cut anywhere ------------------------------------------------------------------------------


class Recorder:
    """Plays a plan and writes down the events as an executor does."""

    def __init__(self, statuses: dict[str, Status]) -> None:
        self.events: list[Event] = []
        self.given: dict[str, dict[str, Any]] = {}
        self._statuses = statuses

    def __call__(self, task: Task) -> Result:
        """Perform a task."""
        self.events.append(event("task_started", task.key))
        status = self._statuses.get(task.key, "ok")
        if task.changes:
            self.events.append(event("intended", task.key, sentence=f"change {task.key}"))
            if status == "ok":
                self.events.append(event("changed", task.key, sentence=f"change {task.key}"))
        done = result(status)
        self.events.append(event("task_finished", task.key, result=asdict(done)))
        return done


def nodes(hosts: int, after_crash: AfterCrash) -> tuple[Node, ...]:
    """Return a look, a rolling restart and a change, in this order."""
    batches = (1, *([2] * hosts))
    return (
        single_node("look"),
        rolling_node(hosts, batches, after_crash=after_crash, max_failures=1),
        single_node("last", changes=True, after_crash=after_crash),
    )


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_wherever_it_is_cut_nothing_is_done_twice_unseen(data: st.DataObject) -> None:
    hosts = data.draw(st.integers(1, 5))
    after_crash: AfterCrash = data.draw(st.sampled_from(["probe", "repeat", "ask"]))
    broken = data.draw(st.sampled_from([None, *range(1, hosts)]) if hosts > 1 else st.just(None))
    statuses: dict[str, Status] = {} if broken is None else {f"roll/restart/web-{broken}": "failed"}
    began = plan(*nodes(hosts, after_crash))
    world = Recorder(statuses)
    History(began, world).play()
    cut = data.draw(st.integers(0, len(world.events)))
    events = world.events[:cut]
    known = take_up(began, events)

    good = {e.task for e in events if e.kind == "task_finished" and _good(e)}
    intended = {e.task for e in events if e.kind == "intended"}
    again = Recorder({})
    resumed = History(began, again)
    resumed.results.record(known.results)
    finish = resumed.play()

    performed = {key for batch in resumed.performed for key in batch}
    assert not {key for key in performed & good if "/admit/" not in str(key)}
    assert performed & intended <= set(known.crashed)
    if after_crash == "ask":
        assert not performed & intended
        assert {doubt.key for doubt in known.doubts} == intended - good
    else:
        assert known.doubts == ()
    if not known.doubts:
        assert finish.status == "done"
        assert all(r.good for r in resumed.results.values())


def _good(each: Event) -> bool:
    return bool(each.data["result"]["status"] == "ok")


# ---- what ran after a failure, or at the end ---------------------------------------------------


def change(key: str, **more: Any) -> Node:
    """Return a step that changes `db`."""
    return single_node(key, changes=True, **more)


def cut(made: Plan, statuses: dict[str, Status]) -> list[Event]:
    """Return the events of a run."""
    world = Recorder(statuses)
    History(made, world).play()
    return world.events


CRON = plan(change("stop"), change("work", after_crash="repeat"), change("start", role="always"))
FAILED: dict[str, Status] = {"work/act/db": "failed"}


def again_after(made: Plan, events: list[Event]) -> tuple[list[str], Any]:
    """Return what a resume does, and how it ends."""
    resumed = History(made, Recorder({}), results=take_up(made, events).results)
    finish = resumed.play()
    return [key for key in resumed.begun() if "/act/" in key], finish


def test_what_always_runs_does_so_again_at_the_end_of_a_resumed_run() -> None:
    made = plan(change("work", after_crash="repeat"), change("stop"), change("a", role="always"))
    events = [*cut(made, FAILED), said()]
    known = take_up(made, events)
    assert (known.doubts, list(known.crashed)) == ((), ["work/act/db"])
    begun, finish = again_after(made, events)
    assert begun == ["work/act/db", "stop/act/db", "a/act/db"]
    assert finish.status == "done"


def test_what_followed_a_failure_does_not_stand_when_there_is_none_any_more() -> None:
    undo = change("undo", role="on_failure", of="work")
    made = plan(change("work", after_crash="repeat"), undo, change("two"))
    begun, _ = again_after(made, [*cut(made, FAILED), said()])
    assert begun == ["work/act/db", "two/act/db"]


def test_what_the_end_may_have_undone_is_in_doubt_until_a_person_says() -> None:
    events = cut(CRON, FAILED)
    known = take_up(CRON, events)
    assert [(doubt.key, doubt.after) for doubt in known.doubts] == [("stop/act/db", "start")]
    assert known.results["stop/act/db"].status == "unknown"
    with pytest.raises(Refused, match=r"stop/act/db\), and then start ran"):
        check_standing(CRON, events, {})
    again = {"again": ["stop/act/db"]}
    check_standing(CRON, events, again)
    assert again_after(CRON, [*events, said(**again)])[0] == [
        "stop/act/db",
        "work/act/db",
        "start/act/db",
    ]
    done = {"done": ["stop/act/db"]}
    check_standing(CRON, events, done)
    assert again_after(CRON, [*events, said(**done)])[0] == ["work/act/db", "start/act/db"]


def test_a_word_holds_until_the_end_has_run_once_more() -> None:
    events = [*cut(CRON, FAILED), said(done=["stop/act/db"])]
    assert take_up(CRON, events).doubts == ()
    start = event("intended", "start/act/db", sentence="start cron")
    assert [doubt.key for doubt in take_up(CRON, [*events, start]).doubts] == [
        "stop/act/db",
        "start/act/db",
    ]


def test_a_line_that_is_over_and_well_is_in_no_doubt_and_what_followed_it_stands() -> None:
    made = plan(change("stop"), change("start", role="always"), change("tell", role="always"))
    events = cut(made, {"tell/act/db": "unreachable"})
    known = take_up(made, events)
    assert known.doubts == ()
    check_standing(made, events, {})
    assert again_after(made, [*events, said()])[0] == ["tell/act/db"]


def test_a_rolling_steps_hosts_and_looks_are_in_no_doubt() -> None:
    made = plan(
        single_node("look"),
        rolling_node(2, (1, 1)),
        change("work", after_crash="repeat"),
        change("start", role="always"),
    )
    known = take_up(made, cut(made, FAILED))
    assert known.doubts == ()
    assert {"roll/restart/web-0", "roll/restart/web-1", "look/act/db"} <= set(known.results)


def test_what_an_include_undoes_that_the_run_goes_on_after_is_its_own() -> None:
    inside: dict[str, Any] = {"scope": "inc", "continues": "inc"}
    made = plan(
        change("before"),
        change("inc.a", **inside),
        change("inc.b", after_crash="repeat", **inside),
        change("inc.undo", role="on_failure", of="inc.b", scope="inc"),
        change("last", after_crash="repeat"),
    )
    events = cut(made, {"inc.b/act/db": "failed", "last/act/db": "failed"})
    assert [doubt.key for doubt in take_up(made, events).doubts] == ["inc.a/act/db"]


def test_what_a_person_says_of_a_step_at_the_end_stands() -> None:
    events = [*cut(CRON, FAILED | {"start/act/db": "failed"})]
    word = said(done=["start/act/db", "stop/act/db"])
    begun, _ = again_after(CRON, [*events, word])
    assert begun == ["work/act/db"]
