"""Notes are for people at 2:17: short first lines, bounded, and nothing in them is obeyed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.engine.history import history_of
from runbook.model.serve_config import Tell, tell_as_data
from runbook.telling.case import Links
from runbook.telling.due import due, recipients
from runbook.telling.text import plain
from unit.engine.test_history import HOSTILE, Tape, node, result, whole

WANTED = Tell.model_validate({"pagerduty": {}, "to": ["chat"]})


def texts(tape: Tape, status: str = "done", **changed: Any) -> list[str]:
    """Return every text that is told of a run, to every recipient."""
    history = history_of(tape.kept(status, **changed))
    data = tell_as_data(WANTED, "PINCIDENT1")
    told = [
        each
        for name in recipients(data)
        for each in due(history, data, (), Links(base="https://x"), 2000.0, recipient=name)
    ]
    return [str(each.content.get("text") or each.content.get("summary")) for each in told]


def test_nothing_that_hosts_say_is_obeyed() -> None:
    for text in texts(whole(), "failed"):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert max(len(line) for line in text.splitlines()) < 700


def test_a_note_is_bounded_and_its_marker_always_there() -> None:
    tape = Tape()
    for number in range(400):
        task = f"roll/act/web-{number}"
        tape.begin(task)
        tape.add("intended", task, sentence=f"on web-{number}: {'ü' * 500}", footprint=[])
        tape.add("task_finished", task, **result("failed", "ü" * 5000))
    tape.add("finished", status="failed", reason="ü" * 5000, hint="ü" * 5000)
    notes = [text for text in texts(tape, "failed") if "\nrunbook 2026" in text]
    assert notes
    for note in notes:
        assert len(note) <= 4000
        assert note.splitlines()[-1].startswith("runbook 20260101-021700-abcd/")
        assert len(note.splitlines()[0]) <= 120


def test_secrets_go_before_anything_is_cut() -> None:
    assert plain("password=hunter2 " + "x" * 400, 20) == "password=… xxxxxxxx…"
    assert plain(f"{'x' * 295} password=hunter2") == "x" * 295 + " pas…"
    assert "hunter" not in plain("postgres://ana:hunter2@db/x")


@given(st.text())
def test_plain_text_is_one_printable_line(text: str) -> None:
    shown = plain(text, 50)
    assert len(shown) <= 50
    assert shown.isprintable()
    shown.encode()  # no lone surrogate is left


@pytest.mark.parametrize("status", ["done", "rehearsed", "failed", "halted", "unknown", "refused"])
def test_every_end_has_a_first_line_for_a_phone(status: str) -> None:
    tape = whole()
    tape.add("finished", status=status, reason="because", hint="")
    rehearsal = status == "rehearsed"
    note = next(t for t in texts(tape, status, rehearsal=rehearsal) if t.endswith("/result"))
    first = note.splitlines()[0]
    assert len(first) <= 120
    assert "roll of shop" in first
    assert "Slots in use: 30 of 37 before, 10 of 37 after" in note
    assert "Report: https://x/runs/20260101-021700-abcd" in note


def test_who_is_told_follows_from_the_request() -> None:
    assert recipients(tell_as_data(WANTED, "P1234567")) == ("pagerduty", "pagerduty-change", "chat")
    assert recipients(tell_as_data(WANTED, None)) == ("pagerduty-change", "chat")
    later = {**tell_as_data(WANTED, None), "a_key_of_a_later_runbook": 1}
    assert recipients(later) == ("pagerduty-change", "chat")


def test_a_message_has_its_question_with_it() -> None:
    tape = Tape()
    touches = [f"web-{number}: x" for number in range(30)]
    tape.add("asked", key="confirm", touches=touches, hash="abc", prompt=HOSTILE, by=["bo"])
    history = history_of(tape.kept("waiting", node(), ended_at=None))
    data = tell_as_data(WANTED, None)
    told = due(history, data, (), Links(), 1000.0, recipient="chat")
    (question,) = [each.content["question"] for each in told if each.key == "waiting/abc"]
    assert (question["key"], question["hash"], question["count"]) == ("confirm", "abc", 30)
    assert (len(question["touches"]), question["by"], question["until"]) == (20, ["bo"], None)
