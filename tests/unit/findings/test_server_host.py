"""The server's host is asked for its processes when shut doors do not fit what is seen."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from runbook.findings import server_host
from runbook.findings.view import View
from runbook.model.effects import CommandOutcome, ReadCommand
from runbook.model.errors import Unreachable
from unit.findings.test_stalled_logins import SORRY, knocking, seen
from unit.findings.world import HOSTS, JUDGE, fleet, heard, many, snapshot
from unit.postgres_server import Server, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.model.fleet import Fleet
    from runbook.model.sessions import Snapshot

SHUT = (("connect", SORRY), ("admin", SORRY))


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    with running(max_connections=14) as started:
        yield started


def local(port: int = 5432) -> Fleet:
    door = {"connect": {"host": "10.0.0.5", "user": "oncall"}, "host": "db-01"}
    databases = {"db": {**door, "local": {"os_user": "nobody", "port": port}}}
    return fleet(databases=databases)


def looks(told: Snapshot, inventory: Fleet) -> tuple[object, ...]:
    return server_host.looks(View(snapshot=told, fleet=inventory))


def test_the_real_processes_tell_silent_sockets(small: Server) -> None:
    told = snapshot(many(1), refusals=SHUT, limits={"max_connections": 14, "superuser_reserved": 2})
    (look,) = looks(told, local(small.port))
    assert isinstance(look, ReadCommand)
    assert look.host == "db-01"
    with knocking(small, 40, startup=False):
        subprocess.run(["sleep", "1.2"], check=True)  # a login of a moment is none that stalls
        done = subprocess.run(
            ["sh", "-s"], input=look.stdin, capture_output=True, text=True, check=False
        )
    answer = CommandOutcome(
        exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr, seconds=0.1
    )
    finding = JUDGE.diagnose(server_host.take(told, heard(answer)), local()).finding
    assert (finding.cause, finding.confidence) == ("stalled-logins", "certain")
    assert finding.title.startswith("40 logins have begun and not ended")
    assert finding.because == "the processes of db-01 show them"


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (seen(), "no door was shut"),
        (snapshot(many(97), refusals=SHUT), "the list accounts for them"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_list_that_accounts_for_it_asks_nobody(told: Snapshot, why: str) -> None:
    assert looks(told, local()) == (), why


def test_the_servers_own_user_is_asked_for() -> None:
    (look,) = looks(snapshot(many(3), refusals=SHUT), local())
    assert isinstance(look, ReadCommand)
    assert "id -u nobody" in look.stdin


def test_without_a_host_or_its_local_door_nobody_is_asked() -> None:
    told = snapshot(many(3), refusals=SHUT)
    assert looks(told, local()) != ()
    assert looks(told, fleet()) == ()
    assert looks(told, fleet(hosts={"web-01": HOSTS["web-01"]})) == ()


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (Unreachable("db-01: no connection", hint="look at its network"), "look at its network"),
        (CommandOutcome(exit_code=0, stdout="", stderr="", seconds=0.1), "to the end: nothing"),
        (
            CommandOutcome(
                exit_code=0, stdout="asked 5433 db-01\nnone 2 5432\n", stderr="", seconds=0.1
            ),
            "db-01 has no server that can be told to listen on port 5433",
        ),
    ],
    ids=["unreachable", "nothing", "another port"],
)
def test_a_host_that_tells_nothing_is_said(outcome: object, says: str) -> None:
    told = server_host.take(snapshot(many(3), refusals=SHUT), heard(outcome))
    diagnosis = JUDGE.diagnose(told, local())
    assert diagnosis.finding.cause == "stalled-logins"
    assert any(
        line.startswith("the processes of the server's host were not told") and says in line
        for line in diagnosis.unseen
    )
