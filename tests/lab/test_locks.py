"""Locks on the hosts themselves: over SSH, against dead, paused, cut off and stealing holders."""

from __future__ import annotations

import json
import shlex
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from runbook.adapters.postgres import PostgresDoor
from runbook.adapters.ssh import KEPT_CONNECTIONS, SshDoor
from runbook.adapters.target_lock_script import lock_argv
from runbook.adapters.target_locks import RemoteLocks
from runbook.model.effects import ReadCommand
from runbook.model.errors import Locked, Unreachable
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory

from .command import Command, connections, invocations
from .lab import DB, Host, Lab, merged, until

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = "/run/lock/runbook/host.lock"


class Bastion:
    """A machine of its own with its inventory: doors, and the locks of one run."""

    def __init__(self, lab: Lab, who: str, *, steal: bool = False, **over: Any) -> None:
        self.fleet = Fleet(Inventory.model_validate(merged(lab.inventory(), over)))
        self.ssh = SshDoor(self.fleet, rehearsal=False)
        self.sql = PostgresDoor(self.fleet, rehearsal=False)
        self.locks = RemoteLocks(
            self.fleet,
            hosts=self.ssh,
            databases=self.sql,
            who=who,
            incident="P1",
            steal=steal,
        )

    def close(self) -> None:
        """Hang up, as a process that ends does."""
        self.ssh.close()
        self.sql.close()


@pytest.fixture
def bastion(lab: Lab) -> Iterator[Any]:
    """Make bastions; they are closed at the end."""
    with ExitStack() as stack:

        def make(who: str = "ada@one", *, steal: bool = False, **over: Any) -> Bastion:
            made = Bastion(lab, who, steal=steal, **over)
            stack.callback(made.close)
            return made

        yield make


def held(lab: Lab, host: Host, file: str = FILE) -> bool:
    """Whether somebody holds a lock on a host, as the kernel has it."""
    return lab.exec(host, ["flock", "-n", file, "true"]).rc != 0


def renamed(lab: Lab, host: Host, name: str) -> dict[str, Any]:
    """An inventory that calls a host by another name."""
    return {"hosts": {name: lab.inventory()["hosts"][host.name]}}


def test_a_host_is_locked_on_the_host_whatever_an_inventory_calls_it(
    lab: Lab, bastion: Any
) -> None:
    host = lab.apps[0]
    with bastion().locks.hold("host", host.name, "run-1") as lock:
        assert held(lab, host)
        assert lock.lost() is None
        other = bastion("bob@two", **renamed(lab, host, "web-01"))
        with pytest.raises(Locked, match=r"host web-01 is held by ada@one for P1: run run-1"):
            other.locks.hold("host", "web-01", "run-2").__enter__()
        with other.locks.hold("host", lab.apps[1].name, "run-2"):
            pass
    until(lambda: not held(lab, host), "the lock's end")


def test_a_database_is_locked_on_its_host_and_beside_it(lab: Lab, bastion: Any) -> None:
    with (
        bastion().locks.hold("database", DB, "run-1"),
        bastion().locks.hold("host", DB, "run-2"),
        pytest.raises(Locked, match=f"database {DB} is held by"),
    ):
        bastion("bob@two").locks.hold("database", DB, "run-3").__enter__()
    assert held(lab, lab.db) is False


def test_a_database_whose_host_is_not_reached_is_locked_in_its_server(
    lab: Lab, bastion: Any
) -> None:
    shut = {"hosts": {DB: {"ssh": {"port": 1}}}}
    with bastion(**shut).locks.hold("database", DB, "run-1") as lock:
        assert "taken in the server, because lab-db (oncall@127.0.0.1:1)" in lock.taken()["how"]
        assert lock.lost() is None
        with pytest.raises(Locked, match=r"run-1 ada@one"):
            bastion("bob@two", **shut).locks.hold("database", DB, "run-2").__enter__()
    lab.configure_db(max_connections=5)
    with connections(lab, 2, "crowd"), bastion(**shut).locks.hold("database", DB, "run-3") as lock:
        assert lock.taken()["how"].endswith("no connection to it can be kept open")


def test_another_account_is_refused_and_cannot_steal(lab: Lab, bastion: Any) -> None:
    """Its file is root's, in a directory where the kernel minds who writes to others' files."""
    host = lab.apps[0]
    note = json.dumps({"who": "root@host", "run": "run-0", "since": "noon", "machine": host.name})
    take = shlex.join(lock_argv("host", note, None, ""))
    holder = f"mkfifo /tmp/stdin; exec 8<>/tmp/stdin; exec {take} <&8"
    lab.exec(host, ["systemd-run", "--unit=lab-holder", "sh", "-c", holder])
    until(lambda: lab.exec(host, ["test", "-e", FILE]).rc == 0 and held(lab, host), "root's lock")
    with pytest.raises(Locked, match="held by root@host: run run-0"):
        bastion().locks.hold("host", host.name, "run-1").__enter__()
    with pytest.raises(Locked, match="could not be stolen") as caught:
        bastion(steal=True).locks.hold("host", host.name, "run-1").__enter__()
    assert "sudo kill" in (caught.value.hint or "")
    lab.exec(host, ["systemctl", "stop", "lab-holder"])
    with bastion().locks.hold("host", host.name, "run-1") as lock:
        assert lock.taken()["how"] == "taken"


