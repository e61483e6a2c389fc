"""A journal that cannot be written: a change is refused, a look goes on with a warning."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .command import Command, invocations
from .lab import DB, Lab
from .test_rolling_restart import RESTART

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def state_on(runbook: Command, options: str) -> Iterator[Path]:
    """Put the state folder on a small file system of its own."""
    state = Path(runbook.env["RUNBOOK_STATE"])
    state.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(state)]
    subprocess.run(mount, check=True)
    try:
        yield state
    finally:
        subprocess.run(["umount", "--lazy", str(state)], check=True)


@pytest.mark.parametrize("options", ["ro", "size=16k"])
def test_without_a_journal_nothing_is_changed(lab: Lab, runbook: Command, options: str) -> None:
    before = invocations(lab)
    with state_on(runbook, options):
        ran = runbook(*RESTART, "--yes", code=1)
        assert "cannot be" in ran.stderr
        looked = runbook("diagnose", DB)
        assert "warning" in looked.stderr
    assert invocations(lab) == before


def test_a_disk_that_fills_up_half_way_stops_before_the_next_change(
    lab: Lab, runbook: Command
) -> None:
    before = invocations(lab)
    with state_on(runbook, "size=1m") as state:
        running = runbook.start(*RESTART, "--yes", "-p", "settle=3s")
        running.wait_for("app-1: stabilising")
        filler = state / "filler"
        subprocess.run(["sh", "-c", f"cat /dev/zero >{filler}"], check=False, capture_output=True)
        ran = running.finish(1)
    after = invocations(lab)
    assert [name for name in before if before[name] != after[name]] == ["app-1"], ran
    assert "cannot be written" in ran.said
