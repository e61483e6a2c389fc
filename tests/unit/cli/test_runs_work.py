"""`runbook runs work`, the process of a run that was submitted; with real processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runbook import wiring
from runbook.engine.local_runs import LocalRuns
from runbook.engine.planning import make_plan
from runbook.model.ports import KeptRun, Request
from unit.cli.test_runs_resume import Desk


class Submitted(Desk):
    """A desk where runs are submitted, and worked on when a test says so."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder)
        monkeypatch.setenv("RUNBOOK_STATE", str(folder / "state"))
        self.store = wiring.open_journal()
        self.runs: LocalRuns = wiring.local_runs(self.store)

    def submit(
        self, *names: str, rehearsal: bool = False, before: str = "", **asked: Any
    ) -> Request:
        """Submit a run of these steps as r1."""
        _, request = self.shop.playbook(*names, before=before)
        plan = make_plan(
            wiring.load_playbook(request.playbook),
            fleet=wiring.load_fleet(request.inventory),
            target=None,
            given={},
            rehearsal=rehearsal,
        )
        request = replace(request, rule="relieve", **asked)
        self.runs.submit("r1", plan.to_json(), request)
        return request

    def work(self) -> tuple[int, str]:
        """Be the run's process; return its exit code and what it said to nobody."""
        code, _, err = self.run("runs", "work", "r1")
        return code, err

    def kept(self) -> KeptRun:
        """Return the run."""
        kept = self.store.run("r1")
        assert kept is not None
        return kept

    def kinds(self) -> list[str]:
        """Return the kinds of its events."""
        return [event.kind for event in self.kept().events]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submitted:
    """A desk of one's own."""
    return Submitted(tmp_path, monkeypatch)


def test_it_begins_as_every_run_does_and_waits(desk: Submitted) -> None:
    desk.submit("look", "one", approvers=("dana",), answer_within_s=600.0)
    code, err = desk.work()
    assert code == 6, err
    assert desk.kinds()[0] == "planned"
    assert "resumed" not in desk.kinds()
    question = desk.runs.view("r1").waiting
    assert question is not None
    assert (question["by"], question["expires_s"]) == (["dana"], 600.0)
    _, out, _ = desk.run("runs", "show", "r1")
    assert "of dana, for 10m 00s" in out
    assert desk.shop.said() == ["begin look", "end look"]


def test_a_rehearsal_is_begun_as_well(desk: Submitted) -> None:
    desk.submit("look", "one", rehearsal=True)
    code, err = desk.work()
    assert code == 0, err
    assert desk.kept().record.status == "rehearsed"
    assert desk.shop.said() == ["begin look", "end look"]
    assert desk.work()[0] == 2  # it is over


def test_a_rehearsal_that_died_is_run_from_its_start(desk: Submitted) -> None:
    desk.submit("look", "one", rehearsal=True)
    desk.shop.hold("look")
    process = desk.start("runs", "work", "r1")
    desk.wait_for("begin look")
    process.kill()
    process.communicate(timeout=30)
    desk.shop.let_go("look")
    desk.wait_for("end look")
    assert desk.work()[0] == 0
    assert desk.kept().record.status == "rehearsed"
    assert desk.shop.said().count("begin look") == 2
    assert "begin one" not in desk.shop.said()


def test_what_a_rule_has_said_yes_to_is_done(desk: Submitted) -> None:
    desk.submit("one", confirmed_by="rule relieve (approval: none)")
    code, err = desk.work()
    assert code == 0, err
    [said] = [event.data for event in desk.kept().events if event.kind == "answered"]
    assert said["by"] == "rule relieve (approval: none)"
    assert desk.shop.said() == ["begin one", "end one"]


def test_a_person_on_the_command_line_answers_and_hears_who_goes_on(desk: Submitted) -> None:
    me = wiring.who().partition("@")[0]
    desk.submit("one", approvers=(me,))
    desk.work()
    code, out, err = desk.run("runs", "approve", "r1", "--yes")
    assert code == 0, err
    assert f"it is for {me} to answer" in err
    assert "`runbook serve` goes on with it by itself (rule relieve)" in out
    assert desk.work()[0] == 0
    assert desk.shop.said() == ["begin one", "end one"]


def test_who_may_not_answer_is_told_whom_it_is_for(desk: Submitted) -> None:
    desk.submit("one", approvers=("somebody-else",))
    desk.work()
    code, _, err = desk.run("runs", "approve", "r1", "--yes")
    assert code == 2
    assert "it is for somebody-else" in err
    code, _, err = desk.run("runs", "resume", "r1", "--yes")
    assert code == 6, err
    assert desk.shop.said() == []


def test_what_an_answer_binds_to_is_shown_where_it_is_asked_for(desk: Submitted) -> None:
    """Without a terminal, `--hash` wants it."""
    desk.submit("one")
    desk.run("runs", "work", "r1")
    question = desk.runs.view("r1").waiting
    assert question is not None
    _, _, err = desk.run("runs", "approve", "r1")
    assert f"confirmation {question['hash']}" in err
    assert desk.run("runs", "approve", "r1", "--hash", question["hash"])[0] == 0


def test_who_answers_too_late_is_told_so(desk: Submitted) -> None:
    """And what to do about it."""
    desk.submit("one")
    desk.run("runs", "work", "r1")
    desk.runs.close("r1", "interrupted", "given up: nobody answered within 10m")
    code, _, err = desk.run("runs", "approve", "r1", "--yes")
    assert code == 2
    assert "run r1 is over: interrupted: given up: nobody answered within 10m" in err
    assert "runbook runs resume r1 --show" in err


def test_a_person_at_a_terminal_who_may_not_answer_is_not_asked(desk: Submitted) -> None:
    desk.submit("one", approvers=("somebody-else",))
    desk.work()
    code, shown = desk.at_terminal("runs", "resume", "r1").end()
    assert code == 6, shown
    assert "It is for somebody-else to approve" in shown
    assert desk.shop.said() == []


def test_a_plan_that_is_another_by_now_ends_the_run_and_says_so(desk: Submitted) -> None:
    request = desk.submit("one")
    desk.work()
    playbook = Path(request.playbook)
    playbook.write_text(playbook.read_text().replace('"one"', '"other"'))
    question = desk.runs.view("r1").waiting
    assert question is not None
    desk.runs.approve("r1", question["key"], True, "dana@browser")
    assert desk.work()[0] == 3
    kept = desk.kept()
    assert kept.record.status == "refused"
    assert "is no longer the one that was begun" in kept.events[-1].data["reason"]
    assert desk.shop.said() == []
    assert desk.run("runs", "verify")[0] == 0


def test_a_run_that_was_given_up_before_it_began_is_not_begun(desk: Submitted) -> None:
    desk.submit("one", confirmed_by="rule relieve")
    desk.runs.cancel("r1", "dana@browser")
    code, err = desk.work()
    assert (code, "is over: interrupted" in err) == (2, True)
    assert desk.shop.said() == []
