"""`runbook runs …`: killed, waiting, drifted, cancelled, edited; with real processes."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conformance.harness import Workshop


class Desk:
    """A folder with an inventory and playbooks, and the command as somebody types it."""

    def __init__(self, folder: Path) -> None:
        self.shop = Workshop(folder)
        self._env = {**os.environ, "RUNBOOK_STATE": str(folder / "state"), "NO_COLOR": "1"}
        self.journal = folder / "state" / "journal.db"

    def playbook(self, *names: str, before: str = "") -> str:
        """Write a playbook and return its path."""
        return self.shop.playbook(*names, before=before)[1].playbook

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """Begin a command without a terminal."""
        return subprocess.Popen(
            [sys.executable, "-m", "runbook", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._env,
            **more,
        )

    def run(self, *words: str, **more: Any) -> tuple[int, str, str]:
        """Run a command to its end: exit code, stdout, stderr."""
        process = self.start(*words, **more)
        out, err = process.communicate(timeout=90)
        return process.returncode, out, err

    def begin(self, playbook: str, *words: str, **more: Any) -> tuple[int, str, str]:
        """Run a playbook against the workshop's inventory."""
        return self.run("run", playbook, "-i", str(self.shop.inventory), *words, **more)

    def die_in(self, playbook: str, name: str) -> None:
        """Begin a run, and kill it while a step is at work; what the step runs goes on."""
        self.shop.hold(name)
        process = self.start("run", playbook, "-i", str(self.shop.inventory), "--yes")
        self.wait_for(f"begin {name}")
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        self.shop.let_go(name)
        self.wait_for(f"end {name}")

    def wait_for(self, line: str) -> None:
        """Wait until a program has said this."""
        until = time.monotonic() + 60
        while line not in self.shop.said():
            assert time.monotonic() < until, self.shop.said()
            time.sleep(0.02)

    def status(self) -> str:
        """Return what `runs show` says of the newest run's status."""
        code, out, _ = self.run("runs", "show", "last")
        assert code == 0
        return next(line for line in out.splitlines() if line.startswith("status"))[6:].strip()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk of one's own."""
    return Desk(tmp_path)


def test_killed_in_a_look_it_goes_on_without_a_second_change(desk: Desk) -> None:
    desk.die_in(desk.playbook("one", "look", "two"), "look")
    assert desk.status() == "lost its process"
    code, _, err = desk.run("runs", "resume")
    assert code == 3, err
    assert "there is no terminal to ask at" in err
    assert "done         one: here" in err
    assert "still to do  look: here" in err
    code, out, err = desk.run("runs", "resume", "--yes")
    assert code == 0, err
    assert "Done." in out
    said = desk.shop.said()
    assert (said.count("begin one"), said.count("begin two")) == (1, 1)
    assert desk.run("runs", "verify")[0] == 0


def test_a_doubt_is_shown_with_the_words_that_settle_it(desk: Desk) -> None:
    desk.die_in(desk.playbook("one", "two"), "one")
    code, out, err = desk.run("runs", "resume", "last", "--yes")
    assert code == 4
    assert "IN DOUBT" in err
    assert "--done one/act/here" in err
    assert out.rstrip().splitlines()[-1].startswith("To go on with it: `runbook runs resume 2")
    code, _, err = desk.run("runs", "resume", "last", "--yes", "--done", "two/act/here")
    assert (code, "has no doubt 'two/act/here'" in err) == (2, True)
    assert desk.run("runs", "resume", "last", "--yes", "--done", "one/act/here")[0] == 0
    assert [line for line in desk.shop.said() if "begin" in line] == ["begin one", "begin two"]
    code, _, err = desk.run("runs", "resume", "last", "--yes")
    assert (code, "is done: there is nothing to go on with" in err) == (2, True)


def test_another_plan_is_refused_with_what_is_different(desk: Desk) -> None:
    playbook = desk.playbook("one", "look")
    desk.die_in(playbook, "look")
    text = Path(playbook).read_text()
    Path(playbook).write_text(text.replace('"look"', '"other"'))
    code, _, err = desk.run("runs", "resume", "last", "--yes")
    assert code == 3
    assert "is no longer the one that was begun" in err
    assert "step 'look': argv: was" in err
    assert "runs cancel" in err
    Path(playbook).write_text(text)
    assert desk.run("runs", "resume", "last", "--yes")[0] == 0


def test_a_run_that_goes_on_is_not_taken_up_by_a_second(desk: Desk) -> None:
    desk.shop.hold("one")
    playbook = desk.playbook("one")
    process = desk.start("run", playbook, "-i", str(desk.shop.inventory), "--yes")
    desk.wait_for("begin one")
    assert desk.status() == "goes on"
    code, _, err = desk.run("runs", "resume", "last", "--yes")
    assert (code, "goes on: a process on this machine works on it" in err) == (5, True)
    code, out, _ = desk.run("runs", "cancel", "last")
    assert (code, "was asked to stop" in out) == (0, True)
    desk.shop.let_go("one")
    process.communicate(timeout=60)
    assert desk.shop.said() == ["begin one", "end one"]


