"""The page of a run: what it says, to whom it gives buttons, and what these do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runbook.model.alert import Alert
from runbook.model.intake import Settled
from unit.engine.plans import plan, rolling_node, single_node
from unit.pages.world import DIGEST, TOUCHES, House, form_of, hidden

#: What hosts, alerts and playbooks may be called by somebody who means harm.
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>\x1b[31m\u202e{{7*7}}\x00\nx'


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A house with one run that waits for anybody's answer."""
    made = House(tmp_path)
    made.begin(rule="restart-shop")
    made.ask()
    return made


def asked(house: House, **more: object) -> None:
    """Ask the run's question, otherwise than the fixture does."""
    house.ask(**more)  # type: ignore[arg-type]


# ---- what it says ---------------------------------------------------------------------------


def test_it_says_what_a_yes_would_do_and_names_it_on_the_button(house: House) -> None:
    page = house.client("dana").get("/runs/r1").text
    assert "Waiting for your answer" in page
    for line in TOUCHES:
        assert f"<li>{line}</li>" in page
    assert ">Approve 2 changes: roll (web-0, web-1)</button>" in page
    assert f"<code>{DIGEST}</code>" in page
    assert "restart-shop" in page
    assert "Q1ABCDEFGHIJKL" in page


def test_all_of_what_would_be_touched_is_there_however_much(house: House) -> None:
    touches = [f"web-{n}: systemctl restart shop" for n in range(500)]
    asked(house, touches=touches)
    page = house.client("dana").get("/runs/r1").text
    assert all(f"<li>{line}</li>" in page for line in touches)
    assert "Approve 500 changes" in page
    assert "and 488 more" in page


@pytest.mark.parametrize(
    ("name", "answers", "stops"),
    [("vera", False, False), ("dana", True, False), ("otto", True, True)],
)
def test_buttons_are_for_those_who_may(house: House, name: str, answers: bool, stops: bool) -> None:
    page = house.client(name).get("/runs/r1").text
    assert ("/runs/r1/answer" in page) is answers
    assert ("/runs/r1/cancel" in page) is stops


def test_a_question_for_others_has_no_buttons(house: House) -> None:
    asked(house, by=["eve"])
    page = house.client("dana").get("/runs/r1").text
    assert "It asks eve" in page
    assert "This is not yours to answer: it is for eve." in page
    assert "/runs/r1/answer" not in page
    assert "Asked of you" not in house.client("dana").get("/runs").text
    assert "Asked of you" in house.client("eve").get("/runs").text


def test_hosts_stand_in_their_batches_with_their_stage(house: House) -> None:
    house.tell("r1", "resumed", by="root@bastion", pid=1, choices={})
    task = "roll/restart/web-0"
    house.tell("r1", "task_started", task, phase="restart", target="web-0")
    house.tell("r1", "said", task, stage="db_gating", text="1 of 2 good")
    with house.locks.hold("r1"):
        page = house.client("vera").get("/runs/r1").text
    assert "Going on" in page
    assert "web-0: db gating" in page
    assert page.index("Batch 1 of 2") < page.index("1 of 2 good") < page.index("Batch 2 of 2")
    assert ">to come<" in page


def test_a_run_that_lost_its_process_is_called_so(house: House) -> None:
    house.tell("r1", "resumed", by="root@bastion", pid=1, choices={})
    house.tell("r1", "task_started", "roll/restart/web-0", phase="restart", target="web-0")
    assert "About to go on" in house.client("otto").get("/runs/r1").text
    house.at += 60
    page = house.client("otto").get("/runs/r1").text
    assert "Lost its process" in page
    assert "its end was not seen" in page
    assert "Somebody should look" in house.client("vera").get("/runs").text


def test_slots_in_use_are_drawn(house: House) -> None:
    for number, used in ((0, 27), (1, 11)):
        task = f"look/act/db{number}"
        house.tell("r1", "task_started", task, phase="act", target="db")
        house.at += 5
        result = {"status": "ok", "summary": "", "data": {"used": used, "usable": 27}}
        house.tell("r1", "task_finished", task, result=result)
    page = house.client("vera").get("/runs/r1").text
    assert "<polyline" in page
    assert "11 of 27" in page


