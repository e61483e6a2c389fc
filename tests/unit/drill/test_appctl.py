"""The app servers' manager: each start is a new identity, and no accident confuses it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from runbook.drill import appctl, cluster, processes, state, traffic
from runbook.drill.processes import Identity
from runbook.drill.saturation import free_ports
from runbook.drill.state import App, Layout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Path]:
    """A drill without a database: an app server starts, and is healthy, without one."""
    root = tmp_path / "d"
    root.mkdir()
    made = state.create(root, home=root / "postgres", user=None)
    app = App(name="app-1", port=free_ports(1)[0], leaks=True)
    state.save(root, replace(made, apps=(app,), db_port=1))
    Layout(root=root).secret(cluster.APP_ROLE).write_text("x")
    yield root
    appctl.stop(root, "app-1")


def _command(verb: str, root: Path, name: str = "app-1") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-P", "-m", "runbook.drill.appctl", verb]
    argv += ["--dir", str(root), "--name", name]
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/")


def _port(root: Path) -> int:
    found = state.load(root)
    assert found is not None
    return found.apps[0].port


def test_restart_status_and_stop_as_commands(world: Path) -> None:
    assert (_command("status", world).returncode, _command("stop", world).returncode) == (3, 0)
    first = _command("restart", world)
    assert first.returncode == 0
    assert _command("status", world).stdout == first.stdout
    second = _command("restart", world)
    assert second.stdout != first.stdout
    assert _command("stop", world).returncode == 0
    gone = _command("status", world)
    assert (gone.returncode, gone.stdout) == (3, "not running\n")


def test_it_listens_once_restart_returns_and_is_healthy_without_a_database(world: Path) -> None:
    appctl.restart(world, "app-1")
    assert traffic.get(_port(world), "/healthz") == (200, "ok\n")
    assert traffic.get(_port(world), "/ready", timeout=3)[0] == 503
    assert traffic.get(_port(world), "/nowhere")[0] == 404


def test_after_a_kill_it_is_not_running_and_can_be_restarted(world: Path) -> None:
    first = appctl.restart(world, "app-1")
    os.kill(first.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while appctl.status(world, "app-1") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert appctl.status(world, "app-1") is None
    assert appctl.restart(world, "app-1") != first


def test_a_reused_pid_is_left_alone(world: Path) -> None:
    note = Layout(root=world).pid_file("app-1")
    processes.write_pid_file(note, Identity(pid=os.getpid(), started="1"))
    assert appctl.status(world, "app-1") is None
    assert processes.is_alive(appctl.restart(world, "app-1"))  # and we are still here


def test_a_start_that_was_cut_off_before_it_was_noted_is_found_again(world: Path) -> None:
    orphan = appctl.restart(world, "app-1")
    Layout(root=world).pid_file("app-1").unlink()
    assert processes.is_alive(appctl.restart(world, "app-1"))
    assert not processes.is_alive(orphan)


def test_a_server_goes_when_its_drill_is_gone(world: Path) -> None:
    running = appctl.restart(world, "app-1")
    layout = Layout(root=world)
    layout.marker.rename(world / "away")
    deadline = time.monotonic() + 5
    while processes.is_alive(running) and time.monotonic() < deadline:
        time.sleep(0.02)
    (world / "away").rename(layout.marker)
    assert not processes.is_alive(running)


def test_a_port_that_is_taken_is_a_failure_with_its_reason(world: Path) -> None:
    with socket.create_server((cluster.HOST, _port(world))):
        failed = _command("restart", world)
    assert failed.returncode == 1
    assert "app-1 did not start" in failed.stderr
    assert "Address already in use" in failed.stderr


def test_unknown_names_and_directories_fail_in_words(world: Path, tmp_path: Path) -> None:
    assert "no app server 'app-9'" in _command("restart", world, "app-9").stderr
    assert "no drill" in _command("status", tmp_path / "nowhere").stderr
