"""The unit that is shipped: systemd reads it, and finds little that it leaves open."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

_UNIT = Path(__file__).parents[3] / "contrib" / "systemd" / "runbook-serve.service"

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Return the unit with a program that is there on every machine."""
    path = tmp_path / _UNIT.name
    path.write_text(_UNIT.read_text().replace("/opt/runbook/bin/runbook", "/bin/true"))
    return path


def _analyze(*argv: str) -> tuple[int, str]:
    done = subprocess.run(
        ["systemd-analyze", *argv], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_systemd_understands_every_line(unit: Path) -> None:
    """It warns of a key or a value that it does not know."""
    code, said = _analyze("verify", str(unit))
    assert (code, [line for line in said.splitlines() if unit.name in line]) == (0, [])


def test_it_leaves_little_open(unit: Path) -> None:
    """systemd's own measure, of 10: what is left is the network and the files it must have."""
    _, said = _analyze("security", "--offline=yes", str(unit))
    found = re.search(r"exposure level for .*: ([\d.]+)", said)
    if found is None:
        pytest.skip("this systemd cannot look at a file")
    assert float(found[1]) <= 2.0


def test_a_restart_leaves_runs_alone() -> None:
    """Each is a process of its own."""
    lines = _UNIT.read_text().splitlines()
    assert "KillMode=process" in lines
    assert "OOMPolicy=continue" in lines
