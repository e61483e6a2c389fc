"""The ladder's rungs beyond the network's: psql by the socket, and the host's processes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import psycopg
import pytest

from runbook.adapters.local_command import LocalDoor
from runbook.adapters.postgres import PostgresDoor
from runbook.model.effects import (
    Answers,
    AskDatabase,
    ChangeCommand,
    ChangeSql,
    Question,
    ReadCommand,
    ReadSql,
    SignalSessions,
    TryRung,
)
from runbook.model.errors import (
    ChangeInRehearsal,
    CommandFailed,
    ConnectionLost,
    DatabaseLogin,
    MissingGrant,
    SlotRefused,
    Unreachable,
)
from runbook.model.fleet import Fleet
from runbook.model.inventory import Host
from runbook.model.sessions import SessionId
from unit.postgres_server import HOST, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runbook.model.processes import ServerProcess, ServerProcesses
    from unit.postgres_server import Server

ME = Question(name="me", sql="SELECT current_user::text AS role")
ONE = Question(name="one", sql="SELECT 1 AS one")
#: What could bend psql on a host, away from what it is told.
BENT = {
    "PGOPTIONS": "-c search_path=nowhere -c bytea_output=escape",
    "PGSERVICE": "no-such-service",
    "PGUSER": "nobody-knows",
    "PGHOSTADDR": "127.0.0.9",
    "PGTARGETSESSIONATTRS": "standby",
    "PGGSSENCMODE": "require",
    "PGSSLNEGOTIATION": "direct",
    "PGREQUIREAUTH": "password",
    "PGDATESTYLE": "SQL, DMY",
    "PSQLRC": "/dev/random",
}
LIMITS = Question(name="limits", sql="SELECT current_setting('max_wal_senders')::int AS senders")


@contextmanager
def with_socket(**settings: Any) -> Iterator[tuple[Server, str]]:
    """A server that listens on a socket too, and knows its own user as a superuser."""
    folder = tempfile.mkdtemp(prefix="runbook-socket-")
    Path(folder).chmod(0o777)
    try:
        with running(unix_socket_directories=folder, **settings) as started:
            if started.os_user != "postgres":
                started.admin(f'CREATE ROLE "{started.os_user}" SUPERUSER LOGIN')
            yield started, folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Server, str]]:
    with with_socket(cluster_name="main: 15/x", listen_addresses=f"{HOST},::1") as started:
        yield started


@pytest.fixture(autouse=True)
def _programs(place: tuple[Server, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own psql."""
    monkeypatch.setenv("PATH", f"{place[0].binaries}:{os.environ['PATH']}")


@pytest.fixture
def server(place: tuple[Server, str]) -> Server:
    return place[0]


class Hosts:
    """The real local door; tells what went through it, and may be meddled with."""

    def __init__(self, fleet: Fleet, *, rehearsal: bool) -> None:
        self._door = LocalDoor(fleet, rehearsal=rehearsal)
        self.effects: list[Any] = []
        self.meddle: Callable[[Any], Any] = lambda _effect: None

    def perform(self, effect: Any) -> Any:
        self.effects.append(effect)
        meddled = self.meddle(effect)
        with patch.dict(os.environ, BENT):
            return meddled or self._door.perform(effect)

    def close(self) -> None:
        self._door.close()


class Opened:
    """A door with its hosts."""

    def __init__(self, fleet: Fleet, *, rehearsal: bool = False) -> None:
        self.hosts = Hosts(fleet, rehearsal=rehearsal)
        self.door = PostgresDoor(fleet, rehearsal=rehearsal, hosts=self.hosts)

    def ask(self, *questions: Question) -> Answers:
        answers = self.door.perform(AskDatabase(database="db", questions=questions))
        assert isinstance(answers, Answers)
        return answers

    def processes(self) -> ServerProcesses:
        answers = self.ask(ONE)
        assert answers.rung == "os"
        assert answers.processes is not None
        return answers.processes

    def read(self, sql: str, **more: Any) -> Any:
        parameters = tuple(more.pop("parameters", {}).items())
        return self.door.perform(ReadSql(database="db", sql=sql, parameters=parameters, **more))

    def signal(self, *sessions: SessionId) -> Any:
        return self.door.perform(SignalSessions(database="db", sessions=sessions))

    def try_rung(self, rung: Any, limits: Question | None = LIMITS) -> Any:
        return self.door.perform(TryRung(database="db", rung=rung, limits=limits))


