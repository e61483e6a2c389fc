"""What every executor promises, whatever it is made of: held against real processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conformance.harness import Harness, Workshop, as_plain_data
from conformance.local import LocalHarness
from runbook.model.errors import DoorError, UsageError
from runbook.model.ports import Executor, RunView

#: Another executor is another line here.
HARNESSES: dict[str, Callable[[Path], Harness]] = {"local": LocalHarness}

#: Long enough for a machine that is busy with something else.
PATIENCE_S = 40.0


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """Playbooks to run."""
    return Workshop(tmp_path)


@pytest.fixture(params=HARNESSES)
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """Each executor in turn."""
    made = HARNESSES[request.param](tmp_path)
    yield made
    made.close()


def until(true: Callable[[], bool]) -> None:
    """Wait for something that is about to happen."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)


def over(runs: Executor, run_id: str) -> RunView:
    """Wait for the end of a run, or its question."""
    view = runs.wait(run_id, PATIENCE_S)
    until(lambda: not runs.view(run_id).alive)
    return view


def confirmed(runs: Executor, run_id: str) -> None:
    """Say yes to the plan."""
    question = over(runs, run_id).waiting
    assert question is not None
    runs.approve(run_id, question["key"], True, "grace@desk")


def test_a_run_waits_for_a_yes_and_is_done(harness: Harness, shop: Workshop) -> None:
    runs = harness.executor()
    runs.submit("r1", *shop.playbook("look", "one", "two"))
    view = over(runs, "r1")
    assert view.record.status == "waiting"
    assert shop.said() == ["begin look", "end look"]
    assert view.waiting is not None
    assert view.waiting["touches"]
    runs.approve("r1", view.waiting["key"], True, "grace@desk")
    assert over(runs, "r1").record.status == "done"
    assert shop.said()[-4:] == ["begin one", "end one", "begin two", "end two"]


def test_the_same_id_twice_is_one_run(harness: Harness, shop: Workshop) -> None:
    runs = harness.executor()
    runs.submit("r1", *shop.playbook("one"))
    confirmed(runs, "r1")
    assert over(runs, "r1").record.status == "done"
    runs.submit("r1", *shop.playbook("one"))
    harness.executor().submit("r1", *shop.playbook("two"))
    assert len(runs.list(open_only=False)) == 1
    assert over(runs, "r1").record.playbook == "one"
    assert shop.said() == ["begin one", "end one"]


def test_killed_between_two_changes_what_was_done_is_not_done_again(
    harness: Harness, shop: Workshop
) -> None:
    runs = harness.executor()
    shop.hold("look")
    runs.submit("r1", *shop.playbook("one", "look", "two"))
    confirmed(runs, "r1")
    until(lambda: "begin look" in shop.said())
    harness.kill("r1")
    shop.let_go("look")
    until(lambda: not runs.view("r1").alive)
    assert runs.view("r1").record.ended_at is None
    harness.recover("r1")
    assert over(runs, "r1").record.status == "done"
    said = shop.said()
    assert [said.count(f"begin {name}") for name in ("one", "look", "two")] == [1, 2, 1]


def test_killed_in_a_change_that_nobody_can_look_at_it_is_not_made_again(
    harness: Harness, shop: Workshop
) -> None:
    runs = harness.executor()
    shop.hold("one")
    runs.submit("r1", *shop.playbook("one", "two"))
    confirmed(runs, "r1")
    until(lambda: "begin one" in shop.said())
    harness.kill("r1")
    shop.let_go("one")
    harness.recover("r1")
    assert over(runs, "r1").record.status == "unknown"
    assert shop.said().count("begin one") == 1
    assert "begin two" not in shop.said()
    harness.settle("r1", done="one/act/here")
    assert over(runs, "r1").record.status == "done"
    assert shop.said().count("begin one") == 1
    assert shop.said().count("begin two") == 1


def test_a_run_that_has_a_worker_gets_no_second_one(harness: Harness, shop: Workshop) -> None:
    runs = harness.executor()
    shop.hold("one")
    runs.submit("r1", *shop.playbook("one"))
    confirmed(runs, "r1")
    until(lambda: "begin one" in shop.said())
    harness.recover("r1")
    shop.let_go("one")
    until(lambda: runs.view("r1").record.ended_at is not None)
    assert runs.view("r1").record.status == "done"
    assert shop.said() == ["begin one", "end one"]


def test_two_runs_on_one_target_never_change_it_at_once(harness: Harness, shop: Workshop) -> None:
    runs = harness.executor()
    shop.hold("one")
    runs.submit("r1", *shop.playbook("one"))
    runs.submit("r2", *shop.playbook("two"))
    confirmed(runs, "r1")
    until(lambda: "begin one" in shop.said())
    confirmed(runs, "r2")
    until(lambda: runs.view("r2").record.ended_at is not None or "begin two" in shop.said())
    between = shop.said()
    shop.let_go("one")
    assert over(runs, "r1").record.status == "done"
    assert between == ["begin one"]


