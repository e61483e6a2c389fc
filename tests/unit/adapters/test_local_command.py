"""The local door against real processes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from runbook.adapters.host_door import KEPT_BYTES
from runbook.adapters.local_command import LocalDoor
from runbook.model.effects import ChangeCommand, CommandOutcome, ReadCommand
from runbook.model.errors import ChangeInRehearsal, CommandFailed, NotStarted
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory

FLEET = Fleet(Inventory.model_validate({"version": 1, "hosts": {"me": {"connection": "local"}}}))


def run(*argv: str, timeout_s: float = 10.0) -> CommandOutcome:
    effect = ReadCommand(host="me", argv=argv, timeout_s=timeout_s)
    outcome = LocalDoor(FLEET, rehearsal=False).perform(effect)
    assert isinstance(outcome, CommandOutcome)
    return outcome


def change(line: str, timeout_s: float = 10.0) -> ChangeCommand:
    return ChangeCommand(host="me", argv=("sh", "-c", line), timeout_s=timeout_s)


def test_both_streams_and_the_exit_code() -> None:
    outcome = run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (3, "out\n", "err\n")


def test_no_shell_reads_the_words() -> None:
    assert run("printf", "%s", "$HOME; `id`").stdout == "$HOME; `id`"


def test_output_is_bounded() -> None:
    outcome = run("sh", "-c", "head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero")
    assert len(outcome.stdout) < KEPT_BYTES + 100
    assert "cut off" in outcome.stderr


def test_a_look_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(CommandFailed, match=r"within 0\.3s"):
        run("sh", "-c", f"sleep 30 & echo $! > {pid}; wait", timeout_s=0.3)
    time.sleep(0.1)
    stat = Path(f"/proc/{pid.read_text().strip()}/stat")
    assert not stat.exists() or " Z " in stat.read_text()


def test_a_change_that_takes_too_long_is_left_alone(tmp_path: Path) -> None:
    done = tmp_path / "done"
    with pytest.raises(CommandFailed) as caught:
        LocalDoor(FLEET, rehearsal=False).perform(change(f"sleep 0.6; touch {done}", 0.2))
    assert "was not stopped" in (caught.value.hint or "")
    time.sleep(0.8)
    assert done.exists()


def test_a_daemon_that_keeps_the_pipe_does_not_hold_us() -> None:
    began = time.monotonic()
    outcome = LocalDoor(FLEET, rehearsal=False).perform(change("sleep 8 & echo started"))
    assert isinstance(outcome, CommandOutcome)
    assert outcome.stdout == "started\n"
    assert time.monotonic() - began < 4


def test_a_process_that_closes_its_streams_is_waited_for() -> None:
    assert run("sh", "-c", "exec >&- 2>&-; sleep 0.3; exit 7").exit_code == 7


def test_a_missing_program_is_named() -> None:
    with pytest.raises(CommandFailed, match="no-such-program"):
        run("/usr/bin/no-such-program")


def test_its_own_process_group() -> None:
    assert int(run("sh", "-c", "ps -o pgid= -p $$").stdout) != os.getpgrp()


def test_a_rehearsal_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ChangeInRehearsal):
        LocalDoor(FLEET, rehearsal=True).perform(change(f"touch {tmp_path}/x"))
    assert not (tmp_path / "x").exists()


def test_a_program_that_is_not_there_was_not_started() -> None:
    effect = ChangeCommand(host="me", argv=("/nowhere/ctl", "restart"), timeout_s=5)
    with pytest.raises(NotStarted, match="No such file"):
        LocalDoor(FLEET, rehearsal=False).perform(effect)


def fed(stdin: str, *argv: str, timeout_s: float = 10.0) -> CommandOutcome:
    effect = ReadCommand(
        host="me", argv=argv, timeout_s=timeout_s, stdin=stdin, keep_bytes=2_000_000
    )
    outcome = LocalDoor(FLEET, rehearsal=False).perform(effect)
    assert isinstance(outcome, CommandOutcome)
    return outcome


def test_a_command_is_fed_its_input_and_the_input_ends() -> None:
    text = "zeile ü\n" * 80_000
    assert fed(text, "cat").stdout == text


def test_a_command_may_leave_its_input_unread() -> None:
    outcome = fed("x" * 1_000_000, "sh", "-c", "exec <&-; echo done; exit 5")
    assert (outcome.exit_code, outcome.stdout) == (5, "done\n")


def test_input_that_nobody_takes_ends_with_the_deadline() -> None:
    with pytest.raises(CommandFailed, match=r"within 0\.3s"):
        fed("x" * 1_000_000, "sleep", "30", timeout_s=0.3)


def test_more_output_is_kept_where_it_was_asked_for() -> None:
    assert len(fed("", "head", "-c", "1500000", "/dev/zero").stdout) == 1_500_000


def test_a_change_is_fed_too(tmp_path: Path) -> None:
    effect = ChangeCommand(host="me", argv=("tee", str(tmp_path / "x")), stdin="text")
    LocalDoor(FLEET, rehearsal=False).perform(effect)
    assert (tmp_path / "x").read_text() == "text"


def test_a_look_that_may_not_be_killed_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As what sudo runs, when we are not root."""

    def refuse(pid: int, number: int) -> None:
        raise PermissionError(pid, number)

    monkeypatch.setattr(os, "killpg", refuse)
    with pytest.raises(CommandFailed, match=r"within 0\.1s"):
        run("sleep", "1", timeout_s=0.1)
