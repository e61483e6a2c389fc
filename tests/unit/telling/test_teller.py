"""Runs told on a stand-in for PagerDuty, by real HTTP: once, in order, whatever goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagerduty.stand_in import PagerDutyStandIn
from unit.telling.world import INCIDENT, SECRETS, World, tell


@pytest.fixture
def pagerduty() -> Iterator[PagerDutyStandIn]:
    with PagerDutyStandIn() as stand_in:
        stand_in.add_incident(INCIDENT)
        yield stand_in


@pytest.fixture
def world(tmp_path: Path, pagerduty: PagerDutyStandIn) -> Iterator[World]:
    made = World(tmp_path, pagerduty.url)
    yield made
    made.close()
    assert pagerduty.complaints == []


def test_a_run_is_told_at_its_start_and_its_end(world: World, pagerduty: PagerDutyStandIn) -> None:
    world.begin()
    world.step()
    (start,) = pagerduty.notes()
    assert start.splitlines()[0] == "runbook has begun: roll of shop"
    assert start.splitlines()[-1] == f"runbook {world.run_id}/start"
    world.work()
    world.end()
    world.step()
    start, result = pagerduty.notes()
    assert start.splitlines()[0].startswith("runbook has ended: Done: roll of shop")
    assert result.splitlines()[0] == "Done: roll of shop: a new process, healthy"
    assert result.splitlines()[-1] == f"runbook {world.run_id}/result"
    assert world.pending() == 0


NOTE = "POST .*/notes"


def results(pagerduty: PagerDutyStandIn) -> list[str]:
    return [note for note in pagerduty.notes() if note.endswith("/result")]


@pytest.mark.parametrize("what", ["cut", "hang", "fail"])
def test_a_note_that_may_have_arrived_is_looked_for_before_it_is_posted_again(
    world: World, pagerduty: PagerDutyStandIn, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runbook.telling.teller._ATTEMPT_S", 0.5)
    getattr(pagerduty, what)(on=NOTE, obeyed=True)
    world.begin()
    world.step()
    (told,) = world.teller.left()
    assert (told.key, told.attempts, bool(told.why)) == ("start", 1, True)
    world.step(10)
    assert world.pending() == 0
    assert len(pagerduty.notes()) == 1
    assert len(pagerduty.asked(NOTE)) == 1
    # Its id is known from the look: it is updated in place.
    world.work()
    world.step(20)
    assert "app-1" in pagerduty.notes()[0]


def test_a_note_that_has_not_arrived_is_posted_again(
    world: World, pagerduty: PagerDutyStandIn
) -> None:
    pagerduty.fail(on=NOTE, status=500)
    world.begin()
    world.step()
    world.step(10)
    assert (len(pagerduty.notes()), len(pagerduty.asked(NOTE))) == (1, 2)


def test_nothing_is_posted_while_nobody_can_say_whether_it_is_there(
    world: World, pagerduty: PagerDutyStandIn
) -> None:
    pagerduty.cut(on=NOTE)
    pagerduty.fail(on="GET .*/notes", status=500, times=3)
    world.begin()
    for _ in range(2):
        world.step(10)
    assert len(pagerduty.asked(NOTE)) == 1
    world.step(60)
    assert (len(pagerduty.notes()), world.pending()) == (1, 0)


def test_a_limit_is_waited_for_as_its_header_says(
    world: World, pagerduty: PagerDutyStandIn
) -> None:
    pagerduty.fail(on=NOTE, status=429, headers={"ratelimit-reset": "120"})
    world.begin()
    world.step()
    world.step(100)
    assert len(pagerduty.asked(NOTE)) == 1
    world.step(30)
    assert len(pagerduty.notes()) == 1


def test_a_limit_without_a_header_is_waited_for_a_little(
    world: World, pagerduty: PagerDutyStandIn
) -> None:
    pagerduty.fail(on=NOTE, status=429)
    world.begin()
    world.step()
    assert len(pagerduty.notes()) == 1


def test_an_incident_of_another_account_is_given_up_at_once(
    world: World, pagerduty: PagerDutyStandIn
) -> None:
    pagerduty.incidents.clear()
    world.begin()
    world.step()
    world.step(1000)
    assert len(pagerduty.requests) == 1
    assert world.pending() == 0


def test_a_token_that_is_refused_is_tried_until_it_is_mended_and_a_day_at_most(
    world: World, pagerduty: PagerDutyStandIn
) -> None:
    pagerduty.token = "another"
    world.begin()
    for _ in range(4):
        world.step(100)
    assert len(pagerduty.requests) == 2
    (told,) = world.teller.left()
    assert told.why == "PagerDuty refuses the token (401): Invalid Input Provided"
    world.step(25 * 3600)
    world.step(1000)
    assert world.pending() == 0
    assert len(pagerduty.requests) == 3


def test_a_run_that_was_over_before_anybody_looked_has_a_result_and_nothing_else(
    world: World, pagerduty: PagerDutyStandIn
) -> None:
    world.begin()
    world.work()
    world.end()
    world.step()
    assert [note.splitlines()[-1] for note in pagerduty.notes()] == [
        f"runbook {world.run_id}/result"
    ]


def test_the_first_note_is_updated_when_a_stage_changes_and_not_for_every_word(
    world: World, pagerduty: PagerDutyStandIn
) -> None:
    world.begin()
    world.step()
    world.say("task_started", "roll/act/app-1", phase="act", target="app-1")
    for number in range(10):
        world.say("said", "roll/act/app-1", stage="gating", text=f"{number} of 10 good")
        world.step()
    edits = len(pagerduty.asked("PUT .*"))
    assert 1 <= edits <= 2
    world.say("said", "roll/act/app-1", stage="undraining", text="")
    world.step(5)
    assert len(pagerduty.asked("PUT .*")) == edits + 1
    assert "app-1: undraining" in pagerduty.notes()[0]
    assert len(pagerduty.notes()) == 1


def test_a_note_that_somebody_has_deleted_is_not_put_back(
    world: World, pagerduty: PagerDutyStandIn
) -> None:
    world.begin()
    world.step()
    pagerduty.incidents[INCIDENT].notes.clear()
    world.work()
    for _ in range(5):
        world.step(60)
    assert (pagerduty.notes(), len(pagerduty.asked("PUT .*"))) == ([], 1)


def test_a_question_is_told_with_the_command_that_answers_it(
    world: World, pagerduty: PagerDutyStandIn
) -> None:
    world.begin()
    world.ask(by=["bo"], expires_s=1800, prompt="Restart shop?")
    world.step()
    note = next(note for note in pagerduty.notes() if "waits for approval" in note)
    assert note.splitlines()[0] == "runbook waits for approval: roll of shop, 1 change"
    assert f"runbook runs approve {world.run_id} --hash abc123def456" in note
    assert "To be answered by bo, until" in note
    world.say("answered", key="confirm", hash="abc123def456", yes=True, by="bo@bastion")
    world.ask("fff123def456")
    world.step()
    assert sum("waits for approval" in note for note in pagerduty.notes()) == 2


def test_a_question_that_was_answered_meanwhile_is_not_told(
    world: World, pagerduty: PagerDutyStandIn
) -> None:
    pagerduty.fail(status=503, times=1, on=NOTE)
    world.begin()
    world.ask()
    world.step()
    world.say("answered", key="confirm", hash="abc123def456", yes=True, by="bo@bastion")
    world.step(20)
    assert not any("waits for approval" in note for note in pagerduty.notes())
    assert world.pending() == 0


def test_a_run_that_is_gone_on_with_has_a_second_result(
    world: World, pagerduty: PagerDutyStandIn
) -> None:
    world.begin()
    world.end("halted", "web-1 is not healthy")
    world.step()
    world.say("resumed", by="bo@bastion", pid=7, choices={})
    world.work()
    world.end()
    world.step(10)
    ends = [note.splitlines()[-1] for note in pagerduty.notes()]
    assert ends == [f"runbook {world.run_id}/result", f"runbook {world.run_id}/result/2"]
    halted = pagerduty.notes()[0].splitlines()
    assert halted[0] == "HALTED: roll of shop: web-1 is not healthy"
    assert f"Next: runbook runs resume {world.run_id} --show" in halted


def test_two_processes_tell_a_thing_once(world: World, pagerduty: PagerDutyStandIn) -> None:
    tellers = [world.new_teller() for _ in range(4)]
    world.begin()
    world.work()
    world.end()
    threads = [threading.Thread(target=teller.step) for teller in tellers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for teller in tellers:
        teller.step()
        teller.close()
    assert len(pagerduty.asked(NOTE)) == 1


def test_a_rotated_token_is_used_and_none_is_kept(
    world: World, pagerduty: PagerDutyStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.begin()
    world.step()
    pagerduty.token = "a new one"
    monkeypatch.setitem(SECRETS, "TOKEN", "a new one")
    world.end()
    world.step(10)
    assert len(pagerduty.notes()) == 2
    for kept in world.folder.iterdir():
        assert b"a new one" not in kept.read_bytes()


def test_a_recipient_that_hangs_keeps_no_other_waiting(
    tmp_path: Path, pagerduty: PagerDutyStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PagerDutyStandIn() as chat:
        chat.hang(times=9)
        monkeypatch.setitem(SECRETS, "CHAT", f"{chat.url}/hook")
        notify = {"chat": {"webhook": {"env": "CHAT"}}}
        world = World(tmp_path, pagerduty.url, tell=tell(to=["chat"]), notify=notify)
        world.begin()
        look = threading.Thread(target=world.step)
        look.start()
        while not (pagerduty.notes() and chat.requests):
            assert look.is_alive()
        assert look.is_alive()
        chat.mend()
        look.join()
        world.close()


def test_what_was_told_is_forgotten_while_the_process_goes_on(world: World) -> None:
    world.step()
    world.begin()
    world.end()
    world.step()
    assert world.teller.told_of(world.run_id, "pagerduty")
    world.step(40 * 86_400.0)
    assert world.teller.told_of(world.run_id, "pagerduty") == ()