def test_a_holder_that_hangs_up_holds_nothing(lab: Lab, bastion: Any) -> None:
    host, first = lab.apps[0], bastion()
    lock = first.locks.hold("host", host.name, "run-1").__enter__()
    first.close()
    assert "could not be taken again: app-1: not asked any more" in (lock.lost() or "")
    until(lambda: not held(lab, host), "the lock's end")
    with bastion("bob@two").locks.hold("host", host.name, "run-2"):
        pass


def test_a_stolen_lock_is_lost_and_the_thief_is_named_what_he_took(lab: Lab, bastion: Any) -> None:
    host, first = lab.apps[0], bastion()
    thief = bastion("bob@two", steal=True)
    with (
        first.locks.hold("host", host.name, "run-1") as lock,
        thief.locks.hold("host", host.name, "run-2") as theirs,
    ):
        assert theirs.taken()["how"] == "stolen"
        assert "ada@one for P1: run run-1" in theirs.taken()["from"]
        assert theirs.lost() is None
        assert "taken over by bob@two for P1: run run-2" in (lock.lost() or "")
    # What it asks of the host is asked all the same: looks need no lock.
    assert first.ssh.perform(ReadCommand(host=host.name, argv=("true",))).ok


def test_a_silent_network_costs_the_lock_and_its_own_run_takes_it_back(
    lab: Lab, bastion: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runbook.adapters.target_locks._STILL_THERE_S", 0.5)
    host, first = lab.apps[0], bastion()
    lock = first.locks.hold("host", host.name, "run-1").__enter__()
    lab.cut_network(host)
    assert "could not be taken again" in (lock.lost() or "")
    first.close()
    lab.restore_network(host)
    again = bastion()
    with again.locks.hold("host", host.name, "run-1") as mine:
        assert mine.lost() is None


def test_the_lock_outlives_many_other_hosts_and_a_busy_connection(lab: Lab, bastion: Any) -> None:
    """The door closes the connections that idle longest; a held one does not idle."""
    one, *others = lab.apps
    more = {f"x{n}": lab.inventory()["hosts"][others[n % 2].name] for n in range(KEPT_CONNECTIONS)}
    first = bastion(hosts=more)
    with first.locks.hold("host", one.name, "run-1") as lock:
        for name in (*more, others[0].name, others[1].name):
            first.ssh.perform(ReadCommand(host=name, argv=("true",)))
        assert lock.lost() is None


def test_a_server_that_allows_one_channel_keeps_the_lock(lab: Lab, bastion: Any) -> None:
    host = lab.apps[0]
    lab.put(host, "/etc/ssh/sshd_config.d/00-one.conf", "MaxSessions 1\n")
    lab.exec(host, ["systemctl", "restart", "ssh"])
    lab.wait_ready(host)
    try:
        first = bastion()
        with first.locks.hold("host", host.name, "run-1") as lock:
            assert first.ssh.perform(ReadCommand(host=host.name, argv=("true",))).ok
            assert first.ssh.perform(ReadCommand(host=host.name, argv=("true",))).ok
            assert lock.lost() is None
        until(lambda: not held(lab, host), "the lock's end")
    finally:
        lab.exec(host, ["rm", "/etc/ssh/sshd_config.d/00-one.conf"])
        lab.exec(host, ["systemctl", "restart", "ssh"])


def test_a_host_that_is_away_cannot_be_locked(lab: Lab, bastion: Any) -> None:
    host = lab.apps[0]
    lab.stop_host(host)
    try:
        with pytest.raises(Unreachable):
            bastion().locks.hold("host", host.name, "run-1").__enter__()
    finally:
        lab.start_host(host)


def test_a_paused_run_that_wakes_up_changes_nothing_after_its_lock_was_stolen(
    lab: Lab, runbook: Command
) -> None:
    """It is stopped right before a restart, while its lock is taken, used and given back."""
    host = lab.apps[0]
    waits = "while [ -e /tmp/lab-wait ]; do sleep 0.1; done"
    drain = {"drain": ["sh", "-c", waits], "undrain": ["true"], "timeout": "60s"}
    runbook.declare_shop(drain={"command": drain})
    lab.exec(host, ["touch", "/tmp/lab-wait"])
    before = invocations(lab)
    running = runbook.start("remediate", DB, "--rolling-restart", "--yes")
    running.wait_for("> on app-1: sh -c")
    thief = Bastion(lab, "bob@two", steal=True)
    honest = Bastion(lab, "bob@two")
    with pytest.raises(Locked, match="run 20"):
        honest.locks.hold("host", host.name, "run-2").__enter__()
    honest.close()
    running.process.send_signal(signal.SIGSTOP)
    with thief.locks.hold("host", host.name, "run-2") as theirs:
        assert theirs.taken()["how"] == "stolen"
        lab.exec(host, ["rm", "/tmp/lab-wait"])
    thief.close()
    running.process.send_signal(signal.SIGCONT)
    ran = running.finish(1)
    assert invocations(lab) == before
    assert "is no longer ours: it was taken over, and given back, by somebody else" in ran.said
