"""Locks between users: another user's file is opened, never taken away, never followed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from runbook.adapters.locks import FileLocks, shared_directory
from runbook.adapters.target_lock_script import _SCRIPT
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


@pytest.mark.parametrize(
    ("mode", "made", "shared"),
    [(0o1777, False, True), (0o755, False, False), (0o755, True, True), (0o777, False, False)],
)
def test_the_directory_hangs_on_the_machine_not_on_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, made: bool, shared: bool
) -> None:
    run_lock, tmp = tmp_path / "lock", tmp_path / "tmp"
    run_lock.mkdir()
    if made:
        (run_lock / "runbook").mkdir()
    run_lock.chmod(mode)
    # Root may write everywhere, others have a TMPDIR of their own: neither counts.
    monkeypatch.setenv("TMPDIR", str(tmp_path / "mine"))
    monkeypatch.setattr("os.access", lambda *_: True)
    wanted = run_lock / "runbook" if shared else tmp / "runbook-locks"
    assert shared_directory(run_lock, tmp) == wanted
    # And on a target the script comes to the same.
    rule = _SCRIPT[_SCRIPT.index("if [ -z") : _SCRIPT.index("file=$dir")]
    rule = rule.replace("/tmp/", f"{tmp}/").replace("/run/lock", str(run_lock))
    said = subprocess.run(
        ["sh", "-c", f'dir=\n{rule}\necho "$dir"'], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == str(wanted)


def test_without_run_lock_it_is_tmp_for_all(tmp_path: Path) -> None:
    assert shared_directory(tmp_path / "none", tmp_path) == tmp_path / "runbook-locks"


def test_a_directory_in_which_locks_can_be_put_aside_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    for mode, why in ((0o777, "everybody may remove files there"), (0o1777, None), (0o755, None)):
        folder.mkdir()
        folder.chmod(mode)
        if why is None:
            with locks(tmp_path).hold("service shop", "run-1"):
                pass
        else:
            with pytest.raises(DoorError, match=why):
                locks(tmp_path).hold("service shop", "run-1").__enter__()
        shutil.rmtree(folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o1777)
    folder.symlink_to(elsewhere)
    with pytest.raises(DoorError, match="a symbolic link"):
        locks(tmp_path).hold("service shop", "run-1").__enter__()
    assert not list(elsewhere.iterdir())
