"""Locks on targets, by the real script and a real server; other machines are played by notes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runbook.adapters.local_command import LocalDoor
from runbook.adapters.postgres import PostgresDoor
from runbook.adapters.target_lock_script import Holder, lock_argv, read_answer
from runbook.adapters.target_locks import RemoteLocks
from runbook.model.effects import ChangeSql
from runbook.model.errors import ChangeInRehearsal, Locked
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory

if TYPE_CHECKING:
    from unit.postgres_server import Server

FLEET = Fleet(
    Inventory.model_validate(
        {
            "version": 1,
            "hosts": {"me": {"connection": "local"}, "alias": {"connection": "local"}},
            "services": {"shop": {"hosts": "me, alias"}},
            "databases": {
                "db": {"host": "me", "connect": {"host": "localhost", "port": 5433, "user": "x"}}
            },
        }
    )
)
THEIRS = {"who": "bob@desk", "incident": "P7", "run": "run-9", "machine": "desk", "since": "noon"}


def locks(folder: Path, *, who: str = "ada@here", steal: bool = False) -> RemoteLocks:
    """The locks of one run, on this machine, in a directory of the test's own."""
    door = LocalDoor(FLEET, rehearsal=False)
    return RemoteLocks(
        FLEET,
        hosts=door,
        databases=PostgresDoor(FLEET, rehearsal=False),
        who=who,
        incident="P1",
        steal=steal,
        local_directory=str(folder),
    )