def test_cancelled_during_a_step_it_is_seen_to_its_end_and_no_further(
    harness: Harness, shop: Workshop
) -> None:
    runs = harness.executor()
    shop.hold("one")
    runs.submit("r1", *shop.playbook("one", "two"))
    confirmed(runs, "r1")
    until(lambda: "begin one" in shop.said())
    harness.executor().cancel("r1", "grace@desk")
    time.sleep(2.0)  # whatever it does about it, it does while the step goes on
    shop.let_go("one")
    assert over(runs, "r1").record.status == "interrupted"
    assert shop.said() == ["begin one", "end one"]


def test_cancelled_while_it_waits_it_is_over(harness: Harness, shop: Workshop) -> None:
    runs = harness.executor()
    runs.submit("r1", *shop.playbook("one"))
    assert over(runs, "r1").record.status == "waiting"
    runs.cancel("r1", "grace@desk")
    assert over(runs, "r1").record.status == "interrupted"
    assert [view.record.run_id for view in runs.list()] == []
    with pytest.raises(UsageError):
        runs.cancel("r1", "grace@desk")
    assert shop.said() == []


def test_the_first_answer_stands(harness: Harness, shop: Workshop) -> None:
    runs, other = harness.executor(), harness.executor()
    runs.submit("r1", *shop.playbook("one"))
    question = over(runs, "r1").waiting
    assert question is not None
    runs.approve("r1", question["key"], False, "grace@desk")
    with pytest.raises(UsageError):
        other.approve("r1", question["key"], True, "ada@desk")
    assert over(runs, "r1").record.status == "refused"
    assert shop.said() == []


APPROVAL = "  - name: go\n    approve: {{prompt: Shall it?, by: [grace]{more}}}\n"


def test_an_approval_is_for_whom_it_is_for(harness: Harness, shop: Workshop) -> None:
    runs = harness.executor()
    runs.submit("r1", *shop.playbook("look", before=APPROVAL.format(more="")))
    question = over(runs, "r1").waiting
    assert question is not None
    assert question["kind"] == "approval"
    with pytest.raises(UsageError, match=r"ada@desk's to answer"):
        runs.approve("r1", question["key"], True, "ada@desk")
    runs.approve("r1", question["key"], True, "grace@desk")
    assert over(runs, "r1").record.status == "done"
    assert shop.said() == ["begin look", "end look"]


def test_an_approval_that_has_expired_counts_no_more(harness: Harness, shop: Workshop) -> None:
    runs = harness.executor()
    runs.submit("r1", *shop.playbook("look", before=APPROVAL.format(more=", expires: 1ms")))
    question = over(runs, "r1").waiting
    assert question is not None
    with pytest.raises(UsageError, match="expired"):
        runs.approve("r1", question["key"], True, "grace@desk")
    assert shop.said() == []


def test_a_store_that_cannot_be_written_begins_nothing(harness: Harness, shop: Workshop) -> None:
    runs = harness.executor()
    runs.submit("r0", *shop.playbook("look"))
    over(runs, "r0")
    harness.break_store()
    with pytest.raises(DoorError):
        runs.submit("r1", *shop.playbook("one"))
    harness.mend_store()
    with pytest.raises(UsageError, match="no run 'r1'"):
        runs.view("r1")
    runs.submit("r1", *shop.playbook("one"))
    assert over(runs, "r1").record.status == "waiting"


def test_a_store_that_fails_under_a_run_lets_no_further_change_begin(
    harness: Harness, shop: Workshop
) -> None:
    runs = harness.executor()
    shop.hold("one")
    runs.submit("r1", *shop.playbook("one", "two"))
    confirmed(runs, "r1")
    until(lambda: "begin one" in shop.said())
    harness.break_store()
    shop.let_go("one")
    until(lambda: not runs.view("r1").alive)
    harness.mend_store()
    assert shop.said() == ["begin one", "end one"]


def test_only_plain_data_crosses(harness: Harness, shop: Workshop) -> None:
    runs = harness.executor()
    runs.submit("r1", *shop.playbook("look"))
    view = as_plain_data(over(runs, "r1"))
    assert view["record"]["status"] == "done"
    assert view["results"]["look/act/here"]["status"] == "ok"
    assert [as_plain_data(each)["record"]["run_id"] for each in runs.list(open_only=False)] == [
        "r1"
    ]


def test_a_run_that_is_not_there(harness: Harness) -> None:
    runs = harness.executor()
    for asked in (lambda: runs.view("r9"), lambda: runs.cancel("r9", "ada@desk")):
        with pytest.raises(UsageError, match="no run 'r9'"):
            asked()
