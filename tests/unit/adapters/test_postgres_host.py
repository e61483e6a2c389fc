"""The last rung on real processes: which server is looked at, what it tells, who is signalled."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runbook.adapters.local_command import LocalDoor
from runbook.adapters.postgres_host import ServerHost
from runbook.model.effects import ChangeCommand, CommandOutcome, ReadCommand
from runbook.model.errors import CommandFailed, ConnectionLost, MissingGrant
from runbook.model.fleet import Fleet
from runbook.model.inventory import Host
from runbook.model.os_user import script_as_os_user
from runbook.model.sessions import SessionId
from unit.postgres_server import Server, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runbook.model.processes import ServerProcess, ServerProcesses

HERTZ = os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as started:
        yield started


class Bent:
    """The real local door, with a word changed in the script, or in its answer."""

    def __init__(self, fleet: Fleet) -> None:
        self._door = LocalDoor(fleet, rehearsal=False)
        self.script: Callable[[str], str] = lambda script: script
        self.answer: Callable[[CommandOutcome], CommandOutcome] = lambda outcome: outcome

    def perform(self, effect: Any) -> Any:
        outcome = self._door.perform(replace(effect, stdin=self.script(effect.stdin)))
        assert isinstance(outcome, CommandOutcome)
        return self.answer(outcome) if isinstance(effect, ChangeCommand) else outcome

    def close(self) -> None:
        self._door.close()


def host_of(server: Server, **local: Any) -> tuple[ServerHost, Bent]:
    given = {"os_user": server.os_user, "socket_dir": "/nowhere", "port": server.port, **local}
    inventory = server.fleet(host="db-01", local=given).inventory
    fleet = Fleet(inventory.model_copy(update={"hosts": {"db-01": Host(connection="local")}}))
    door, declared = Bent(fleet), fleet.database("db").local
    assert declared is not None
    return ServerHost(door, fleet.host("db-01"), declared, "db"), door


def seen(host: ServerHost, pid: int) -> ServerProcess:
    (found,) = [process for process in host.look().processes if process.pid == pid]
    return found


def id_of(process: ServerProcess, **given: str) -> SessionId:
    said = {
        "backend_start": process.backend_start,
        "state_change": process.state_change,
        "state": process.state,
        **given,
    }
    return SessionId(pid=process.pid, **said)


def alter(server: Server, name: str, value: str) -> None:
    """Set and reload; returns when a session reads it so."""
    with server.connect("postgres") as connection:
        connection.execute(f"ALTER SYSTEM SET {name} = {value}".encode())
        connection.execute(b"SELECT pg_reload_conf()")
        shown = None
        while shown != (value,):
            shown = connection.execute(f"SHOW {name}".encode()).fetchone()


# ---- titles that are not kept up -----------------------------------------------------------


@pytest.fixture
def frozen(server: Server) -> Iterator[Server]:
    try:
        yield server
    finally:
        alter(server, "update_process_title", "on")


def test_titles_that_are_not_kept_up_tell_no_state(frozen: Server) -> None:
    host, _ = host_of(frozen)
    with frozen.crowd(1) as (idle,):
        pid = idle.info.backend_pid
        assert seen(host, pid).state == "idle"
        alter(frozen, "update_process_title", "off")
        told = host.look()
        assert {p.state for p in told.processes if p.kind == "client"} == {""}
        assert any("update_process_title is off" in line for line in told.unseen)


def test_who_works_under_the_title_idle_is_not_signalled(frozen: Server) -> None:
    """Titles are turned off after the look: the script finds it out before it signals."""
    host, _ = host_of(frozen)
    with frozen.crowd(1) as (worker,), frozen.connect("postgres") as admin:
        pid = worker.info.backend_pid
        alter(frozen, "update_process_title", "off")
        worker.execute(b"SELECT 1")  # by then it has read the setting
        query = worker.pgconn
        query.send_query(b"SELECT pg_sleep(30)")
        title = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")
        assert title.endswith(" idle")
        process = seen(host, pid)
        as_shown = id_of(process, state="idle")
        with pytest.raises(CommandFailed, match="update_process_title is off") as caught:
            host.signal([as_shown])
        assert not isinstance(caught.value, ConnectionLost)
        assert admin.execute(
            b"SELECT state FROM pg_stat_activity WHERE pid = %s" % str(pid).encode()
        ).fetchone() == ("active",)
        admin.execute(b"SELECT pg_cancel_backend(%s)" % str(pid).encode())
        while query.get_result() is not None:
            pass


# ---- which server --------------------------------------------------------------------------


@contextmanager
def folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="runbook-socket-") as name:
        Path(name).chmod(0o777)
        yield name


@contextmanager
def two_on_one_port() -> Iterator[tuple[Server, str, Server, str]]:
    """Two clusters on one port, at two addresses, each with a socket's folder of its own."""
    with (
        folder() as one,
        folder() as two,
        running(unix_socket_directories=one) as first,
        _beside(first.port, two) as second,
    ):
        yield first, one, second, two