def test_without_a_terminal_a_change_waits_and_is_approved_from_elsewhere(desk: Desk) -> None:
    code, out, _ = desk.begin(desk.playbook("one"))
    assert code == 6
    assert "WAITING for an answer" in out
    assert desk.shop.said() == []
    assert desk.status() == "waiting"
    assert desk.run("runs", "resume", "last")[0] == 6
    code, _, err = desk.run("runs", "approve", "last", "--hash", "ffff")
    assert (code, "not ffff" in err) == (2, True)
    code, out, err = desk.run("runs", "approve", "last", "--comment", "go")
    assert (code, "Approved" in out) == (0, True)
    assert "program.py" in err
    assert desk.run("runs", "approve", "last")[0] == 2
    assert desk.run("runs", "resume", "last")[0] == 0
    assert desk.shop.said() == ["begin one", "end one"]
    shown = desk.run("runs", "show", "last")[1]
    assert "yes, by" in shown
    assert "taken up again" in shown


def test_a_no_from_elsewhere_ends_it_before_anything_changed(desk: Desk) -> None:
    desk.begin(desk.playbook("one"))
    assert desk.run("runs", "approve", "last", "--deny")[0] == 0
    assert desk.run("runs", "resume", "last")[0] == 3
    assert desk.shop.said() == []


def test_yes_is_no_approval(desk: Desk) -> None:
    before = "  - name: go\n    approve: {prompt: 'Shall it?'}\n"
    code, out, _ = desk.begin(desk.playbook("one", before=before), "--yes")
    assert (code, "Shall it?" in out) == (6, True)
    assert desk.shop.said() == []


def test_a_run_that_nobody_wants_any_more_is_closed_with_what_is_left(desk: Desk) -> None:
    desk.die_in(desk.playbook("one", "two"), "one")
    code, out, _ = desk.run("runs", "cancel", "last")
    assert code == 0
    assert "is closed; no process worked on it" in out
    assert "in doubt: on here:" in out
    assert desk.status() == "interrupted"
    assert desk.run("runs", "verify")[0] == 0


def test_an_edited_journal_is_told_where(desk: Desk) -> None:
    desk.begin(desk.playbook("look"))
    with sqlite3.connect(desk.journal) as db:
        db.execute("UPDATE events SET data = replace(data, '\"ok\"', '\"failed\"')")
    code, out, _ = desk.run("runs", "verify", "last")
    assert code == 1
    assert ": this event was changed" in out


def test_pruning_asks_and_forgets_what_is_old(desk: Desk) -> None:
    desk.begin(desk.playbook("look"))
    assert desk.run("runs", "prune", "--older-than", "1")[0] == 2
    code, out, _ = desk.run("runs", "prune", "--older-than", "90d", "--yes")
    assert (code, out) == (0, "0 runs were forgotten.\n")
    code, out, _ = desk.run("runs", "prune", "--older-than", "1ms", "--yes")
    assert (code, out) == (0, "1 run was forgotten.\n")
    assert desk.run("runs", "list")[1] == "no runs yet\n"


def test_resume_only_shows_when_it_is_asked_to(desk: Desk) -> None:
    desk.die_in(desk.playbook("one", "look"), "look")
    code, _, err = desk.run("runs", "resume", "--show")
    assert (code, "done         one: here" in err) == (0, True)
    assert desk.status() == "lost its process"


def test_several_open_runs_are_listed_and_none_is_guessed(desk: Desk) -> None:
    for name in ("one", "two"):
        desk.begin(desk.playbook(name))
    code, _, err = desk.run("runs", "resume")
    assert code == 2
    assert "2 runs have no end" in err
    assert err.count("waiting") == 2


def test_a_full_disk_refuses_a_change_and_lets_a_look_go_on(desk: Desk) -> None:
    desk.begin(desk.playbook("look"))
    size = 16 * 1024  # what a look has to say fits on no disk that is as full as that

    def no_more() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    code, _, err = desk.begin(desk.playbook("one"), "--yes", preexec_fn=no_more)
    assert code == 1, err
    assert "the journal" in err
    assert "free the disk" in err
    assert "begin one" not in desk.shop.said()
    before = desk.shop.said().count("end look")
    code, _, err = desk.begin(desk.playbook("look"), preexec_fn=no_more)
    assert code == 0, err
    assert "warning: the journal" in err
    assert desk.shop.said().count("end look") == before + 1


def test_the_json_of_a_waiting_run_says_so(desk: Desk) -> None:
    code, out, _ = desk.begin(desk.playbook("one"), "--format", "json")
    assert code == 6
    said = json.loads(out)
    assert (said["status"], said["owed"]) == ("waiting", [])