def test_only_what_has_changed_is_sent_again(house: House) -> None:
    client = house.client("vera")
    part = client.get("/runs/r1/live").text
    version = part.split('data-version="')[1].split('"')[0]
    assert client.get(f"/runs/r1/live?seen={version}").status_code == 204
    house.tell("r1", "answered", key="confirm", hash=DIGEST, yes=True, by="eve@desk")
    assert "eve@desk" in client.get(f"/runs/r1/live?seen={version}").text


def test_the_part_is_what_the_page_has(house: House) -> None:
    client = house.client("dana")
    assert client.get("/runs/r1/live").text in client.get("/runs/r1").text
    assert client.get("/runs/live").text in client.get("/runs").text


# ---- hostile text ---------------------------------------------------------------------------


def test_nothing_that_others_have_written_is_markup(tmp_path: Path) -> None:
    house = House(tmp_path)
    nodes = plan(
        replace(rolling_node(1, (1,), target_kind="host"), targets=(HOSTILE,), name=HOSTILE),
        single_node("look", save=HOSTILE),
    )
    house.begin(made=nodes, playbook=HOSTILE, target=HOSTILE, incident=HOSTILE, rule=HOSTILE)
    task = f"roll/restart/{HOSTILE}"
    house.tell("r1", "task_started", task, phase="restart", target=HOSTILE)
    house.tell("r1", "said", task, stage=HOSTILE, text=HOSTILE)
    gates = [{"asked": HOSTILE, "good": False, "answer": HOSTILE}]
    result = {"status": "failed", "summary": HOSTILE, "hint": HOSTILE, "data": {"gates": gates}}
    house.tell("r1", "task_finished", task, result=result)
    house.tell("r1", "owed", task, key="k", task=task, what=HOSTILE, by_hand=[HOSTILE], data={})
    house.ask(touches=[HOSTILE], prompt=HOSTILE, by=["dana", HOSTILE])
    alert = Alert(
        source="slack", hook="h", key="k", event=HOSTILE, title=HOSTILE, labels={HOSTILE: HOSTILE}
    )
    house.inbox.put([alert], house.at)
    told: dict[str, Any] = {"why": HOSTILE, "rule": HOSTILE, "target": HOSTILE, "run_id": "r1"}
    house.inbox.settle([Settled(number=0, state="failed", **told)])
    client = house.client("dana")
    for path in ("/runs", "/runs/r1", "/runs/r1/live", "/runs/live", "/inbox", "/runs/r1/report"):
        page = client.get(path).text
        assert "<script>alert" not in page, path
        assert "<img" not in page, path
        assert "onerror=alert(2)&gt;" in page, path
        assert not set("\x1b\x00\u202e") & set(page), path
        assert "{{7*7}}" in page, path


def test_a_strange_run_id_is_only_text(house: House) -> None:
    client = house.client("vera")
    for strange in ("%3Cscript%3E", "..%2f..%2fetc", "r1%00", "{{7*7}}", "%F0%9F%92%A3"):
        answer = client.get(f"/runs/{strange}")
        assert answer.status_code == 404
        assert "<script>" not in answer.text


# ---- answers --------------------------------------------------------------------------------


def test_a_yes_is_kept_with_its_name_and_comment_and_goes_on(house: House) -> None:
    client = house.client("dana")
    answer = client.act("/runs/r1/answer", answer="yes", comment="seen the graphs")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/r1")
    [said] = house.said("answered")
    assert (said["by"], said["yes"], said["hash"]) == ("dana@browser", True, DIGEST)
    assert said["comment"] == "seen the graphs"
    assert house.started == ["r1"]
    page = client.get("/runs/r1").text
    assert "<strong>Approved</strong> by dana@browser" in page
    assert "seen the graphs" in page