@contextmanager
def _beside(port: int, socket_dir: str) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unit.postgres_server.HOST", "::1")
        patch.setattr("unit.postgres_server._free_port", lambda: port)
        with running(unix_socket_directories=socket_dir) as started:
            yield started


def postmasters(told: ServerProcesses) -> set[int]:
    """The parents of what was told."""
    stats = [Path(f"/proc/{p.pid}/stat").read_text() for p in told.processes]
    return {int(stat.rpartition(") ")[2].split()[1]) for stat in stats}


def postmaster(server: Server) -> int:
    return int((server.log.parent / "data" / "postmaster.pid").read_text().split("\n")[0])


def test_of_two_servers_on_one_port_the_declared_folder_tells_which() -> None:
    with two_on_one_port() as (first, one, second, two):
        for server, declared in ((first, one), (second, two)):
            host, _ = host_of(server, socket_dir=declared)
            assert postmasters(host.look()) == {postmaster(server)}
        host, _ = host_of(first)
        with pytest.raises(CommandFailed, match=f"2 servers on port {first.port}") as caught:
            host.look()
        assert "databases.db.local.socket_dir" in (caught.value.hint or "")
        with (
            first.crowd(1, host="127.0.0.1") as (here,),
            second.crowd(1, host="::1") as (there,),
        ):
            ids = [
                id_of(seen(host_of(server, socket_dir=declared)[0], connection.info.backend_pid))
                for server, declared, connection in ((first, one, here), (second, two, there))
            ]
            assert host.signal(ids) == ()
        Path(one, f".s.PGSQL.{first.port}.lock").unlink()  # postmaster.pid names its folder, too
        assert postmasters(host_of(first, socket_dir=one)[0].look()) == {postmaster(first)}


_DECOY = """
import ctypes, os, sys, time
ctypes.CDLL(None).prctl(15, b"postgres", 0, 0, 0)
if os.fork() == 0:
    ctypes.CDLL(None).prctl(15, b"postgres", 0, 0, 0)
os.write(1, b"up\\n")
time.sleep(60)
"""


@contextmanager
def decoy(port: int, user: str | None) -> Iterator[int]:
    """A process called `postgres` with a child, and the port in its arguments."""
    process = subprocess.Popen(
        ["/usr/bin/python3", "-c", _DECOY, "-p", str(port)],
        stdout=subprocess.PIPE,
        user=user,
        start_new_session=True,
        cwd="/",
    )
    assert process.stdout is not None
    try:
        assert [process.stdout.readline() for _ in range(2)] == [b"up\n"] * 2
        yield process.pid
    finally:
        os.killpg(process.pid, 9)
        process.wait()
        process.stdout.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to run as somebody else")
def test_a_strangers_process_cannot_pass_for_the_server(server: Server) -> None:
    with decoy(server.port, "daemon") as pid, folder() as anybodys:
        lock = Path(anybodys, f".s.PGSQL.{server.port}.lock")
        lock.write_text(f"{pid}\n")
        lock.chmod(0o644)
        for declared in ("/nowhere", anybodys):
            host, _ = host_of(server, socket_dir=declared)
            assert postmasters(host.look()) == {postmaster(server)}
    free = server.port - 1
    with decoy(free, "daemon"):
        host, _ = host_of(server, port=free)
        with pytest.raises(CommandFailed, match=f"told to listen on port {free}"):
            host.look()


def test_the_best_proof_decides_and_not_the_last(server: Server) -> None:
    """Another process of the server's own user names its port too."""
    user = server.os_user if os.geteuid() == 0 else None
    with decoy(server.port, user) as pid:
        host, _ = host_of(server)
        assert pid not in postmasters(host.look())
        assert postmasters(host.look()) == {postmaster(server)}


# ---- signals -------------------------------------------------------------------------------


def bend_kill(body: str) -> Callable[[str], str]:
    """Put a `kill` of our own in the place of the shell's."""
    return lambda script: f"kill() {{ {body}; }}\n{script}"


GOES = 'command kill "$@"; while [ -d "/proc/$2" ]; do sleep 0.01; done; return 1'