@pytest.fixture
def open_door(place: tuple[Server, str]) -> Iterator[Callable[..., Opened]]:
    """Open a door to a server on this very machine; `crowd` may never log in by the network."""
    opened = []

    def door(*, rehearsal: bool = False, **database: Any) -> Opened:
        server, folder = place
        local = {"os_user": server.os_user, "socket_dir": folder, "port": server.port}
        given = {"host": "db-01", "local": local, "connect": {"user": "crowd"}, **database}
        given = {key: value for key, value in given.items() if value is not None}
        inventory = server.fleet(**given).inventory
        hosts = {"db-01": Host(connection="local")}
        fleet = Fleet(inventory.model_copy(update={"hosts": hosts}))
        opened.append(Opened(fleet, rehearsal=rehearsal))
        return opened[-1]

    yield door
    for each in opened:
        each.door.close()


@contextmanager
def full(server: Server) -> Iterator[list[psycopg.Connection[Any]]]:
    """Every slot taken, the superusers' included; one app session is idle in a transaction."""
    with server.crowd(server.usable) as crowd, server.crowd(2, "postgres"):
        crowd[1].execute(b"BEGIN")
        yield list(crowd)


def by_pid(processes: ServerProcesses) -> dict[int, ServerProcess]:
    return {process.pid: process for process in processes.processes}


def id_of(process: ServerProcess) -> SessionId:
    return SessionId(
        pid=process.pid,
        backend_start=process.backend_start,
        state_change=process.state_change,
        state=process.state,
    )


def gone(connection: psycopg.Connection[Any]) -> bool:
    deadline = time.monotonic() + 5
    while Path(f"/proc/{connection.info.backend_pid}").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


# ---- the rung `local` ----------------------------------------------------------------------


def test_the_servers_own_user_is_let_in_by_the_socket(open_door: Any, server: Server) -> None:
    with server.crowd(server.usable):
        answers = open_door(connect={"user": "oncall"}).ask(ME, ONE)
    assert answers.rung == "local"
    assert answers.rows == {"me": [{"role": server.os_user}], "one": [{"one": 1}]}
    assert [rung for rung, _ in answers.refusals] == ["connect"]
    assert "SUPERUSER" in answers.refusals[0][1]


AWKWARD = r"""SELECT 1 AS i, true AS b, 1.5::float8 AS f, 'NaN'::float8 AS nan, 2.50 AS n,
    9007199254740993 AS big, NULL AS no, NULL::json AS nojson, 'null'::jsonb AS jnull,
    'it''s' AS t, '"quoted"' AS tq, '{"a": 1}' AS tj, '[1]' AS ta, 'null' AS tn, '12' AS digits,
    ARRAY[1,NULL,3] AS a, '{}'::int[] AS e, ARRAY['x','y z'] AS texts, ARRAY['1'] AS ones,
    '{"a": [1]}'::jsonb AS j, '[1, "x"]'::json AS jl, '"s"'::jsonb AS js, '7'::jsonb AS jn,
    ROW(1, 'x') AS composite, E'\\x00ff'::bytea AS bytes, interval '1 day' AS span,
    E'line\nline\ttab \\ back \u001f' AS text, 'ü 漢字' AS unicode, '' AS empty,
    timestamptz '2024-03-01 12:00:00.5+02' AS at, date '2024-03-01' AS day,
    (ARRAY[1,2,3])[1:2] AS slice, ':USER' AS variable, '\! touch /tmp/x' AS bang, 1 AS i2,
    $a$ $b$ $a$ AS dollars, current_setting('application_name') LIKE 'runbook %' AS ours
    -- a comment at the end"""


def test_answers_are_as_over_the_network(open_door: Any) -> None:
    question = Question(name="awkward", sql=AWKWARD)
    by_socket = open_door().ask(question, ONE)
    by_network = open_door(connect={"user": "oncall"}).ask(question, ONE)
    assert (by_socket.rung, by_network.rung) == ("local", "connect")
    assert by_socket.rows == by_network.rows


