"""Streams that fail: a closed stdout, a full disk, a reader that has gone; as real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNBOOK = f"{sys.executable} -m runbook"
INVENTORY = """\
version: 1
hosts: {here: {connection: local}}
"""
PLAYBOOK = """\
version: 1
name: touch
steps:
  - name: touch a file
    command: {hosts: here, argv: [touch, done]}
"""


def shell(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Run a shell line with an inventory and a playbook at hand."""
    (folder / "inventory.yaml").write_text(INVENTORY)
    (folder / "touch.yaml").write_text(PLAYBOOK)
    environment = {**os.environ, "RUNBOOK_STATE": str(folder / "state")}
    return subprocess.run(
        ["bash", "-c", line.replace("runbook", RUNBOOK, 1)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    "line",
    [
        "runbook run touch.yaml --yes",
        "runbook run touch.yaml --yes >&-",
        "runbook run touch.yaml --yes <&-",
        "runbook run touch.yaml --yes >/dev/full",
        "set -o pipefail; runbook run touch.yaml --yes | true",
    ],
)
def test_what_is_done_is_done_wherever_the_result_goes(tmp_path: Path, line: str) -> None:
    ran = shell(tmp_path, line)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    # The command ran here, on this machine, in its own working directory.
    assert (tmp_path / "done").exists()


def test_a_result_that_cannot_be_written_is_an_error_of_a_command_that_only_tells(
    tmp_path: Path,
) -> None:
    ran = shell(tmp_path, "runbook playbooks list >/dev/full")
    assert ran.returncode == 1
    assert "could not be written" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_what_cannot_be_shown_is_not_done(tmp_path: Path) -> None:
    ran = shell(tmp_path, "runbook run touch.yaml --yes 2>/dev/full")
    assert ran.returncode == 3
    assert not (tmp_path / "done").exists()


def test_a_closed_stdin_is_nobody_to_ask(tmp_path: Path) -> None:
    ran = shell(tmp_path, "runbook run touch.yaml <&-")
    assert ran.returncode == 6
    assert "runbook runs approve" in ran.stdout
    assert not (tmp_path / "done").exists()


def test_a_run_that_was_killed_is_told_at_the_next(tmp_path: Path) -> None:
    slow = PLAYBOOK.replace("argv: [touch, done]", "argv: [sleep, 20]")
    line = "printf '%s' \"$PLAYBOOK\" > touch.yaml; runbook run touch.yaml --yes & "
    line += (
        "until grep -q . state/journal.db-wal 2>/dev/null; do sleep 0.1; done; sleep 1; kill -9 $!"
    )
    os.environ["PLAYBOOK"] = slow
    try:
        shell(tmp_path, line)
    finally:
        del os.environ["PLAYBOOK"]
    ran = shell(tmp_path, "runbook run touch.yaml --yes")
    assert ran.returncode == 0
    assert "has no end" in ran.stderr
    again = shell(tmp_path, "runbook run touch.yaml --yes")
    assert "has no end" not in again.stderr