def another(
    folder: Path, note: dict[str, Any] | str, *, lock: str = "host"
) -> subprocess.Popen[str]:
    """Hold a lock as another runbook would, with any note."""
    text = note if isinstance(note, str) else json.dumps(note)
    process = subprocess.Popen(
        lock_argv(lock, text, None, str(folder)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("mine ")
    return process


@pytest.fixture
def stray() -> Iterator[list[subprocess.Popen[Any]]]:
    """Processes that are ended after the test, whatever came of it."""
    started: list[subprocess.Popen[Any]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def test_one_run_at_a_time_and_the_second_hears_all_about_the_first(tmp_path: Path) -> None:
    with locks(tmp_path).hold("host", "me", "run-1") as held:
        assert held.lost() is None
        with pytest.raises(Locked) as caught, locks(tmp_path).hold("host", "alias", "run-2"):
            pytest.fail("one machine was locked twice")
    said = caught.value.message
    assert said.startswith("host alias is held by ada@here for P1: run run-1, since 20")
    assert f"from {os.uname().nodename} (process " in said
    assert "--steal-lock" in (caught.value.hint or "")
    with locks(tmp_path).hold("host", "alias", "run-2"):
        pass


def test_tasks_of_one_run_share_their_lock(tmp_path: Path) -> None:
    ours = locks(tmp_path)
    with ours.hold("host", "me", "run-1") as first:
        with ours.hold("host", "me", "run-1") as second:
            assert first is second
        assert first.lost() is None
        with pytest.raises(Locked), locks(tmp_path).hold("host", "me", "run-2"):
            pytest.fail("given back while another task still has it")


def test_two_names_of_this_machine_in_one_batch_share_its_lock(tmp_path: Path) -> None:
    ours = locks(tmp_path)
    with ours.hold("host", "me", "run-1") as held:
        with ours.hold("host", "alias", "run-1") as other:
            assert (held.lost(), other.lost()) == (None, None)
        assert held.lost() is None
    with locks(tmp_path, who="bob@here").hold("host", "alias", "run-2"):
        pass


def test_a_server_has_a_lock_of_its_own(tmp_path: Path) -> None:
    with (
        locks(tmp_path).hold("host", "me", "run-1"),
        locks(tmp_path).hold("database", "db", "run-2") as held,
    ):
        assert held.lost() is None
        with pytest.raises(Locked, match="database db is held by"):
            locks(tmp_path).hold("database", "db", "run-3").__enter__()


def test_a_dead_holder_holds_nothing(tmp_path: Path, stray: list[Any]) -> None:
    code = (
        "import sys, time; sys.path.insert(0, 'tests')\n"
        "from pathlib import Path\n"
        "from unit.adapters.test_target_locks import locks\n"
        f"with locks(Path({str(tmp_path)!r})).hold('host', 'me', 'run-1'):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    stray.append(holder)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(Locked):
        locks(tmp_path).hold("host", "me", "run-2").__enter__()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locks(tmp_path).hold("host", "me", "run-2") as held:
        assert held.taken() == {"lock": "host me", "how": "taken"}


def test_a_stolen_lock_is_lost_to_its_holder(tmp_path: Path) -> None:
    thief = locks(tmp_path, who="bob@here", steal=True)
    with (
        locks(tmp_path).hold("host", "me", "run-1") as first,
        thief.hold("host", "me", "run-2") as second,
    ):
        assert second.taken()["how"] == "stolen"
        assert second.taken()["from"].startswith("ada@here for P1: run run-1, since")
        assert second.lost() is None
        assert "it was taken over by bob@here for P1: run run-2" in (first.lost() or "")


def test_who_was_robbed_touches_nothing_more(tmp_path: Path) -> None:
    """Its next task would take the lock anew, as soon as the thief has given it back."""
    ours = locks(tmp_path)
    with (
        ours.hold("host", "me", "run-1"),
        locks(tmp_path, who="bob@here", steal=True).hold("host", "me", "run-2"),
    ):
        pass
    with pytest.raises(Locked, match="host me is no longer its own: it was taken over") as caught:
        ours.hold("database", "db", "run-1").__enter__()
    assert "speak with them" in (caught.value.hint or "")


def test_a_lock_that_was_only_cut_off_costs_the_run_nothing(tmp_path: Path) -> None:
    ours = locks(tmp_path)
    with ours.hold("host", "me", "run-1") as held:
        cut(held)
    with ours.hold("host", "me", "run-1") as again:
        assert again.lost() is None


def test_a_service_is_rolled_by_one_run_at_a_time(tmp_path: Path) -> None:
    """Two runs on different hosts would each count the other's hosts as up."""
    with locks(tmp_path).hold("service", "shop", "run-1") as held:
        assert held.taken() == {"lock": "service shop", "how": "taken"}
        with pytest.raises(Locked, match="service shop is held by ada@here"):
            locks(tmp_path).hold("service", "shop", "run-2").__enter__()
        with locks(tmp_path).hold("host", "me", "run-2"):
            pass  # one host of it is another thing


def test_a_service_that_was_taken_over_is_left_at_once(tmp_path: Path) -> None:
    ours = locks(tmp_path)
    thief = locks(tmp_path, who="bob@here", steal=True)
    with (
        ours.hold("service", "shop", "run-1"),
        thief.hold("service", "shop", "run-2"),
        pytest.raises(Locked, match="service shop is no longer its own"),
    ):
        ours.hold("host", "me", "run-1").__enter__()


def test_a_lock_whose_connection_was_cut_is_taken_again(tmp_path: Path) -> None:
    with locks(tmp_path).hold("host", "me", "run-1") as held:
        cut(held)
        assert held.lost() is None
        with pytest.raises(Locked):
            locks(tmp_path).hold("host", "me", "run-2").__enter__()


def test_but_not_when_somebody_else_has_held_it_in_between(tmp_path: Path) -> None:
    """What a paused run wakes up to: stolen, used, and given back."""
    with locks(tmp_path).hold("host", "me", "run-1") as held:
        cut(held)
        with locks(tmp_path).hold("host", "me", "run-2"):
            assert "it was taken over by ada@here" in (held.lost() or "")
        assert "taken over, and given back" in (held.lost() or "")
        assert "taken over, and given back" in (held.lost() or "")


def cut(held: Any) -> None:
    """End the process that holds a lock for us, as a lost connection does."""
    held._by._command._process.kill()
    held._by._command._process.wait()


def test_only_a_holder_is_ended(tmp_path: Path, stray: list[Any]) -> None:
    """The pid of a holder that is gone may be anybody's by now."""
    bystander = subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE)
    stray += [bystander, another(tmp_path, THEIRS)]
    end = Holder(pid=bystander.pid, account="x", note=json.dumps(THEIRS))
    said = subprocess.run(
        lock_argv("host", "{}", end, str(tmp_path)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert read_answer(said.stdout.strip()).holder is not None
    assert bystander.poll() is None


def test_what_our_own_run_left_behind_is_taken_over(tmp_path: Path, stray: list[Any]) -> None:
    """Its connection was cut without a word: the far side does not know yet."""
    stray.append(another(tmp_path, {**THEIRS, "who": "ada@here", "run": "run-1"}))
    with locks(tmp_path).hold("host", "me", "run-1") as held:
        assert "broken connection" in held.taken()["how"]
        assert held.lost() is None


@pytest.mark.parametrize("changed", [{"who": "bob@desk"}, {"run": "run-2"}])
def test_what_another_run_or_user_holds_is_not(
    tmp_path: Path, stray: list[Any], changed: dict[str, str]
) -> None:
    stray.append(another(tmp_path, {**THEIRS, "who": "ada@here", "run": "run-1", **changed}))
    with pytest.raises(Locked):
        locks(tmp_path).hold("host", "me", "run-1").__enter__()


def test_a_holder_whose_process_is_gone_is_recognised(tmp_path: Path, stray: list[Any]) -> None:
    ours = {
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "space": str(Path("/proc/self/ns/pid").readlink()),
    }
    dead = subprocess.Popen(["true"])
    dead.wait()
    stray.append(another(tmp_path, {**THEIRS, **ours, "pid": dead.pid, "began": "1"}))
    with locks(tmp_path).hold("host", "me", "run-1") as held:
        assert held.taken()["how"] == "taken over from a process that is gone"


@pytest.mark.parametrize("elsewhere", [{"boot": "another kernel"}, {"space": "pid:[1]"}])
def test_a_process_of_another_machine_is_never_called_gone(
    tmp_path: Path, stray: list[Any], elsewhere: dict[str, str]
) -> None:
    ours = {
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "space": str(Path("/proc/self/ns/pid").readlink()),
    }
    note = {**THEIRS, **ours, "pid": 999_999_999, "began": "1", **elsewhere}
    stray.append(another(tmp_path, note))
    with pytest.raises(Locked):
        locks(tmp_path).hold("host", "me", "run-1").__enter__()


@pytest.mark.parametrize("note", ["no JSON", "[1]", '{"who": "\\u001b[2J", "run": "a\\\\nb"}', ""])
def test_a_note_from_another_hand_is_only_text(tmp_path: Path, stray: list[Any], note: str) -> None:
    stray.append(another(tmp_path, note))
    with pytest.raises(Locked) as caught:
        locks(tmp_path).hold("host", "me", "run-1").__enter__()
    assert caught.value.message.isprintable()


def test_a_holder_that_cannot_be_seen_still_holds(tmp_path: Path, stray: list[Any]) -> None:
    with locks(tmp_path).hold("host", "me", "run-1"):
        pass
    file = tmp_path / "host.lock"
    stray.append(subprocess.Popen(["flock", str(file), "sleep", "60"], stdin=subprocess.PIPE))
    while subprocess.run(["flock", "-n", str(file), "true"], check=False).returncode == 0:
        time.sleep(0.01)
    with pytest.raises(Locked, match="by somebody whom this account cannot see"):
        locks(tmp_path, steal=True).hold("host", "me", "run-1").__enter__()
    subprocess.run(["pkill", "-P", str(stray[-1].pid)], check=False)


def test_a_machine_without_flock_is_locked_nowhere_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sh").symlink_to(shutil.which("sh") or "/bin/sh")
    monkeypatch.setenv("PATH", str(programs))
    with locks(tmp_path).hold("host", "me", "run-1") as held:
        assert held.taken() == {"lock": "host me", "how": "none: there is no flock(1) on me"}
        assert held.lost() is None


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (tmp_path / "host.lock").symlink_to(victim)
    with locks(tmp_path).hold("host", "me", "run-1") as held:
        assert held.taken()["how"].startswith("none: ")
    assert not victim.exists()


def test_the_file_is_for_every_user(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    with locks(folder).hold("host", "me", "run-1"):
        assert folder.stat().st_mode & 0o7777 == 0o1777
        assert (folder / "host.lock").stat().st_mode & 0o777 == 0o666


def test_a_rehearsal_holds_nothing(tmp_path: Path) -> None:
    with pytest.raises(ChangeInRehearsal):
        LocalDoor(FLEET, rehearsal=True).hold("me", ("cat",), 1.0)
    assert list(tmp_path.iterdir()) == []


# ---- in the server, for a database without a host


@pytest.fixture
def server_locks(server: Server) -> Iterator[Any]:
    """Locks of as many runs as are asked for, each with a connection of its own."""
    doors = []

    def make(who: str, **database: Any) -> RemoteLocks:
        fleet = server.fleet(**database)
        doors.append(PostgresDoor(fleet, rehearsal=False))
        here = LocalDoor(fleet, rehearsal=False)
        return RemoteLocks(fleet, hosts=here, databases=doors[-1], who=who, incident=None)

    make.doors = doors  # type: ignore[attr-defined]
    yield make
    for door in doors:
        door.close()


def test_a_database_without_a_host_is_locked_in_its_server(
    server: Server, server_locks: Any
) -> None:
    with server_locks("ada@here").hold("database", "db", "run-1") as held:
        assert held.lost() is None
        with pytest.raises(Locked, match=r"held by another run: session \d+ of .*run-1 ada@here"):
            server_locks("bob@desk").hold("database", "db", "run-2").__enter__()
    with server_locks("bob@desk").hold("database", "db", "run-2") as held:
        assert held.lost() is None
    names = server.admin("SELECT application_name FROM pg_stat_activity")
    assert not [name for (name,) in names if "run-" in (name or "")], "it was not given back"


def test_its_lock_goes_with_its_session(server: Server, server_locks: Any) -> None:
    with server_locks("ada@here").hold("database", "db", "run-1") as held:
        server.admin(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE '%run-1%'"
        )
        assert held.lost() is not None
        with server_locks("bob@desk").hold("database", "db", "run-2") as theirs:
            assert theirs.lost() is None


def test_sql_that_lets_go_of_every_lock_is_noticed(server_locks: Any) -> None:
    with server_locks("ada@here").hold("database", "db", "run-1") as held:
        server_locks.doors[0].perform(ChangeSql(database="db", sql="DISCARD ALL"))
        assert held.lost() is not None