def test_a_question_that_fails_does_not_take_the_others_along(
    open_door: Any, place: tuple[Server, str]
) -> None:
    witness = Path(place[1]) / "was-here"  # where the server's user may write
    questions = (
        ONE,
        Question(name="denied", sql="SELECT * FROM no_such_table"),
        Question(name="backslash", sql=f"SELECT 1 \\! touch {witness}"),
        Question(name="write", sql="CREATE TABLE t (i int)"),
        Question(name="none", sql="SELECT 1 AS a WHERE false"),
        Question(name="newer", sql="SELECT of_the_future", min_version=990000),
        ME,
    )
    answers = open_door().ask(*questions)
    assert set(answers.rows) == {"one", "me", "none"}
    assert answers.rows["none"] == []
    assert answers.failed.keys() == {"denied", "backslash", "write"}
    assert "does not exist" in answers.failed["denied"]
    assert "read-only transaction" in answers.failed["write"]
    assert not witness.exists()


def test_answers_of_several_megabytes_come_whole(open_door: Any) -> None:
    sql = "SELECT g AS n, repeat('x', 1000) AS t FROM generate_series(1, 5000) g"
    rows = open_door().ask(Question(name="many", sql=sql)).rows["many"]
    assert [row["n"] for row in rows] == list(range(1, 5001))
    assert {len(row["t"]) for row in rows} == {1000}


def test_a_walsender_reads_for_a_playbook(open_door: Any) -> None:
    door = open_door(rescue={"user": "rescue"})
    rows = door.read("SELECT g FROM generate_series(1, 10) g; -- all", limit=3)
    assert (rows.rows, rows.truncated) == (({"g": 1}, {"g": 2}, {"g": 3}), True)
    assert door.read("SHOW max_connections").rows == ({"max_connections": "12"},)
    assert not door.read("VALUES (1)", limit=1).truncated
    for value in ("x'; DROP TABLE t; --", "a\\", "ü\n%(b)s", "", "$1", "E'\\", ":USER", "$q$"):
        sql = "SELECT %(v)s::text AS v"
        assert door.read(sql, parameters={"v": value}).rows == ({"v": value},)
    values = {"i": -5, "f": 1.5, "b": False, "n": None}
    sql = "SELECT 1 -%(i)s AS i, %(f)s AS f, %(b)s AS b, %(n)s::int AS n"
    assert door.read(sql, parameters=values).rows == ({"i": 6, "f": 1.5, "b": False, "n": None},)


def test_no_playbooks_sql_is_run_as_the_servers_user(open_door: Any) -> None:
    door = open_door(admin={"user": "postgres"}, rescue={"user": "crowd"})
    with pytest.raises(SlotRefused, match="too many connections for role"):
        door.read("SELECT 1")
    assert door.hosts.effects == []


def test_nobody_elses_functions_are_run_as_the_servers_user(open_door: Any, server: Server) -> None:
    has = Question(name="has", sql="SELECT pg_has_role(current_user, 'pg_monitor', 'USAGE') AS b")
    with server.trojans(), server.crowd(1) as crowd:
        door = open_door()
        answers = door.ask(has)
        assert (answers.rung, answers.failed) == ("local", {})
        (one,) = _ids(server)
        assert door.signal(one) == (one.pid,)
        assert gone(crowd[0])


def _ids(server: Server) -> list[SessionId]:
    rows = server.admin(
        "SELECT pid, (backend_start AT TIME ZONE 'UTC')::text, state,"
        " (state_change AT TIME ZONE 'UTC')::text FROM pg_stat_activity"
        " WHERE usename = 'app' ORDER BY backend_start"
    )
    return [
        SessionId(pid=pid, backend_start=start, state=state, state_change=change)
        for pid, start, state, change in rows
    ]


def test_sessions_as_seen_are_terminated_and_no_other(open_door: Any, server: Server) -> None:
    with server.crowd(3) as crowd:
        ids = _ids(server)
        crowd[1].execute(b"SELECT 1")  # it moved since it was seen
        assert open_door().signal(*ids) == (ids[0].pid, ids[2].pid)
        assert gone(crowd[0])
        assert crowd[1].execute(b"SELECT 1").fetchone() == (1,)