def test_who_ends_before_the_signal_is_gone_and_was_not_denied(server: Server) -> None:
    host, door = host_of(server)
    with server.crowd(3) as crowd:
        pids = [connection.info.backend_pid for connection in crowd]
        told = [id_of(seen(host, pid)) for pid in pids]
        door.script = bend_kill(f'if [ "$2" = {pids[1]} ]; then {GOES}; fi; command kill "$@"')
        assert host.signal([told[1]]) == ()
        assert host.signal(told) == (pids[0], pids[2])


def test_a_batch_that_is_denied_in_part_tells_the_part(server: Server) -> None:
    host, door = host_of(server)
    with server.crowd(2) as crowd:
        pids = [connection.info.backend_pid for connection in crowd]
        told = [id_of(seen(host, pid)) for pid in pids]
        door.script = bend_kill(f'[ "$2" = {pids[1]} ] && command kill "$@"')
        assert host.signal(told) == (pids[1],)
        assert crowd[0].execute(b"SELECT 1").fetchone() == (1,)
        again = [id_of(seen(host, pids[0]))]
        with pytest.raises(MissingGrant, match=f"may not signal {pids[0]}$"):
            host.signal(again)


def test_a_script_that_does_not_end_leaves_doubt(server: Server) -> None:
    host, door = host_of(server)
    with server.crowd(2) as crowd:
        told = [id_of(seen(host, connection.info.backend_pid)) for connection in crowd]
        door.script = bend_kill('command kill "$@"; command kill -KILL $$')
        with pytest.raises(ConnectionLost, match="did not come to its end"):
            host.signal(told)
        assert crowd[1].execute(b"SELECT 1").fetchone() == (1,)


def test_an_answer_of_nothing_leaves_doubt_unless_sudo_refused(server: Server) -> None:
    host, door = host_of(server)
    session = SessionId(pid=1, backend_start="ticks 1", state_change="switches 1", state="idle")
    door.answer = lambda outcome: replace(outcome, stdout="", stderr="", exit_code=-1)
    with pytest.raises(ConnectionLost):
        host.signal([session])
    door.answer = lambda outcome: replace(outcome, stdout="", stderr="sudo: a password is required")
    with pytest.raises(MissingGrant, match="a password is required"):
        host.signal([session])


def test_a_script_that_takes_too_long_is_told_by_its_first_line(server: Server) -> None:
    _, door = host_of(server)
    for or_plainly in (True, False):
        argv = script_as_os_user(server.os_user, or_plainly=or_plainly)
        slow = ReadCommand(host="db-01", argv=argv, stdin="sleep 3", timeout_s=0.2)
        with pytest.raises(CommandFailed, match="did not end within") as caught:
            door.perform(slow)
        assert caught.value.message.startswith("db-01: env LC_ALL=C sh -c 'case $(id -un) in …")
        assert "\n" not in caught.value.message


# ---- what the server runs with -------------------------------------------------------------


def test_a_change_that_waits_for_a_restart_is_not_taken_for_what_runs(server: Server) -> None:
    host, door = host_of(server)
    assert not any("restart" in line for line in host.look().unseen)
    server.admin("ALTER SYSTEM SET max_connections = 400")
    try:
        told = host.look()
        door.script = lambda script: script.replace("pg_controldata", "no-such-program")
        blind = host.look()
    finally:
        server.admin("ALTER SYSTEM RESET max_connections")
    assert (told.max_connections, told.number("max_wal_senders")) == (server.max_connections, 2)
    assert any("a change of max_connections waits for a restart" in line for line in told.unseen)
    assert blind.max_connections == 400
    assert any("a change of max_connections that waits" in line for line in blind.unseen)


def test_ages_do_not_hang_on_the_uptime_that_a_container_shows(server: Server) -> None:
    """lxcfs shows a container its own uptime, while processes began by the host's clock."""
    host, door = host_of(server)
    with tempfile.NamedTemporaryFile("w", suffix="uptime") as fake:
        Path(fake.name).chmod(0o644)
        fake.write("1.00 1.00\n")
        fake.flush()
        door.script = lambda script: script.replace("/proc/uptime", fake.name)
        told = host.look().processes
    (checkpointer,) = [p for p in told if "checkpointer" in p.title]
    now = float(Path("/proc/uptime").read_text().split()[0])
    real = now - checkpointer.start_ticks / HERTZ
    assert 0 < checkpointer.age_s <= real + 0.1
    assert real - checkpointer.age_s < 30  # what a loaded machine may take for one look
