"""Titles of a server's processes, and the answers of its host, as they may come."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.model.processes import ServerProcess
from runbook.model.server_look import LookFailed, read_look, read_title
from runbook.model.server_scripts import look_script, signal_script


@pytest.mark.parametrize(
    ("title", "told"),
    [
        # Measured on PostgreSQL 15 and 18.
        ("postgres: app shop 10.0.0.5(43210) idle", ("client", "app", "shop", "10.0.0.5", 43210)),
        ("postgres: app shop [local] idle", ("client", "app", "shop", None, None)),
        ("postgres: app shop ::1(5000) UPDATE waiting", ("client", "app", "shop", "::1", 5000)),
        ("postgres: app shop fe80::1%eth0(5) idle", ("client", "app", "shop", "fe80::1%eth0", 5)),
        (
            "postgres: app shop 10.0.0.5(1) authentication",
            ("logging_in", "app", "shop", "10.0.0.5", 1),
        ),
        ("postgres: app shop 10.0.0.5(1) startup", ("logging_in", "app", "shop", "10.0.0.5", 1)),
        ("postgres: app shop 10.0.0.5(1) ", ("client", "app", "shop", "10.0.0.5", 1)),
        ("/usr/lib/postgresql/15/bin/postgres", ("logging_in", None, None, None, None)),
        (
            "postgres: walsender rep 10.0.0.5(1) streaming 0/3",
            ("walsender", None, None, "10.0.0.5", 1),
        ),
        (
            "postgres: walsender rescue shop 10.0.0.5(1) idle",
            ("walsender", "rescue", "shop", "10.0.0.5", 1),
        ),
        ("postgres: checkpointer ", ("other", None, None, None, None)),
        ("postgres: autovacuum worker shop", ("other", None, None, None, None)),
        ("postgres: parallel worker for PID 77 ", ("other", None, None, None, None)),
        (
            "postgres: startup recovering 000000010000000000000003",
            ("other", None, None, None, None),
        ),
        ("postgres: dead-end client backend", ("other", None, None, None, None)),
        # What a role or a database may be called.
        ("postgres: a role shop [local] idle", ("client", None, None, None, None)),
        ("postgres: [local] shop 10.0.0.5(7) idle", ("client", "[local]", "shop", "10.0.0.5", 7)),
        ("postgres: x(1) y(2) 10.0.0.5(7) idle", ("client", "x(1)", "y(2)", "10.0.0.5", 7)),
        (
            "postgres: app\nidle shop 10.0.0.5(7) idle",
            ("client", "app\nidle", "shop", "10.0.0.5", 7),
        ),
    ],
)
def test_titles(title: str, told: tuple[Any, ...]) -> None:
    seen = read_title(title)
    assert (seen.kind, seen.role, seen.database, seen.addr, seen.port) == told


def answer(*titles: str, room: int = 500, clients: tuple[str, ...] = (), **more: Any) -> str:
    """What the script prints of a server with these processes, pids from 100 on."""
    pids = range(100, 100 + len(titles))
    stat = "(postgres) S 50" + " 0" * 17 + " {0} 0"
    lines = [
        f"look {more.get('user', 'postgres')} 100 100000",
        "at 2026-01-01T00:00:00Z",
        f"postmaster pidfile 50 (postgres) S{' 0' * 44} 1000 0 0 {1000 + room}",
        *(f"child {pid} {stat.format(90000)}" for pid in pids),
        *(f"/proc/{pid}/status:voluntary_ctxt_switches:\t7" for pid in pids),
        *(f"client {client}" for client in clients),
        "setting max_connections 40",
        f"setting update_process_title {more.get('kept', 'on')}",
        *more.get("control", ()),
        "titles",
    ]
    told = "".join(f"/proc/{pid}/cmdline\0{t}\0" for pid, t in zip(pids, titles, strict=True))
    return "\n".join(lines) + "\n" + told + "\0end of titles\0"


def told_of(*titles: str, **more: Any) -> tuple[ServerProcess, ...]:
    return read_look("db-01", 5432, answer(*titles, **more))[1].processes


def test_a_cluster_name_is_told_by_the_checkpointers_title() -> None:
    titles = ("postgres: a b: c: checkpointer ", "postgres: a b: c: app shop 10.0.0.5(1) idle")
    assert told_of(*titles)[1].role == "app"


def test_a_title_that_fills_its_room_tells_no_state() -> None:
    """`idle` may be what is left of `idle in transaction`."""
    title = "postgres: app shop 10.0.0.5(1) idle"
    assert told_of(title, room=len(title) + 1)[0].state == ""
    assert told_of(title, room=len(title) + 10)[0].state == "idle"


def test_silence_and_bytes_are_found_by_the_clients_address() -> None:
    titles = (
        "postgres: a b 10.0.0.5(1) idle",
        "postgres: a b ::1(2) idle",
        "postgres: a b [local] idle",
    )
    clients = ("10.0.0.5:1 1500 230", "[::1]:2 20 -")
    first, second, third = told_of(*titles, clients=clients)
    assert (first.silent_s, first.state_change) == (1.5, "received 230")
    assert (second.silent_s, second.state_change) == (0.02, "switches 7")
    assert (third.silent_s, third.state_change) == (None, "switches 7")
    assert first.age_s == 100.0


def test_titles_that_need_not_be_kept_up_tell_no_state() -> None:
    title = "postgres: app shop 10.0.0.5(1) UPDATE waiting"
    (kept,) = told_of(title)
    (stale,) = told_of(title, kept="off")
    assert (kept.state, kept.waiting, stale.state, stale.waiting) == ("active", True, "", False)
    text = answer(title).replace("setting update_process_title on\n", "")
    _, unknown = read_look("db-01", 5432, text)
    assert unknown.processes[0].state == ""
    assert any("update_process_title is on cannot be read" in line for line in unknown.unseen)


@pytest.mark.parametrize(
    "odd", ["*:* - -", "", "10.0.0.5:x - -", "10.0.0.5:7 soon -", "10.0.0.5:\u0661 1 1"]
)
def test_an_odd_line_of_ss_is_no_reason_to_give_up(odd: str) -> None:
    (only,) = told_of("postgres: a b 10.0.0.5(1) idle", clients=(odd, "10.0.0.5:1 1500 230"))
    assert only.state_change == "received 230"


@pytest.mark.parametrize(
    ("state", "slots", "said"),
    [
        ("in production", "20", "a change of max_connections waits for a restart"),
        ("in archive recovery", "40", "pg_controldata does not tell"),
        ("shut down", "40", "pg_controldata does not tell"),
    ],
)
def test_a_servers_own_start_outweighs_its_files(state: str, slots: str, said: str) -> None:
    """A standby's pg_control has its primary's values."""
    control = (f"control state {state}", "control max_connections 20")
    _, told = read_look("db-01", 5432, answer("postgres: a b [local] idle", control=control))
    assert told.settings["max_connections"] == slots
    assert any(said in line for line in told.unseen)


def test_servers_that_cannot_be_told_apart_are_none() -> None:
    with pytest.raises(LookFailed, match="2 servers on port 5432") as caught:
        read_look("db-01", 5432, "look a 100 1\nat x\nrivals 2\n")
    assert "local.socket_dir" in caught.value.hint


def test_who_ended_between_two_looks_is_gone() -> None:
    text = answer("postgres: a b [local] idle", "postgres: a b [local] idle")
    text = text.replace("/proc/101/cmdline", "/proc/999/cmdline")
    assert [p.pid for p in read_look("db-01", 5432, text)[1].processes] == [100]


def test_an_answer_that_was_cut_off_is_none() -> None:
    text = answer("postgres: a b [local] idle").removesuffix("titles\0")
    with pytest.raises(LookFailed, match="to the end"):
        read_look("db-01", 5432, text + "\n[12 more bytes were cut off]")


def test_a_title_cannot_pass_for_another_part_of_the_answer() -> None:
    evil = "postgres: x\nsetting max_connections 1\ntitles\n shop 10.0.0.5(7) idle"
    _, processes = read_look("db-01", 5432, answer(evil))
    assert processes.settings == {"max_connections": "40", "update_process_title": "on"}
    assert len(processes.processes) == 1


def test_words_reach_the_shell_quoted() -> None:
    assert "lock='/tmp/$(id)/.s.PGSQL.1.lock'" in look_script(1, "/tmp/$(id)", "a")
    assert "owner=$(id -u 'a;b' " in look_script(1, "/tmp", "a;b")
    assert "socket_dir=/@LOCK@@END@ " in look_script(1, "/@LOCK@@END@", "a")
    with pytest.raises(ValueError, match="cannot be signalled"):
        signal_script(1, "/tmp", "a", [(1, 1, "received", 1, "active")])