def test_a_playbooks_change_is_not_run_as_the_servers_user(open_door: Any) -> None:
    door = open_door()
    assert door.ask(ME).rung == "local"
    with pytest.raises(SlotRefused, match="too many connections for role"):
        door.door.perform(ChangeSql(database="db", sql="CREATE TABLE no (i int)"))
    assert not any(isinstance(effect, ChangeCommand) for effect in door.hosts.effects)


def test_a_rehearsal_changes_nothing_on_either_level(open_door: Any, server: Server) -> None:
    door = open_door(rehearsal=True)
    assert door.ask(ONE).rung == "local"
    one = SessionId(pid=1, backend_start="ticks 1", state_change="switches 1", state="idle")
    with pytest.raises(ChangeInRehearsal):
        door.signal(one)
    with pytest.raises(ChangeInRehearsal):
        door.door._line("db").signal([one])  # past the first level
    with pytest.raises(ChangeInRehearsal):
        door.door._line("db").signal(
            [SessionId(pid=1, backend_start="2001-01-01", state_change="2001-01-01", state="idle")]
        )


def test_a_slot_that_is_taken_meanwhile_is_no_end(open_door: Any, server: Server) -> None:
    """The door opens; before the questions come, the last slots go, and one frees again."""
    door = open_door()
    crowds = contextlib.ExitStack()

    def fill(effect: ReadCommand) -> None:
        if "SERVER_VERSION_NUM" in effect.stdin and len(door.hosts.effects) > 1:
            crowds.close()
        if "SERVER_VERSION_NUM" not in effect.stdin and len(door.hosts.effects) == 2:
            crowds.enter_context(full(server))

    door.hosts.meddle = fill
    with crowds:
        assert door.ask(ME).rows["me"] == [{"role": server.os_user}]
    assert len(door.hosts.effects) > 3


def test_psql_that_is_cut_off_is_a_lost_connection(open_door: Any, server: Server) -> None:
    door = open_door()
    sql = "SELECT pg_terminate_backend(pg_backend_pid())"
    with pytest.raises(ConnectionLost, match="terminating connection"):
        door.door.perform(AskDatabase(database="db", questions=(Question(name="x", sql=sql),)))


@pytest.mark.parametrize("statement", ["BEGIN", "COMMIT"])
def test_a_signal_that_psql_is_cut_off_from_is_in_doubt(
    open_door: Any, server: Server, statement: str
) -> None:
    door = open_door()
    suicide = "SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())"

    def cut(effect: Any) -> Any:
        if not isinstance(effect, ChangeCommand):
            return None
        stdin = effect.stdin.replace(f"${statement}$", f"${suicide}$")
        assert stdin != effect.stdin
        return LocalDoor(door.hosts._door._fleet, rehearsal=False).perform(
            dataclasses.replace(effect, stdin=stdin)
        )

    door.hosts.meddle = cut
    with server.crowd(1), pytest.raises(ConnectionLost, match="was lost"):
        door.signal(*_ids(server))


def test_a_signal_whose_answer_is_cut_off_is_in_doubt(open_door: Any, server: Server) -> None:
    door = open_door()
    door.hosts.meddle = lambda effect: (
        done(stdout="begin-") if isinstance(effect, ChangeCommand) else None
    )
    with server.crowd(1), pytest.raises(ConnectionLost, match="psql ended"):
        door.signal(*_ids(server))


# ---- climbing ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("connect", "error"),
    [
        ({"user": "who"}, DatabaseLogin),
        ({"dbname": "none"}, DatabaseLogin),
        ({"user": "barred"}, DatabaseLogin),
        ({"port": 1}, Unreachable),
    ],
)
def test_what_is_wrongly_configured_is_told_at_once(
    open_door: Any, connect: dict[str, Any], error: type[Exception]
) -> None:
    door = open_door(connect={"user": "oncall", **connect})
    with pytest.raises(error):
        door.ask(ONE)
    assert door.hosts.effects == []


def test_a_login_without_an_answer_leads_to_the_host(open_door: Any) -> None:
    with socket.create_server((HOST, 0)) as silent:
        port = silent.getsockname()[1]
        slow = {"user": "oncall", "port": port, "connect_timeout": "200ms"}
        answers = open_door(connect=slow, admin={"user": "postgres"}).ask(ME)
        assert answers.rung == "local"
        ((rung, said),) = answers.refusals
        assert rung == "connect"
        assert "took the connection, and says nothing" in said
        with pytest.raises(Unreachable, match=r"no answer within 0\.2s"):
            open_door(connect=slow, host=None, local=None).ask(ME)


