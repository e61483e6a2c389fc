"""A process is known by its pid and its start, and stopped only when it is that very one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from runbook.drill import processes
from runbook.drill.processes import Identity

if TYPE_CHECKING:
    from pathlib import Path

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal as s, time; s.signal(15, s.SIG_IGN); print('up', flush=True); time.sleep(60)",
]


def _spawn(tmp_path: Path, argv: list[str]) -> Identity:
    identity = processes.identify(processes.spawn(argv, log=tmp_path / "log", cwd=tmp_path))
    assert identity is not None
    return identity


def test_a_spawned_process_leads_its_own_session_and_can_be_stopped(tmp_path: Path) -> None:
    child = _spawn(tmp_path, SLEEP)
    assert os.getsid(child.pid) == child.pid
    assert processes.is_alive(child)
    assert processes.stop(child)
    assert not processes.is_alive(child)


def test_a_reused_pid_is_somebody_else_and_is_left_alone(tmp_path: Path) -> None:
    child = _spawn(tmp_path, SLEEP)
    earlier = Identity(pid=child.pid, started="1")
    assert not processes.is_alive(earlier)
    assert processes.stop(earlier)
    assert processes.is_alive(child)
    processes.stop(child)


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    child = _spawn(tmp_path, STUBBORN)
    deadline = time.monotonic() + 5
    while "up" not in (tmp_path / "log").read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert processes.stop(child, grace_s=0.2)


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen(SLEEP)
    identity = processes.identify(child.pid)
    child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while processes.is_alive(identity) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not processes.is_alive(identity)


def test_ps_tells_the_same_lives_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_started_by_proc", processes._started_by_ps)
    child = _spawn(tmp_path, SLEEP)
    assert processes.is_alive(child)
    assert len(child.started) > 10
    assert processes.stop(child)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"pid": "x", "started": "1"}', "\0"])
def test_a_mangled_pid_file_names_nobody(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pid"
    path.write_text(text)
    assert processes.read_pid_file(path) is None


def test_files_are_replaced_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    processes.write_atomically(path, "one")
    processes.write_atomically(path, "two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
