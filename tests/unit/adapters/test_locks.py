"""Locks between users: another user's file is opened, never taken away, never followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.adapters.locks import FileLocks
from runbook.model.errors import DoorError, Locked


def locks(folder: Path, who: str = "ada@desk") -> FileLocks:
    """Locks in a directory that does not exist yet."""
    return FileLocks(folder / "locks", who=who, incident="P1")


def test_one_holder_at_a_time_and_the_second_hears_who(tmp_path: Path) -> None:
    with locks(tmp_path).hold("service shop", "run-1"):
        with pytest.raises(Locked, match=r"service shop is held by ada@desk for P1: run run-1"):
            locks(tmp_path, "bob@desk").hold("service shop", "run-2").__enter__()
        with locks(tmp_path, "bob@desk").hold("service other", "run-3"):
            pass
    with locks(tmp_path, "bob@desk").hold("service shop", "run-2"):
        pass


def test_the_directory_and_its_files_are_for_every_user(tmp_path: Path) -> None:
    with locks(tmp_path).hold("database db", "run-1"):
        (file,) = (tmp_path / "locks").iterdir()
        assert file.stat().st_mode & 0o777 == 0o666
        assert (tmp_path / "locks").stat().st_mode & 0o7777 == 0o1777


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    with locks(tmp_path).hold("database db", "run-1"):
        (file,) = (tmp_path / "locks").iterdir()
    file.unlink()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    file.symlink_to(victim)
    with pytest.raises(DoorError, match="cannot be made"):
        locks(tmp_path).hold("database db", "run-2").__enter__()
    assert victim.read_text() == "precious"