def test_a_slot_that_frees_in_between_is_found(open_door: Any, server: Server) -> None:
    door = open_door(connect={"user": "oncall"}, host=None, local=None)
    with server.crowd(server.usable - 1):
        last = server.connect()
        free = threading.Timer(0.02, last.close)
        free.start()
        answers = door.ask(ME)
        free.join()
    assert answers.rung == "connect"


def test_it_knocks_twice_and_then_once(open_door: Any, server: Server) -> None:
    local = {"os_user": server.os_user, "socket_dir": "/nowhere", "port": server.port}
    door = open_door(local=local)
    before = len(_refused_logins(server))
    door.processes()
    first = len(_refused_logins(server))
    assert first - before == 2
    door.processes()
    assert len(_refused_logins(server)) - first == 1


def _refused_logins(server: Server) -> list[str]:
    log = server.log.read_text()
    return [line for line in log.splitlines() if 'too many connections for role "crowd"' in line]


def test_a_name_that_is_never_looked_up_does_not_hold_us(
    open_door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_args: Any, **_more: Any) -> list[Any]:
        threading.Event().wait(3)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", never)
    started = time.monotonic()
    connect = {"host": "db.example", "user": "oncall", "connect_timeout": "300ms"}
    with pytest.raises(Unreachable, match="no answer from DNS") as caught:
        open_door(connect=connect).ask(ONE)
    assert "this machine's DNS" in (caught.value.hint or "")
    assert time.monotonic() - started < 10


