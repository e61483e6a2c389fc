"""Logins that never end: seen by PostgreSQL 18, by their locks, by the host, or by arithmetic."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from runbook.model.processes import ServerProcess, ServerProcesses
from unit.findings.world import JUDGE, fleet, hidden, look, many, session, snapshot
from unit.postgres_server import HOST, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.model.sessions import Snapshot
    from unit.postgres_server import Server

SORRY = "sorry, too many clients already"


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    with running(max_connections=14) as started:
        yield started


@contextmanager
def knocking(server: Server, count: int, *, startup: bool) -> Iterator[None]:
    """Hold raw sockets that say who they are and no password, or that say nothing at all."""
    words = b"user\0app\0database\0shop\0\0"
    packet = struct.pack("!II", len(words) + 8, 196608) + words
    with ExitStack() as held:
        for _ in range(count):
            door = held.enter_context(socket.create_connection((HOST, server.port)))
            if startup:
                door.sendall(packet)
        yield
    _wait_gone(server)


def _wait_gone(server: Server) -> None:
    for _ in range(300):
        try:
            if server.admin("SELECT count(*) FROM pg_stat_activity WHERE state = 'starting'") == [
                (0,)
            ]:
                return
        except psycopg.OperationalError:
            pass
        time.sleep(0.02)
    raise AssertionError("stalled logins are still there")


def processes(count: int, age_s: float = 30.0, address: str | None = None) -> ServerProcesses:
    return ServerProcesses(
        host="db-01",
        settings={},
        version="15.18",
        at="2026-01-01T02:17:00Z",
        processes=tuple(
            ServerProcess(
                pid=5000 + n,
                kind="logging_in",
                role=None,
                database=None,
                client_addr=address,
                client_port=None,
                state="",
                waiting=False,
                age_s=age_s,
                start_ticks=n,
                switches=1,
                title="postgres: authentication",
            )
            for n in range(count)
        ),
    )


def seen(*refusals: tuple[str, str], held: int = 10, **given: Any) -> Snapshot:
    return snapshot(many(held), refusals=refusals, **given)


def test_the_server_lists_them_from_18_on(small: Server) -> None:
    with small.connect("oncall") as reader, knocking(small, 9, startup=True):
        for _ in range(200):
            rows = reader.execute(
                "SELECT count(*) FILTER (WHERE now() - backend_start > interval '1.1 s')"
                " FROM pg_stat_activity WHERE state = 'starting'"
            ).fetchone()
            if rows == (9,):
                break
            time.sleep(0.02)
        diagnosis = JUDGE.diagnose(look(small), fleet())
    finding = diagnosis.finding
    assert (finding.cause, finding.confidence) == ("stalled-logins", "certain")
    assert finding.title.startswith("9 logins have begun and not ended")
    assert "9 from 127.0.0.1" in finding.evidence
    assert finding.owners[0].client_addr == "127.0.0.1"
    assert ("starting", 9) in [(count.name, count.sessions) for count in diagnosis.by_state]


def test_silent_sockets_keep_even_superusers_out_and_the_list_is_short(small: Server) -> None:
    text = ""
    with small.connect("postgres") as inside, knocking(small, 60, startup=False):
        for _ in range(200):
            try:
                small.connect("postgres").close()
            except psycopg.OperationalError as error:
                text = str(error)
                break
        listed = inside.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        ).fetchone()
    assert SORRY in text
    assert listed == (1,)
    # What such a list and two shut doors make of it:
    found = JUDGE.diagnose(
        snapshot(
            many(1),
            limits={"max_connections": 14, "superuser_reserved": 2},
            refusals=(("connect", text), ("admin", text)),
        ),
        fleet(),
    ).finding
    assert (found.cause, found.confidence) == ("stalled-logins", "likely")
    assert "13 slots are taken by nobody who is seen" in found.title


def test_the_host_shows_them() -> None:
    seen_by_host = seen(("connect", SORRY), processes=processes(60))
    finding = JUDGE.diagnose(seen_by_host, fleet()).finding
    assert (finding.cause, finding.confidence) == ("stalled-logins", "certain")
    assert finding.because == "the processes of db-01 show them"
    assert any("60 have not said who they are" in line for line in finding.evidence)
    assert finding.command is not None
    assert finding.command.startswith("ssh 10.0.0.5 ")
    assert ":5432" in finding.command


def test_their_owner_is_the_service_of_the_address() -> None:
    told = seen(processes=processes(40, address="10.0.1.2"))
    owner = JUDGE.diagnose(told, fleet()).finding.owners[0]
    assert (owner.service, owner.host, owner.concerned) == ("shop", "web-02", 40)


def test_logins_of_a_moment_are_no_finding() -> None:
    diagnosis = JUDGE.diagnose(seen(processes=processes(40, age_s=0.2)), fleet())
    assert diagnosis.healthy
    assert diagnosis.also == ()


def test_before_18_their_locks_give_them_away() -> None:
    logins = [{"pid": 90_000 + n} for n in range(30)]
    finding = JUDGE.diagnose(seen(("connect", SORRY), extra={"logins": logins}), fleet()).finding
    assert (finding.cause, finding.confidence) == ("stalled-logins", "strong")
    assert finding.title.startswith("30 logins have begun")


def test_a_session_that_is_listed_is_no_login() -> None:
    listed = many(30)
    told = snapshot(listed, extra={"logins": [{"pid": s.pid} for s in listed]})
    assert JUDGE.diagnose(told, fleet({})).healthy


def test_one_shut_door_is_a_hint_only() -> None:
    diagnosis = JUDGE.diagnose(seen(("connect", SORRY)), fleet())
    assert diagnosis.healthy
    assert [(f.cause, f.confidence) for f in diagnosis.runners_up] == [("stalled-logins", "weak")]


def test_two_shut_doors_make_it_likely() -> None:
    diagnosis = JUDGE.diagnose(seen(("connect", SORRY), ("admin", SORRY)), fleet())
    assert diagnosis.finding.cause == "stalled-logins"
    assert "90 slots are taken by nobody who is seen: 10 sessions are in" in diagnosis.finding.title


def test_processes_without_logins_disprove_what_the_arithmetic_says() -> None:
    """A max_connections that is not what runs, say: the host shows everybody there is."""
    shut = (("connect", SORRY), ("admin", SORRY))
    diagnosis = JUDGE.diagnose(seen(*shut, processes=processes(0)), fleet())
    said = (diagnosis.finding, *diagnosis.also, *diagnosis.runners_up)
    assert "stalled-logins" not in [finding.cause for finding in said]


@pytest.mark.parametrize(
    "text",
    ["FATAL: désolé, trop de clients sont déjà connectés", "现在: 对不起, 已经有太多的客户"],
)
def test_a_server_that_speaks_another_language_is_understood(text: str) -> None:
    diagnosis = JUDGE.diagnose(seen(("connect", text), ("admin", text)), fleet())
    assert diagnosis.finding.cause == "stalled-logins"


def test_shut_doors_of_a_full_list_are_what_they_seem() -> None:
    full = snapshot(
        [*many(88), *many(9, role="cron", application_name="cron"), *many(3, superuser=True)],
        refusals=(("connect", SORRY), ("admin", SORRY)),
    )
    diagnosis = JUDGE.diagnose(full, fleet())
    said = (diagnosis.finding, *diagnosis.also, *diagnosis.runners_up)
    assert "stalled-logins" not in [finding.cause for finding in said]


@pytest.mark.parametrize(
    "text",
    [
        "remaining connection slots are reserved for roles with the SUPERUSER attribute",
        "remaining connection slots are reserved for non-replication superuser connections",
        'slots are reserved for roles with privileges of the "pg_use_reserved_connections" role',
    ],
)
def test_a_reserve_that_is_left_is_not_taken_for_missing(text: str) -> None:
    """At 97 of 100 the ordinary slots are gone, and the list accounts for all of them."""
    told = snapshot(many(97), refusals=(("connect", text), ("admin", text)))
    diagnosis = JUDGE.diagnose(told, fleet())
    assert diagnosis.finding.cause == "leaked-sessions"
    assert diagnosis.runners_up == ()


def test_hidden_sessions_count_as_seen() -> None:
    told = snapshot(hidden(97), refusals=(("connect", SORRY), ("admin", SORRY)))
    assert JUDGE.diagnose(told, fleet()).finding.cause != "stalled-logins"


def test_restless_sessions_speak_for_churn() -> None:
    young = many(30, state="active", age_s=0.3, query_age_s=0.1)
    told = snapshot(young, refusals=(("connect", SORRY), ("admin", SORRY)))
    diagnosis = JUDGE.diagnose(told, fleet({}))
    assert diagnosis.finding.cause != "stalled-logins"
    assert "stalled-logins" in [f.cause for f in diagnosis.runners_up]


def test_a_leak_is_not_hidden_by_some_logins() -> None:
    logins = [{"pid": 90_000 + n} for n in range(22)]
    told = snapshot(many(75), refusals=(("connect", SORRY),), extra={"logins": logins})
    diagnosis = JUDGE.diagnose(told, fleet())
    assert [diagnosis.finding.cause, *(f.cause for f in diagnosis.also)] == [
        "leaked-sessions",
        "stalled-logins",
    ]


def test_a_parallel_worker_holds_no_slot() -> None:
    leader = session(state="active", query_age_s=1.0)
    workers = [
        session(state="active", backend_type="parallel worker", leader_pid=leader.pid)
        for _ in range(97)
    ]
    diagnosis = JUDGE.diagnose(snapshot([leader, *workers]), fleet())
    assert diagnosis.healthy
    assert diagnosis.slots.used == 1