def test_a_no_is_kept_as_one(house: House) -> None:
    client = house.client("dana")
    client.act("/runs/r1/answer", answer="no")
    assert [said["yes"] for said in house.said("answered")] == [False]
    assert "<strong>Denied</strong> by dana@browser" in client.get("/runs/r1").text


@pytest.mark.parametrize("word", ["", "Yes", "true", "1"])
def test_what_is_no_yes_is_no_answer(house: House, word: str) -> None:
    assert house.client("dana").act("/runs/r1/answer", answer=word).status_code == 409
    assert "answered" not in house.kinds()


def test_a_page_that_is_stale_is_refused_with_the_new_question(house: House) -> None:
    client = house.client("dana")
    stale = hidden(form_of(client.get("/runs/r1").text, "/runs/r1/answer"))
    asked(house, digest="fedcba987654", touches=["db: DROP EVERYTHING"])
    answer = client.fill("/runs/r1/answer", {**stale, "answer": "yes"})
    assert answer.status_code == 409
    assert "asks something else now" in answer.text
    assert "<li>db: DROP EVERYTHING</li>" in answer.text
    assert "answered" not in house.kinds()


def test_who_comes_second_hears_who_was_first(house: House) -> None:
    dana, eve = house.client("dana"), house.client("eve")
    late = hidden(form_of(eve.get("/runs/r1").text, "/runs/r1/answer"))
    dana.act("/runs/r1/answer", answer="no")
    answer = eve.fill("/runs/r1/answer", {**late, "answer": "yes"})
    assert answer.status_code == 409
    assert "It was answered already: no, by dana@browser, at " in answer.text
    assert len(house.said("answered")) == 1


def test_a_button_that_is_pressed_twice_says_one_thing(house: House) -> None:
    client = house.client("dana")
    form = hidden(form_of(client.get("/runs/r1").text, "/runs/r1/answer"))
    for _ in range(2):
        assert client.fill("/runs/r1/answer", {**form, "answer": "yes"}).status_code == 303
    assert len(house.said("answered")) == 1


def test_a_question_that_has_expired_is_not_answered(house: House) -> None:
    asked(house, expires_s=600.0)
    client = house.client("dana")
    form = hidden(form_of(client.get("/runs/r1").text, "/runs/r1/answer"))
    house.at += 601
    answer = client.fill("/runs/r1/answer", {**form, "answer": "yes"})
    assert answer.status_code == 409
    assert "That question has expired at" in answer.text
    assert "Not answered in time" in answer.text
    assert "answered" not in house.kinds()
    assert house.client("otto").act("/runs/r1/resume").status_code == 303
    assert house.started == ["r1"]


@pytest.mark.parametrize("name", ["vera", "eve"])
def test_who_may_not_answer_is_refused_whatever_they_send(house: House, name: str) -> None:
    asked(house, by=["dana"])
    client = house.client(name)
    form = {**hidden(form_of(client.get("/runs").text, "/sign-out")), "key": "confirm"}
    answer = client.fill("/runs/r1/answer", {**form, "digest": DIGEST, "answer": "yes"})
    assert answer.status_code == 403
    assert "answered" not in house.kinds()


@pytest.mark.parametrize("name", ["vera", "dana"])
@pytest.mark.parametrize("what", ["cancel", "resume"])
def test_only_operators_stop_runs_and_take_them_up(house: House, name: str, what: str) -> None:
    client = house.client(name)
    form = hidden(form_of(client.get("/runs").text, "/sign-out"))
    answer = client.fill(f"/runs/r1/{what}", form)
    assert answer.status_code == 403
    assert f"{name} is a" in answer.text
    assert house.kinds()[-1] == "finished"
    assert house.started == []


# ---- stop and go on -------------------------------------------------------------------------