def test_every_address_of_a_name_is_tried(open_door: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def addresses(_name: str, port: int, **_more: Any) -> list[Any]:
        return [(2, 1, 6, "", (address, port)) for address in ("127.0.0.2", HOST)]

    monkeypatch.setattr(socket, "getaddrinfo", addresses)
    connect = {"host": "db.example", "user": "oncall"}
    assert open_door(connect=connect).ask(ME).rows["me"] == [{"role": "oncall"}]


# ---- the rung `os` -------------------------------------------------------------------------


@pytest.fixture
def blind(open_door: Any, server: Server) -> Opened:
    """A door of which no connection opens, and whose host does."""
    local = {"os_user": server.os_user, "socket_dir": "/nowhere", "port": server.port}
    opened: Opened = open_door(local=local)
    return opened


def test_with_every_slot_taken_the_processes_tell(open_door: Any, server: Server) -> None:
    with full(server) as crowd:
        pids = [connection.info.backend_pid for connection in crowd]
        answers = open_door(connect={"user": "oncall"}).ask(ME)
    assert (answers.rung, answers.rows) == ("os", {})
    assert answers.refusals == (
        ("connect", "sorry, too many clients already"),
        ("local", "sorry, too many clients already"),
    )
    processes = answers.processes
    assert processes is not None
    assert processes.as_owner
    assert processes.version.startswith("18")
    assert processes.settings["max_connections"] == "12"
    assert processes.settings["cluster_name"] == "main: 15/x"
    assert (processes.used, processes.usable) == (server.usable, server.usable - 2)
    assert {p.kind for p in processes.processes} == {"client", "other"}
    told = [by_pid(processes)[pid] for pid in pids[:3]]
    assert [p.state for p in told] == ["idle", "idle in transaction", "idle"]
    assert {(p.role, p.database, p.client_addr) for p in told} == {("app", "shop", HOST)}
    assert all(p.client_port and p.received and p.silent_s is not None for p in told)


def test_clients_of_every_kind(blind: Opened, server: Server, place: tuple[Server, str]) -> None:
    prefix = ["runuser", "-u", server.os_user, "--"] if os.geteuid() == 0 else []
    psql = ["psql", "-X", "-h", place[1], "-p", str(server.port), "-U", server.os_user, "shop"]
    by_socket = subprocess.Popen(
        [*prefix, *psql, "-c", "SELECT pg_sleep(30)"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with (
        server.connect("app", host="::1") as sixth,
        server.connect("rescue", replication="database") as standby,
    ):
        told = _until(blind, lambda seen: any(p.state == "active" for p in seen.processes))
        six, walsender = sixth.info.backend_pid, standby.info.backend_pid
    server.admin(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{server.os_user}'"
    )
    by_socket.wait()
    server.settle([six, walsender])
    processes = by_pid(told)
    assert processes[six].client_addr == "::1"
    assert processes[six].received
    assert processes[walsender].kind == "walsender"
    (local,) = [p for p in processes.values() if p.kind == "client" and p.client_addr is None]
    assert (local.role, local.database, local.state) == (server.os_user, "shop", "active")
    assert local.state_change.startswith("switches ")
    assert len(told.holders) == 2


def _until(door: Opened, condition: Callable[[ServerProcesses], bool]) -> ServerProcesses:
    deadline = time.monotonic() + 10
    while not condition(told := door.processes()):
        assert time.monotonic() < deadline, told
    return told


def test_logins_under_way_hold_slots(blind: Opened, server: Server) -> None:
    body = b"user\0app\0database\0shop\0\0"
    startup = (8 + len(body)).to_bytes(4, "big") + b"\0\3\0\0" + body
    address = (HOST, server.port)
    with socket.create_connection(address), socket.create_connection(address) as login:
        login.sendall(startup)
        login.recv(1)
        told = _until(blind, lambda seen: len(seen.holders) == 2)
    assert {p.kind for p in told.holders} == {"logging_in"}
    assert sorted(p.role or "" for p in told.holders) == ["", "app"]
    assert {p.state for p in told.holders} == {""}


def test_only_this_servers_processes_are_told(blind: Opened, server: Server) -> None:
    with with_socket() as (other, _), server.crowd(1), other.crowd(3) as strangers:
        told = blind.processes()
        assert len(told.holders) == 1
        pid = strangers[0].info.backend_pid
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19])
        switches = _switches(pid)
        session = SessionId(
            pid=pid,
            backend_start=f"ticks {ticks}",
            state_change=f"switches {switches}",
            state="idle",
        )
        assert blind.signal(session) == ()
        assert strangers[0].execute(b"SELECT 1").fetchone() == (1,)


def _switches(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("voluntary_ctxt_switches:")[1].split()[0])


def test_a_port_that_nobody_listens_on_is_told(open_door: Any, server: Server) -> None:
    local = {"os_user": server.os_user, "socket_dir": "/nowhere", "port": 1}
    with pytest.raises(SlotRefused, match="told to listen on port 1") as caught:
        open_door(local=local).ask(ONE)
    assert "databases.db.local.port" in caught.value.message


# ---- signals from the host -----------------------------------------------------------------


def test_what_has_not_moved_is_signalled_and_nothing_else(blind: Opened, server: Server) -> None:
    with server.crowd(5) as crowd:
        crowd[1].execute(b"BEGIN")
        seen = by_pid(blind.processes())
        idle, in_transaction, woken, reborn, other_state = (
            id_of(seen[connection.info.backend_pid]) for connection in crowd
        )
        assert idle.state_change.startswith("received ")
        crowd[2].execute(b"SELECT 1")  # it said something since
        reborn = SessionId(
            pid=reborn.pid,
            backend_start="ticks 1",
            state_change=reborn.state_change,
            state=reborn.state,
        )
        other_state = SessionId(
            pid=other_state.pid,
            backend_start=other_state.backend_start,
            state_change=other_state.state_change,
            state="idle in transaction",
        )
        signalled = blind.signal(other_state, idle, woken, reborn, in_transaction)
        assert signalled == (idle.pid, in_transaction.pid)
        assert gone(crowd[0])
        assert gone(crowd[1])
        for connection in crowd[2:]:
            assert connection.execute(b"SELECT 1").fetchone() == (1,)


def test_a_client_by_ipv6_and_an_aborted_transaction(blind: Opened, server: Server) -> None:
    with server.crowd(2, host="::1") as crowd:
        crowd[0].execute(b"BEGIN")
        with pytest.raises(psycopg.errors.DivisionByZero):
            crowd[0].execute(b"SELECT 1/0")
        pids = [connection.info.backend_pid for connection in crowd]
        seen = by_pid(blind.processes())
        assert seen[pids[0]].state == "idle in transaction (aborted)"
        crowd[1].execute(b"SELECT 1")
        assert blind.signal(*(id_of(seen[pid]) for pid in pids)) == (pids[0],)
        assert gone(crowd[0])


def test_a_session_that_slept_on_is_told_by_its_switches(blind: Opened, server: Server) -> None:
    """As clients of a socket are, of whom no bytes are counted."""
    with server.crowd(3) as crowd:
        crowd[2].execute(b"BEGIN")
        first, second, third = (connection.info.backend_pid for connection in crowd)
        seen = by_pid(blind.processes())
        ids = [
            SessionId(
                pid=pid,
                backend_start=seen[pid].backend_start,
                state_change=f"switches {_switches(pid) + moved}",
                state="idle",
            )
            for pid, moved in ((first, 0), (second, -1), (third, 0))
        ]
        assert blind.signal(*ids) == (first,)
        assert gone(crowd[0])
        assert crowd[1].execute(b"SELECT 1").fetchone() == (1,)
        assert crowd[2].execute(b"SELECT 1").fetchone() == (1,)


def test_a_busy_catalogue_wakes_sessions_and_makes_none_safe(blind: Opened, server: Server) -> None:
    """Others' temporary tables wake idle sessions; who has said nothing is still the same."""
    with server.crowd(1) as crowd:
        seen = by_pid(blind.processes())[crowd[0].info.backend_pid]
        with server.connect("postgres") as busy:
            for _ in range(200):
                busy.execute("CREATE TEMP TABLE x (a int PRIMARY KEY, b text)")
                busy.execute("DROP TABLE x")
        assert _switches(seen.pid) > seen.switches
        assert blind.signal(id_of(seen)) == (seen.pid,)


def test_sessions_of_both_kinds_go_each_its_own_way(open_door: Any, server: Server) -> None:
    door = open_door(connect={"user": "oncall"})
    with server.crowd(2) as crowd:
        processes = by_pid(door.door._line("db")._ladder.host.look())
        ((pid, start, change),) = server.admin(
            "SELECT pid, (backend_start AT TIME ZONE 'UTC')::text,"
            " (state_change AT TIME ZONE 'UTC')::text FROM pg_stat_activity"
            f" WHERE pid = {crowd[0].info.backend_pid}"
        )
        by_sql = SessionId(pid=pid, backend_start=start, state_change=change, state="idle")
        by_host = id_of(processes[crowd[1].info.backend_pid])
        assert door.signal(by_host, by_sql) == (by_host.pid, by_sql.pid)
    (script,) = [e.stdin for e in door.hosts.effects if isinstance(e, ChangeCommand)]
    assert f"one {by_host.pid} " in script
    assert f"one {by_sql.pid} " not in script


def test_text_in_a_session_id_is_never_shell(blind: Opened) -> None:
    for evil in (
        SessionId(pid=1, backend_start="ticks 1; id", state_change="switches 1", state="idle"),
        SessionId(pid=1, backend_start="ticks 1", state_change="switches 1\n", state="idle"),
    ):
        with pytest.raises(SlotRefused) if ";" in evil.backend_start else _nothing():
            assert blind.signal(evil) == ()
    quoted = SessionId(
        pid=1, backend_start="ticks 1", state_change="switches 1", state="idle'; id; '"
    )
    with pytest.raises(ValueError, match="cannot be signalled"):
        blind.signal(quoted)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


# ---- hosts that are no help ----------------------------------------------------------------


def done(stdout: str = "", stderr: str = "", exit_code: int = 0) -> Any:
    from runbook.model.effects import CommandOutcome

    return CommandOutcome(exit_code=exit_code, stdout=stdout, stderr=stderr, seconds=0.0)


SUDO = done(stderr="sudo: a password is required\n", exit_code=1)


def test_without_sudo_the_line_that_is_missing_is_told(blind: Opened) -> None:
    blind.hosts.meddle = lambda effect: SUDO if isinstance(effect, ChangeCommand) else None
    session = SessionId(pid=1, backend_start="ticks 1", state_change="switches 1", state="idle")
    with pytest.raises(MissingGrant, match="a password is required") as caught:
        blind.signal(session)
    assert "NOPASSWD: /bin/sh" in (caught.value.hint or "")


def test_without_psql_the_ladder_goes_on(open_door: Any, server: Server) -> None:
    door = open_door()
    door.hosts.meddle = lambda effect: SUDO if "psql" in effect.argv else None
    answers = door.ask(ONE)
    assert answers.rung == "os"
    assert "NOPASSWD: /usr/bin/psql" in dict(answers.refusals)["local"]


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "Welcome!\nlook postgres\n",
        "look postgres 100 1.0\nat x\nchild 1 (x\ntitles\n",
        "look a 100 1.0\npostmaster pidfile 1 (p) S\nchild x\ntitles\n/proc/1/cmdline\0x\0",
        "look a 100 1.0\npostmaster x 1 (p) S\nchild x\ntitles\n\0end of titles\0",
        "\x1b[2J\0\0\0",
    ],
)
def test_garbage_from_a_host_is_told_as_such(blind: Opened, garbage: str) -> None:
    blind.hosts.meddle = lambda _effect: done(stdout=garbage)
    with pytest.raises(SlotRefused, match="os: db-01") as caught:
        blind.ask(ONE)
    assert "\x1b" not in caught.value.message


