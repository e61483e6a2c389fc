"""The script that removes a file, on real files of this machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from runbook.model.host_files import MOVED_ON, remove_argv, sha256

TEXT = "[Service]\nEnvironment=OVERFLOW=3\n"

#: A `cp` that writes half of the file, and takes the script down with it.
HALF = '#!/bin/sh\nfor last; do :; done\nprintf "[Serv" > "$last"\nkill -9 $PPID\n'


def remove(path: Path, expected: str, backup: Path, first: Path | None = None) -> int:
    found = f"{first}:{os.environ['PATH']}" if first is not None else os.environ["PATH"]
    argv = remove_argv(str(path), expected, str(backup))
    done = subprocess.run(argv, env={"PATH": found}, check=False, capture_output=True)
    return done.returncode


def test_a_removal_that_is_killed_leaves_no_half_backup(tmp_path: Path) -> None:
    conf, kept, tools = tmp_path / "x.conf", tmp_path / "x.conf.runbook-R1", tmp_path / "bin"
    conf.write_text(TEXT)
    tools.mkdir()
    (tools / "cp").write_text(HALF)
    (tools / "cp").chmod(0o755)
    assert remove(conf, sha256(TEXT), kept, tools) != 0
    assert conf.read_text() == TEXT
    assert remove(conf, sha256(TEXT), kept) == 0
    assert not conf.exists()
    assert kept.read_text() == TEXT


def test_a_removal_keeps_rights_and_leaves_nothing_else(tmp_path: Path) -> None:
    conf, kept = tmp_path / "x.conf", tmp_path / "x.conf.runbook-R1"
    conf.write_text(TEXT)
    conf.chmod(0o640)
    assert remove(conf, sha256("else"), kept) == MOVED_ON
    assert [each.name for each in tmp_path.iterdir()] == ["x.conf"]
    assert remove(conf, sha256(TEXT), kept) == 0
    assert [each.name for each in tmp_path.iterdir()] == ["x.conf.runbook-R1"]
    assert kept.stat().st_mode & 0o777 == 0o640
