"""`runbook runs …`: killed, waiting, drifted, cancelled, edited; with real processes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import resource
import select
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conformance.harness import Workshop
from runbook.adapters.locks import FileLocks


class Terminal:
    """A command at a terminal: what it has shown, and somebody who types."""

    def __init__(self, process: subprocess.Popen[str], ours: int) -> None:
        self._process, self._ours, self._shown = process, ours, ""

    def see(self, text: str) -> None:
        """Wait until this is on the screen."""
        until = time.monotonic() + 60
        while text not in self._shown:
            assert time.monotonic() < until, self._shown
            if select.select([self._ours], [], [], 0.2)[0]:
                self._shown += os.read(self._ours, 65_536).decode()

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._ours, line.encode() + b"\n")

    def end(self) -> tuple[int, str]:
        """Return the exit code and all that was shown."""
        with contextlib.suppress(OSError):  # the terminal's other side is closed
            while text := os.read(self._ours, 65_536):
                self._shown += text.decode()
        os.close(self._ours)
        return self._process.wait(60), self._shown


class Desk:
    """A folder with an inventory and playbooks, and the command as somebody types it."""

    def __init__(self, folder: Path) -> None:
        self.shop = Workshop(folder)
        self.env = {**os.environ, "RUNBOOK_STATE": str(folder / "state"), "NO_COLOR": "1"}
        self.journal = folder / "state" / "journal.db"

    def playbook(self, *names: str, before: str = "") -> str:
        """Write a playbook and return its path."""
        return self.shop.playbook(*names, before=before)[1].playbook

    def start(
        self, *words: str, tty: int | None = None, env: dict[str, str] | None = None, **more: Any
    ) -> subprocess.Popen[str]:
        """Begin a command, without a terminal unless one is given."""
        return subprocess.Popen(
            [sys.executable, "-m", "runbook", *words],
            stdin=subprocess.DEVNULL if tty is None else tty,
            stdout=subprocess.PIPE if tty is None else tty,
            stderr=subprocess.PIPE if tty is None else tty,
            text=True,
            env={**self.env, **(env or {})},
            **more,
        )

    def at_terminal(self, *words: str) -> Terminal:
        """Begin a command at a terminal of its own."""
        ours, theirs = pty.openpty()
        process = self.start(*words, tty=theirs)
        os.close(theirs)
        return Terminal(process, ours)

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
    assert (code, "too short to bind" in err) == (2, True)
    code, _, err = desk.run("runs", "approve", "last", "--hash", "ffffffff")
    assert (code, "not ffffffff" in err) == (2, True)
    code, _, err = desk.run("runs", "approve", "last", "--hash", "")
    assert (code, "too short to bind" in err) == (2, True)
    code, _, err = desk.run("runs", "approve", "last")
    assert (code, "no terminal to ask at" in err) == (3, True)
    assert desk.status() == "waiting"
    code, out, err = desk.run("runs", "approve", "last", "--comment", "go", "--yes")
    assert (code, "Approved" in out) == (0, True)
    assert "program.py" in err
    assert desk.run("runs", "approve", "last", "--yes")[0] == 2
    assert desk.run("runs", "resume", "last")[0] == 0
    assert desk.shop.said() == ["begin one", "end one"]
    shown = desk.run("runs", "show", "last")[1]
    assert "yes, by" in shown
    assert "taken up again" in shown


def test_a_no_from_elsewhere_ends_it_before_anything_changed(desk: Desk) -> None:
    desk.begin(desk.playbook("one"))
    assert desk.run("runs", "approve", "last", "--deny", "--yes")[0] == 0
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


def test_an_answer_that_was_changed_afterwards_starts_nothing(desk: Desk) -> None:
    desk.begin(desk.playbook("one"))
    assert desk.run("runs", "approve", "last", "--deny", "--yes", "--comment", "no!")[0] == 0
    code, _, err = desk.run("runs", "approve", "last", "--yes")
    assert (code, "was answered already: no, by " in err, "(no!)" in err) == (2, True, True), err
    with sqlite3.connect(desk.journal) as db:
        changed = db.execute(
            "UPDATE events SET data = replace(data, '\"yes\": false', '\"yes\": true')"
            " WHERE kind = 'answered'"
        )
        assert changed.rowcount == 1
    code, _, err = desk.run("runs", "resume", "last", "--yes")
    assert (code, "is not as it was written" in err) == (3, True), err


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


# ---- two people, one run -----------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["--again", "--done"])
def test_what_somebody_else_did_meanwhile_is_not_done_again(desk: Desk, choice: str) -> None:
    """Both see the doubt and are asked; the second answers when the first has had it done."""
    desk.die_in(desk.playbook("one"), "one")
    words = ("runs", "resume", "last", choice, "one/act/here")
    first = desk.at_terminal("runs", "resume", "last", "--again", "one/act/here")
    second = desk.at_terminal(*words)
    for each in (first, second):
        each.see("Go on with it?")
    first.type("y")
    assert first.end()[0] == 0
    second.type("y")
    code, shown = second.end()
    assert (code, "has gone on since it was looked at here: done now" in shown) == (3, True), shown
    assert desk.shop.said().count("begin one") == 2
    assert desk.status() == "done"


def test_an_answer_at_a_terminal_is_asked_for(desk: Desk) -> None:
    desk.begin(desk.playbook("one"))
    for typed, code, status in (("", 3, "waiting"), ("y", 0, "waiting")):
        terminal = desk.at_terminal("runs", "approve", "last")
        terminal.see("Approve it? [y/N]")
        terminal.type(typed)
        ended, shown = terminal.end()
        assert (ended, desk.status()) == (code, status), shown
        assert "program.py" in shown
    assert desk.run("runs", "resume", "last")[0] == 0


def test_who_answers_is_not_what_the_environment_says(desk: Desk) -> None:
    before = "  - name: go\n    approve: {prompt: 'Shall it?', by: [boss]}\n"
    assert desk.begin(desk.playbook("one", before=before), "--yes")[0] == 6
    lie = {"LOGNAME": "boss", "USER": "boss", "SUDO_USER": "boss", "SUDO_UID": "1"}
    code, _, err = desk.run("runs", "approve", "last", "--yes", env=lie)
    assert (code, "not" in err, "to answer" in err) == (2, True, True), err
    assert desk.status() == "waiting"


# ---- signals at the end ------------------------------------------------------------------------

#: The command, with a door that is told to close by a signal to ourselves.
CLOSING = """
import os, signal, sys
import runbook.doors
close = runbook.doors.HostRouter.close
def told(self):
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    close(self)
runbook.doors.HostRouter.close = told
from runbook.cli.main import run
sys.exit(run(sys.argv[2:]))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_connections_are_closed_takes_no_last_word(desk: Desk, name: str) -> None:
    playbook = Path(desk.playbook("one"))
    playbook.write_text(playbook.read_text().replace('"python3"', '"false"'))
    words = ["run", str(playbook), "-i", str(desk.shop.inventory), "--yes"]
    ran = subprocess.run(
        [sys.executable, "-c", CLOSING, name, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=desk.env,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1, ran.stderr
    assert "FAILED" in ran.stdout
    assert "To go on with it" in ran.stdout
    assert f"{name}: the run is over" in ran.stderr
    assert desk.status() == "failed"


# ---- another inventory -------------------------------------------------------------------------

SERVICE = """\
version: 1
hosts:
  here: {connection: local, sudo: false, groups: [web], address: 127.0.0.1}
  lb: {connection: local, sudo: false, address: 127.0.0.2}
services:
  shop:
    hosts: web
    manager: {command: {restart: ["true"], status: ["echo", "7"]}}
    gates: [{command: {argv: ["true"]}}]
    rolling: {batches: [1], min_available: 0, settle: 0s}
    drain: {command: {on: lb, drain: ["true"], undrain: ["true"], status: ["true"]}}
"""


@pytest.mark.parametrize(
    ("was", "now", "named"),
    [
        ('argv: ["true"]', 'argv: ["false"]', "service shop"),
        ("127.0.0.1}", "127.0.0.3}", "host here"),
        ('undrain: ["true"]', 'undrain: ["false"]', "service shop"),
        ("127.0.0.2", "127.0.0.4", "host lb"),
    ],
)
def test_an_answer_holds_for_what_the_inventory_said(
    desk: Desk, was: str, now: str, named: str
) -> None:
    """Approved for one gate, one address, one way out of rotation: not for another."""
    playbook = desk.shop.folder / "roll.yaml"
    playbook.write_text(
        "version: 1\nname: roll\nsteps:\n  - name: Roll\n    rolling: {service: shop}\n"
    )
    desk.shop.inventory.write_text(SERVICE)
    code, out, err = desk.begin(str(playbook))
    assert code == 6, out + err
    assert desk.run("runs", "approve", "last", "--yes")[0] == 0
    assert was in SERVICE
    desk.shop.inventory.write_text(SERVICE.replace(was, now, 1))
    code, _, err = desk.run("runs", "resume", "last")
    assert (code, "is no longer the one that was begun" in err, named in err) == (3, True, True), (
        err
    )
    assert desk.status() == "waiting"


def test_what_a_run_has_nothing_to_do_with_may_change(desk: Desk) -> None:
    assert desk.begin(desk.playbook("one"))[0] == 6
    assert desk.run("runs", "approve", "last", "--yes")[0] == 0
    text = desk.shop.inventory.read_text()
    desk.shop.inventory.write_text(text + "  other: {address: 127.0.0.7}\n")
    code, _, err = desk.run("runs", "resume", "last")
    assert code == 0, err


def test_a_resume_that_finds_no_lock_leaves_the_run_as_it_was(desk: Desk) -> None:
    """It waits still, and may still be answered."""
    playbook = desk.shop.folder / "roll.yaml"
    playbook.write_text(
        "version: 1\nname: roll\nsteps:\n  - name: Roll\n    rolling: {service: shop}\n"
    )
    desk.shop.inventory.write_text(SERVICE)
    assert desk.begin(str(playbook))[0] == 6
    locks = FileLocks(desk.journal.parent / "locks", who="ada@desk", incident=None)
    with locks.hold("service shop", "another"):
        code, _, err = desk.run("runs", "resume", "last")
    assert (code, "ada@desk" in err) == (5, True), err
    [record] = json.loads(desk.run("runs", "list", "--format", "json")[1])
    assert (record["status"], record["ended_at"]) == ("waiting", None)
    assert desk.run("runs", "verify", "last")[0] == 0
    assert desk.run("runs", "approve", "last", "--yes")[0] == 0


# ---- a damaged journal -------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["{", "[]", "{}"])
def test_a_damaged_event_is_told_and_is_no_traceback(desk: Desk, damage: str) -> None:
    desk.begin(desk.playbook("one"))
    with sqlite3.connect(desk.journal) as db:
        db.execute("UPDATE events SET data = ? WHERE kind = 'task_finished'", (damage,))
    for words in (("show", "last"), ("resume", "last", "--yes")):
        code, _, err = desk.run("runs", *words)
        # 3 where it can be read, and must not be acted upon.
        assert code in {1, 3}
        assert "is not as it was written" in err, err
        assert "Traceback" not in err
        assert "runs verify" in err