def test_a_signal_that_hangs_may_have_happened(blind: Opened) -> None:
    def hang(effect: Any) -> None:
        if isinstance(effect, ChangeCommand):
            raise CommandFailed("db-01: did not end within 15s")

    blind.hosts.meddle = hang
    session = SessionId(pid=1, backend_start="ticks 1", state_change="switches 1", state="idle")
    with pytest.raises(ConnectionLost):
        blind.signal(session)


# ---- one rung alone ------------------------------------------------------------------------


def test_each_rung_is_tried_alone(open_door: Any, server: Server) -> None:
    door = open_door(connect={"user": "oncall"}, rescue={"user": "rescue"})
    tried = {rung: door.try_rung(rung) for rung in ("connect", "admin", "local", "rescue", "os")}
    assert {rung: each.verdict for rung, each in tried.items()} == {
        "connect": "opened",
        "admin": "absent",
        "local": "opened",
        "rescue": "opened",
        "os": "opened",
    }
    assert [tried[rung].limits for rung in ("connect", "local", "rescue")] == [{"senders": 2}] * 3
    assert server.admin("SELECT count(*) FROM pg_stat_activity WHERE usename = 'oncall'") == [(0,)]


def test_a_rung_that_does_not_open_says_why(open_door: Any, server: Server) -> None:
    with full(server):
        assert open_door(connect={"user": "oncall"}).try_rung("connect").verdict == "full"
        assert open_door().try_rung("local").verdict == "full"
    wrong = open_door(local={"os_user": server.os_user, "socket_dir": "/nowhere"}).try_rung("local")
    assert (wrong.verdict, "local.socket_dir" in wrong.hint) == ("shut", True)
    assert "No such file" in wrong.said
    refused = open_door()
    refused.hosts.meddle = lambda _effect: SUDO
    local = refused.try_rung("local")
    assert local.verdict == "shut"
    assert "NOPASSWD: /usr/bin/psql" in local.hint
    missing = open_door()
    missing.hosts.meddle = lambda _effect: done(stderr="sudo: psql: command not found", exit_code=1)
    assert "install the PostgreSQL client on db-01" in missing.try_rung("local").hint
    rescue = open_door(rescue={"user": "oncall"}).try_rung("rescue")
    assert (rescue.verdict, rescue.hint) == ("shut", "ALTER ROLE oncall REPLICATION")
    nowhere = open_door(host=None, local=None)
    assert [nowhere.try_rung(rung).verdict for rung in ("local", "os")] == ["absent", "absent"]


def test_the_host_without_sudo_is_no_way_to_end_sessions(open_door: Any, server: Server) -> None:
    door = open_door(
        local={"os_user": server.os_user, "socket_dir": "/nowhere", "port": server.port}
    )

    def plainly(effect: Any) -> Any:
        bare = ReadCommand(host="db-01", argv=("/bin/sh", "-s"), stdin=effect.stdin)
        told: Any = LocalDoor(door.hosts._door._fleet, rehearsal=False).perform(bare)
        return done(
            stdout=told.stdout.replace(f"look {_me()}", "look somebody"),
            stderr="sudo: a password is required",
        )

    door.hosts.meddle = plainly
    tried = door.try_rung("os")
    assert tried.verdict == "shut"
    assert "a password is required" in tried.said
    assert "NOPASSWD: /bin/sh" in tried.hint


def _me() -> str:
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