def test_an_operator_closes_a_run_that_waits(house: House) -> None:
    client = house.client("otto")
    assert client.act("/runs/r1/cancel").status_code == 303
    kept = house.journal.run("r1")
    assert kept is not None
    assert kept.record.status == "interrupted"
    assert house.said("interrupted") == [{"by": "otto@browser"}]
    assert "given up by otto@browser" in client.get("/runs/r1").text


def test_an_operator_stops_a_run_that_is_at_work(house: House) -> None:
    house.tell("r1", "resumed", by="root@bastion", pid=1, choices={})
    client = house.client("otto")
    with house.locks.hold("r1"):
        assert client.act("/runs/r1/cancel").status_code == 303
        assert ">Stopping<" in client.get("/runs/r1").text
    assert house.kinds()[-1] == "interrupted"


def test_an_operator_has_a_dead_run_taken_up(house: House) -> None:
    house.tell("r1", "resumed", by="root@bastion", pid=1, choices={})
    house.at += 60
    client = house.client("otto")
    assert client.act("/runs/r1/resume").status_code == 303
    assert house.started == ["r1"]
    assert house.said("noted") == [{"what": "to be taken up again", "by": "otto@browser"}]
    assert "to be taken up again, says otto@browser" in client.get("/runs/r1").text


def test_what_is_over_is_neither_stopped_nor_taken_up(house: House) -> None:
    client = house.client("otto")
    form = hidden(form_of(client.get("/runs/r1").text, "/runs/r1/cancel"))
    house.end("r1", "done")
    for what in ("cancel", "resume", "answer"):
        answer = client.fill(
            f"/runs/r1/{what}", {**form, "key": "confirm", "digest": DIGEST, "answer": "yes"}
        )
        assert answer.status_code == 409, what
        assert "is over: done" in answer.text
    assert house.started == []


def test_a_run_that_is_not_there(house: House) -> None:
    client = house.client("otto")
    form = hidden(form_of(client.get("/runs/r1").text, "/runs/r1/cancel"))
    for what in ("cancel", "resume", "answer"):
        fields = {**form, "key": "confirm", "digest": DIGEST, "answer": "yes"}
        assert client.fill(f"/runs/r9/{what}", fields).status_code == 404


# ---- the other pages ------------------------------------------------------------------------


def test_the_inbox_says_what_became_of_each_event_and_why(house: House) -> None:
    alert = Alert(source="alertmanager", hook="am", key="k", event="firing", title="TooMany")
    house.inbox.put([alert], house.at)
    cooling = "cooling down for 4m 10s more"
    house.inbox.settle([Settled(number=0, state="ignored", why=cooling, rule="restart-shop")])
    page = house.client("vera").get("/inbox").text
    for said in ("TooMany", "ignored", "cooling down for 4m 10s more", "restart-shop"):
        assert said in page


def test_an_event_that_waits_links_to_no_run(house: House) -> None:
    """It has the id of its run already, and no run."""
    alert = Alert(source="alertmanager", hook="am", key="k", event="firing", title="TooMany")
    house.inbox.put([alert], house.at)
    page = house.client("vera").get("/inbox").text
    assert "queued" in page
    assert "its run" not in page


def test_the_list_has_what_is_asked_first_and_what_is_over_last(house: House) -> None:
    house.begin("r2")
    house.end("r2", "done")
    page = house.client("dana").get("/runs").text
    assert page.index("Asked of you") < page.index("/runs/r1") < page.index("/runs/r2")
    assert "<title>(1) Runs" in page


def test_a_run_that_somebody_has_changed_is_told_and_the_others_are_shown(house: House) -> None:
    house.begin("r2")
    house.ask("r2")
    house.journal._db.execute(
        "UPDATE events SET data = '{}' WHERE run_id = 'r2' AND kind = 'asked'"
    )
    client = house.client("dana")
    answer = client.get("/runs/r2")
    assert answer.status_code == 503
    assert "run r2 is not as it was written" in answer.text
    assert client.get("/runs/r2/live").status_code == 503
    page = client.get("/runs").text
    assert "Cannot be read" in page
    assert "Approve" in client.get("/runs/r1").text
