"""Getting in: with every slot taken, each rung in turn diagnoses, terminates and heals."""

from __future__ import annotations

import socket
import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from .command import Command, sessions, wait_settled
from .lab import DB, Lab, password, until

if TYPE_CHECKING:
    from collections.abc import Iterator

ORDINARY, RESERVED = 37, 3
LOCAL = {"os_user": "postgres", "socket_dir": "/var/run/postgresql", "port": 5432}
#: On the last rung a session is told by its address and its role, not by its name.
BY_ADDRESS = {"shop": {"application_name": None, "role": "shop"}}
TERMINATE = ("remediate", DB, "--terminate-idle", "--yes", "--format", "json", "-p", "watch=0s")
SHELL_RULE = "oncall ALL=(postgres) NOPASSWD: /bin/sh"


@contextmanager
def superusers(lab: Lab, count: int) -> Iterator[None]:
    """Hold slots as a superuser over the server's socket."""
    hold = ["docker", "exec", "-u", "postgres", lab.db.container, "psql", "-X", "-c"]
    held = [
        subprocess.Popen(
            [*hold, "SELECT pg_sleep(90)"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(count)
    ]
    try:
        until(lambda: processes(lab, "SELECT") == count, f"{count} superusers' sessions")
        yield
    finally:
        for process in held:
            process.kill()


def processes(lab: Lab, activity: str) -> int:
    """How many of the server's processes have a title that ends so."""
    told = lab.exec(lab.db, ["ps", "-u", "postgres", "-o", "args="]).stdout.splitlines()
    return sum(line.rstrip().endswith(activity) for line in told if line.startswith("postgres: "))


@contextmanager
def walsenders(lab: Lab, count: int) -> Iterator[None]:
    """Hold walsenders' slots, as standbys do."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(
                psycopg.connect(
                    host="127.0.0.1",
                    port=lab.db.pg_port,
                    dbname="shop",
                    user="oncall_rescue",
                    password=password("oncall_rescue"),
                    replication="database",
                    autocommit=True,
                )
            )
        yield


def leak_all(lab: Lab) -> None:
    """Let the shop on app-1 take every ordinary slot, and grow old enough to be judged."""
    count = ORDINARY - len(sessions(lab))
    lab.leak(lab.apps[0], count)
    wait_settled(lab, "shop-app-1", count)


def declare(runbook: Command, *rungs: str, **more: Any) -> None:
    """Declare these rungs beyond `connect`, and no other."""
    secret = {"env": "DBA_PASSWORD"}
    runbook.env["DBA_PASSWORD"] = password("lab_dba")
    known: dict[str, Any] = {
        "admin": {"user": "lab_dba", "password": secret},
        "local": LOCAL,
        "rescue": {},
    }
    database = {rung: known[rung] if rung in rungs else None for rung in known}
    runbook.declare(databases={DB: database}, **more)


@pytest.fixture
def dba(lab: Lab) -> str:
    """A superuser who logs in over the network."""
    lab.psql(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'lab_dba') THEN"
        f" CREATE ROLE lab_dba SUPERUSER LOGIN PASSWORD '{password('lab_dba')}'; END IF; END $$"
    )
    return "lab_dba"


def heal(runbook: Command, rung: str) -> Any:
    """Diagnose and terminate by one rung, and return what the termination told."""
    diagnosis = runbook.diagnose()
    assert diagnosis["server"]["rung"] == rung
    assert diagnosis["finding"]["cause"] == "leaked-sessions"
    assert diagnosis["finding"]["owners"][0]["service"] == "shop"
    ran = runbook(*TERMINATE).json()
    (look,) = ran["looks"].values()
    assert look["data"]["rung"] == rung
    return ran["steps"][0]["targets"][DB]["data"]


def test_the_ordinary_role_with_a_slot_left(lab: Lab, runbook: Command) -> None:
    lab.leak(lab.apps[0], 30)
    wait_settled(lab, "shop-app-1", 30)
    declare(runbook)
    assert heal(runbook, "connect")["headroom_reached"] is True


@pytest.mark.parametrize("rung", ["admin", "local"])
def test_a_superusers_slot(lab: Lab, runbook: Command, dba: str, rung: str) -> None:
    del dba
    leak_all(lab)
    declare(runbook, rung)
    told = heal(runbook, rung)
    assert told["headroom_reached"] is True
    assert len(sessions(lab)) == told["after"]["used"] <= ORDINARY * 8 // 10


def test_the_walsenders_slot_with_every_other_one_taken(lab: Lab, runbook: Command) -> None:
    leak_all(lab)
    with superusers(lab, RESERVED):
        declare(runbook, "local", "rescue")
        told = heal(runbook, "rescue")
    assert told["headroom_reached"] is True


def test_the_host_alone_with_every_slot_taken(lab: Lab, runbook: Command) -> None:
    leak_all(lab)
    with superusers(lab, RESERVED), walsenders(lab, 10):
        declare(runbook, "local", "rescue")
        refusals = runbook.diagnose()["server"]["refusals"]
        assert [line.split(":")[0] for line in refusals] == ["connect", "local", "rescue"]
        assert "max_wal_senders" in refusals[2]
        told = heal(runbook, "os")
        assert told["headroom_reached"] is True, told
        assert "operating system alone" in told["blind"]
    assert len(told["terminated"]) == ORDINARY - told["after"]["used"]
    # By SQL again, the same sessions are where the termination says that they are.
    live = {int(key.split()[0]) for key in sessions(lab)}
    assert not live & set(told["terminated"])


def test_without_sudo_the_host_is_read_and_nothing_signalled(lab: Lab, runbook: Command) -> None:
    leak_all(lab)
    lab.sudoers(lab.db)
    declare(runbook, "local", services=BY_ADDRESS)
    with superusers(lab, RESERVED):
        diagnosis = runbook.diagnose()
        assert diagnosis["server"]["rung"] == "os"
        assert diagnosis["slots"]["used"] == ORDINARY
        refused = runbook(*TERMINATE[:4], code=3).said
        assert "oncall ALL=(postgres) NOPASSWD: /bin/sh" in refused
    assert processes(lab, " idle") == ORDINARY


def test_without_psql_by_sudo_the_next_rung_is_climbed(lab: Lab, runbook: Command) -> None:
    leak_all(lab)
    lab.sudoers(lab.db, SHELL_RULE)
    declare(runbook, "local", services=BY_ADDRESS)
    diagnosis = runbook.diagnose()
    assert diagnosis["server"]["rung"] == "os"
    assert any("NOPASSWD: /usr/bin/psql" in line for line in diagnosis["server"]["refusals"])


def test_a_host_that_hangs_does_not_hold_us(lab: Lab, runbook: Command) -> None:
    leak_all(lab)
    declare(runbook, "local")
    with superusers(lab, RESERVED):
        lab.exec(lab.db, ["systemctl", "kill", "-s", "STOP", "ssh.service"])
        try:
            said = runbook("diagnose", DB, code=1).said
        finally:
            lab.exec(lab.db, ["systemctl", "kill", "-s", "CONT", "ssh.service"])
    assert "has no connection slot left" in said
    assert "os: lab-db" in said


def test_half_open_logins_are_seen_by_the_host(lab: Lab, runbook: Command) -> None:
    """Everybody is refused, and pg_stat_activity would show nobody."""
    declare(runbook, "local")
    with ExitStack() as stack:
        # Twice what the server has backends for: then it takes nobody any more.
        for _ in range(130):
            stack.enter_context(socket.create_connection(("127.0.0.1", lab.db.pg_port)))
        until(lambda: refused(lab), "a server that refuses everybody")
        diagnosis = runbook.diagnose()
    assert diagnosis["server"]["rung"] == "os"
    assert {count["name"] for count in diagnosis["by_state"]} >= {"starting"}


def refused(lab: Lab) -> bool:
    """Whether not even a superuser is let in."""
    done = lab.exec(lab.db, ["psql", "-X", "-c", "SELECT 1"], user="postgres")
    return "too many clients" in done.stderr
