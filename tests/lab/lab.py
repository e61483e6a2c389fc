"""One lab: a database host and some app hosts in containers, and the ways to upset them."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .docker_engine import STATE, DockerFailed, LabUnavailable, docker, ensure_engine, ensure_image
from .units import unit_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

LABEL = "runbook.lab"
DB = "lab-db"
UNIT = "shop.service"
SHOP_SUDO = f"oncall ALL=(root) NOPASSWD: /usr/bin/systemctl restart {UNIT}"
POOL = {"processes": 2, "size": 5, "overflow": 0}
SETTINGS: dict[str, str] = {
    "max_connections": "40",
    "superuser_reserved_connections": "3",
    "log_statement": "none",
}
READY_WITHIN = 60.0


class AnswerTooLate(Exception):
    """Something of the lab was not ready in time; the message says what."""


@dataclass(kw_only=True)
class Host:
    """One container of the lab that plays a host."""

    name: str
    #: The container's name, as the docker client knows it.
    container: str
    #: Its address inside the lab's network: what PostgreSQL sees as client_addr.
    address: str = ""
    #: Ports published on 127.0.0.1; they stay the same when the host is stopped and started.
    ssh_port: int = 0
    http_port: int = 0
    pg_port: int = 0
    #: Where a PgBouncer answers once `Lab.start_pgbouncer` has started one here.
    bouncer_port: int = 0
    #: Where an HAProxy answers once `Lab.start_haproxy` has started one here.
    balancer_port: int = 0

    @property
    def is_db(self) -> bool:
        """Whether PostgreSQL runs here, and not the shop."""
        return self.name == DB


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a command on a host came to."""

    rc: int
    stdout: str
    stderr: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a host answered over HTTP."""

    status: int
    body: str

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


def password(role: str) -> str:
    """The password of a database role: a convention of the image's schema.sql."""
    return f"{role}-lab-only"


@dataclass(kw_only=True)
class Lab:
    """A database host, app hosts, and a folder with the key, passwords and the inventory."""

    name: str
    hosts: dict[str, Host] = field(default_factory=dict)
    #: The public half of its SSH host key.
    host_keys: dict[str, str] = field(default_factory=dict)

    # ---- life and death

    @classmethod
    def start(cls, app_hosts: int = 3, name: str = "dev", *, owned: bool = False) -> Lab:
        """Start a lab and return when every host is ready; an old one of that name goes first.

        An `owned` lab belongs to this process: a later start removes it if the process is gone.
        """
        ensure_engine()
        image = ensure_image()
        remove_orphans()
        lab = cls(name=name)
        lab.stop()
        lab.folder.mkdir(mode=0o700, parents=True)
        try:
            lab._create(image, app_hosts, owner=os.getpid() if owned else 0)
            in_parallel(lab._finish_boot, lab.hosts.values())
            lab.wait_ready()
        except BaseException:
            lab.stop()
            raise
        lab._write_files()
        return lab

    @classmethod
    def attach(cls, name: str = "dev") -> Lab:
        """Find a running lab that an earlier `start` (of another process) left behind."""
        ensure_engine()
        saved = STATE / name / "lab.json"
        if not saved.is_file():
            raise LabUnavailable(
                f"there is no lab {name!r} here; start it: python -m lab up {name}"
            )
        lab = cls(name=name)
        for entry in json.loads(saved.read_text()):
            lab.hosts[entry["name"]] = Host(**entry)
        lab.wait_ready()
        return lab

    def stop(self) -> None:
        """Remove the lab's containers, its network and its folder."""
        remove_labelled(f"{LABEL}={self.name}")
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def folder(self) -> Path:
        """Where the key, known_hosts, passwords and the inventory are."""
        return STATE / self.name

    @property
    def db(self) -> Host:
        """The database host."""
        return self.hosts[DB]

    @property
    def apps(self) -> list[Host]:
        """The app hosts, in order."""
        return [host for host in self.hosts.values() if not host.is_db]

    def _create(self, image: str, app_hosts: int, owner: int) -> None:
        network = f"runbook-lab-{self.name}"
        labels = [f"--label={LABEL}={self.name}", f"--label={LABEL}.owner={owner}"]
        docker("network", "create", *labels, network)
        self._write_key()
        ports = free_ports(4 * (app_hosts + 1))
        for host_name in [DB, *(f"app-{n}" for n in range(1, app_hosts + 1))]:
            host = Host(name=host_name, container=f"{network}-{host_name}", ssh_port=next(ports))
            host.bouncer_port, host.balancer_port = next(ports), next(ports)
            if host.is_db:
                host.pg_port = next(ports)
            else:
                host.http_port = next(ports)
            self.hosts[host_name] = host
        in_parallel(lambda host: self._boot(host, image, network, labels), self.hosts.values())

    def _boot(self, host: Host, image: str, network: str, labels: list[str]) -> None:
        docker("create", *labels, *host_options(host, network), image)
        docker("cp", "-", f"{host.container}:/", raw=tar_of(self._seed(host)))
        docker("start", host.container)
        self._learn_address(host)

    def _seed(self, host: Host) -> dict[str, tuple[str, int]]:
        """What makes the common image this very host: its keys, its role, its settings."""
        private, public = new_key()
        self.host_keys[host.name] = public
        login = (self.folder / "id_ed25519.pub").read_text()
        files = {
            "etc/ssh/ssh_host_ed25519_key": (private, 0o600),
            "etc/ssh/ssh_host_ed25519_key.pub": (public + "\n", 0o644),
            "home/oncall/.ssh/authorized_keys": (login, 0o644),
        }
        wants = "etc/systemd/system/multi-user.target.wants"
        if host.is_db:
            settings = (settings_text(SETTINGS), 0o644)
            files["usr/share/lab/settings.conf"] = files["etc/lab-postgresql/settings.conf"] = (
                settings
            )
            files[f"{wants}/postgresql.service"] = ("/lib/systemd/system/postgresql.service", LINK)
        else:
            environment = (env_text(shop_environment(host)), 0o644)
            files["usr/share/lab/shop.env"] = files["etc/shop.env"] = environment
            files[f"{wants}/{UNIT}"] = (f"/lib/systemd/system/{UNIT}", LINK)
        return files

    def _learn_address(self, host: Host) -> None:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        host.address = docker("inspect", "--format", form, host.container).strip()

    def _write_key(self) -> None:
        private, public = new_key()
        key = self.folder / "id_ed25519"
        key.touch(mode=0o600)
        key.write_text(private)
        (self.folder / "id_ed25519.pub").write_text(f"{public} lab\n")

    def _write_files(self) -> None:
        known = (
            f"[127.0.0.1]:{h.ssh_port} {self.host_keys[h.name]}\n" for h in self.hosts.values()
        )
        (self.folder / "known_hosts").write_text("".join(known))
        for role in ("oncall", "oncall_rescue", "nobody_special", "bouncer_stats", "bouncer_admin"):
            secret = self.folder / f"{role}.password"
            secret.touch(mode=0o600)
            secret.write_text(password(role) + "\n")
        saved = json.dumps([vars(host) for host in self.hosts.values()], indent=1)
        (self.folder / "lab.json").write_text(saved)
        (self.folder / "inventory.yaml").write_text(self.inventory_yaml())

    # ---- waiting

    def wait_ready(self, *hosts: Host) -> None:
        """Return once the given hosts (or all) answer over SSH, HTTP and SQL."""
        in_parallel(self._wait_host, hosts or self.hosts.values())

    def _finish_boot(self, host: Host) -> None:
        """Wait until systemd has started everything, and start what it could not.

        With cgroup v1 a unit's cgroup may vanish between its making and its use when many hosts
        boot at once; the unit then fails with 219/CGROUP, once in some hundred starts.
        """
        state = ["systemctl", "is-system-running"]
        done = {"running", "degraded"}
        until(lambda: self.exec(host, state).stdout.strip() in done, f"systemd of {host.name}")
        failed = ["systemctl", "list-units", "--failed", "--plain", "--no-legend"]
        for line in self.exec(host, failed).stdout.splitlines():
            unit = line.split()[0]
            self.exec(host, ["systemctl", "reset-failed", unit])
            self.exec(host, ["systemctl", "start", unit])

    def _wait_host(self, host: Host) -> None:
        until(lambda: ssh_banner(host.ssh_port), f"sshd of {host.name}")
        if host.is_db:
            until(lambda: self.psql("SELECT 1") == "1", f"PostgreSQL of {host.name}")
        else:
            until(lambda: self.http(host, "/healthz").status == 200, f"the shop of {host.name}")

    # ---- asking and telling hosts

    def exec(
        self, host: Host, argv: list[str], *, user: str = "root", stdin: str | None = None
    ) -> Done:
        """Run a command on a host past SSH, as the lab's own hand."""
        interactive = ["-i"] if stdin is not None else []
        done = subprocess.run(
            ["docker", "exec", *interactive, "-u", user, host.container, *argv],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Done(rc=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def show(self, host: Host, unit: str = UNIT) -> dict[str, str]:
        """All properties of a unit, as `systemctl show` prints them."""
        lines = self._must(host, ["systemctl", "show", unit]).splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def invocation_id(self, host: Host, unit: str = UNIT) -> str:
        """What changes with every start of a unit."""
        argv = ["systemctl", "show", "--property=InvocationID", "--value", unit]
        return self._must(host, argv).strip()

    def journal(self, host: Host, unit: str = UNIT) -> str:
        """What systemd logged of a unit."""
        return self._must(host, ["journalctl", "--no-pager", "--output=short-precise", "-u", unit])

    def http(self, host: Host, path: str, method: str = "GET", *, timeout: float = 10) -> Answer:
        """Ask the shop on a host; an HTTP error is an answer too, and status 0 is none."""
        url = f"http://127.0.0.1:{host.http_port}{path}"
        request = urllib.request.Request(url, method=method, data=b"" if method == "POST" else None)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return Answer(status=response.status, body=response.read().decode())
        except urllib.error.HTTPError as error:
            return Answer(status=error.code, body=error.read().decode())
        except OSError as error:
            return Answer(status=0, body=str(error))

    def ask(self, host: Host, path: str, n: int, *, tries: int = 60) -> int:
        """POST to the shop until exactly `n` sessions were taken there; return how many were.

        A request lands in any of the workers, and each takes no more than its pool has left.
        """
        taken = 0
        for _ in range(tries):
            joint = "&" if "?" in path else "?"
            answer = self.http(host, f"{path}{joint}n={n - taken}", "POST")
            if answer.status != 200:
                raise AssertionError(f"{host.name} {path}: {answer.status} {answer.body[:300]}")
            taken += answer.json()["taken"]
            if taken == n:
                break
        return taken

    def leak(self, host: Host, n: int, how: str = "detached") -> int:
        """Leak `n` sessions: detached (past the pool), in_transaction or committed."""
        return self.ask(host, f"/leak?how={how}", n)

    def break_health(self, host: Host, *, after_restart: bool = False) -> None:
        """Let /healthz answer 500: until the next restart, or only from the next restart on."""
        if not after_restart:
            self.http(host, "/broken?on=1", "POST")
            return
        self.spoil_start(host, "touch /etc/shop/broken")

    def spoil_start(self, host: Host, shell: str) -> None:
        """Let the shop's next start run a shell line (as root) before the app."""
        dropin = f"[Service]\nExecStartPre=+/bin/sh -c '{shell}'\n"
        self.put(host, f"/etc/systemd/system/{UNIT}.d/lab.conf", dropin)
        self._must(host, ["systemctl", "daemon-reload"])

    def spoil(self, host: Host, way: str, unit: str = UNIT) -> None:
        """Let a unit fail on its next start in one of `units.WAYS_TO_FAIL`, or "masked".

        Another unit than the shop's is created (name it lab-*.service, so that reset finds it)
        and oncall may restart it too.
        """
        if way == "masked":
            self._must(host, ["systemctl", "mask", unit])
        else:
            self.put(host, f"/etc/systemd/system/{unit}", unit_text(way))
            self._must(host, ["systemctl", "daemon-reload"])
        if unit != UNIT:
            self.sudoers(host, SHOP_SUDO, SHOP_SUDO.replace(UNIT, unit))

    def sudoers(self, host: Host, *rules: str) -> None:
        """Replace what sudo allows on a host; no rule at all means that sudo refuses."""
        self.put(host, "/etc/sudoers.d/oncall", "".join(f"{rule}\n" for rule in rules), mode=0o440)

    def put(self, host: Host, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file, owned by root, on a host."""
        docker("cp", "-", f"{host.container}:/", raw=tar_of({path.lstrip("/"): (text, mode)}))

    def _must(self, host: Host, argv: list[str], stdin: str | None = None) -> str:
        done = self.exec(host, argv, stdin=stdin)
        if done.rc != 0:
            raise DockerFailed(f"{host.name}: {' '.join(argv)}: exit {done.rc}: {done.stderr}")
        return done.stdout

    # ---- the database

    def psql(self, sql: str, dbname: str = "shop") -> str:
        """Run SQL as superuser over the local socket; rows as lines, columns split by `|`."""
        argv = ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", dbname, "-c", sql]
        done = self.exec(self.db, argv, user="postgres")
        if done.rc != 0:
            raise DockerFailed(f"psql {sql!r}: {done.stderr}")
        return done.stdout.strip()

    def configure_db(self, **settings: str | int) -> None:
        """Restart PostgreSQL with some settings changed from the lab's own (until reset)."""
        changed = {**SETTINGS, **{key: str(value) for key, value in settings.items()}}
        self.put(self.db, "/etc/lab-postgresql/settings.conf", settings_text(changed))
        self._must(self.db, ["systemctl", "restart", "postgresql.service"])

    def pg_log(self) -> str:
        """PostgreSQL's log since the lab started or was reset."""
        return self._must(self.db, ["cat", "/var/log/postgresql/postgresql.log"])

    def sessions(self) -> dict[str, int]:
        """Client sessions by application_name, the asking one left out."""
        rows = self.psql(
            "SELECT application_name, count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND backend_type = 'client backend' GROUP BY 1 ORDER BY 1"
        )
        pairs = (row.rsplit("|", 1) for row in rows.splitlines())
        return {application: int(count) for application, count in pairs}

    # ---- PgBouncer

    def start_pgbouncer(self, host: Host, *, upstream: str = DB, **settings: str | int) -> None:
        """Start (or restart) a PgBouncer on a host, in front of the lab's database, until reset.

        `settings` are those of its section [pgbouncer]; `upstream` is the host, or the socket
        directory, of the server behind it. Its stats user is `bouncer_stats`.
        """
        users = ("shop", "oncall", "nobody_special", "bouncer_stats", "bouncer_admin")
        passwords = "".join(f'"{user}" "{password(user)}"\n' for user in users)
        self.put(host, "/etc/lab-pgbouncer/users.txt", passwords)
        self.put(host, "/etc/lab-pgbouncer/pgbouncer.ini", bouncer_text(upstream, settings))
        self.put(host, f"/etc/systemd/system/{BOUNCER_UNIT}", BOUNCER_SERVICE)
        self._must(host, ["systemctl", "daemon-reload"])
        self._must(host, ["systemctl", "restart", BOUNCER_UNIT])

    def bouncer_console(self, host: Host, command: str) -> str:
        """Run a command on a PgBouncer's console as its admin; rows as `psql` splits them."""
        url = f"postgresql://bouncer_admin:{password('bouncer_admin')}@127.0.0.1:6432/pgbouncer"
        return self._must(host, ["psql", "-X", "-A", "-t", "-q", url, "-c", command]).strip()

    def bouncer_entry(self, host: Host) -> dict[str, Any]:
        """A PgBouncer of a host as the inventory declares it."""
        secret = {"file": str(self.folder / "bouncer_stats.password")}
        admin = {"user": "bouncer_stats", "password": secret}
        return {"host": host.name, "database": DB, "port": host.bouncer_port, "admin": admin}

    def point_shop(self, host: Host, through: Host, **environment: str) -> None:
        """Restart the shop of a host with its database URL led through a PgBouncer, until reset."""
        direct = shop_environment(host)
        url = direct["DATABASE_URL"].replace(f"@{DB}:5432", f"@{through.name}:6432")
        changed = {**direct, "DATABASE_URL": url, **environment}
        self.put(host, "/etc/shop.env", env_text(changed))
        self._must(host, ["systemctl", "restart", UNIT])
        self.wait_ready(host)

    # ---- HAProxy

    def start_haproxy(self, host: Host, *, checked: bool = True) -> None:
        """Start (or restart) an HAProxy on a host, in front of every app host, until reset.

        `checked`: it asks each app host's health itself. oncall may use its socket by sudo.
        """
        self.put(host, "/etc/lab-haproxy/haproxy.cfg", haproxy_text(self.apps, checked=checked))
        self.put(host, f"/etc/systemd/system/{BALANCER_UNIT}", BALANCER_SERVICE)
        self.sudoers(host, *(() if host.is_db else (SHOP_SUDO,)), BALANCER_SUDO)
        self._must(host, ["systemctl", "daemon-reload"])
        self._must(host, ["systemctl", "restart", BALANCER_UNIT])
        names = [app.name for app in self.apps]
        until(
            lambda: all(self.haproxy_state(host, name) == (2, 0) for name in names),
            f"HAProxy of {host.name}",
        )

    def haproxy(self, host: Host, command: str) -> str:
        """Run a command on an HAProxy's runtime socket."""
        argv = ["socat", "-t5", "-", f"UNIX-CONNECT:{BALANCER_SOCKET}"]
        return self._must(host, argv, stdin=command + "\n")

    def haproxy_state(self, host: Host, server: str) -> tuple[int, int]:
        """An HAProxy's srv_op_state (2: running) and srv_admin_state (0: ready) of a server."""
        _version, columns, *rows = self.haproxy(host, "show servers state shop").splitlines()
        states = [dict(zip(columns[2:].split(), row.split(), strict=True)) for row in rows if row]
        found = next(state for state in states if state["srv_name"] == server)
        return int(found["srv_op_state"]), int(found["srv_admin_state"])

    # ---- faults around a host

    def cut_network(self, host: Host) -> None:
        """Drop every packet the host sends: who talks to it hangs, as behind a dead switch."""
        self._must(host, ["ip", "rule", "add", "blackhole", "pref", "1"])

    def restore_network(self, host: Host) -> None:
        """Undo `cut_network`."""
        self._must(host, ["ip", "rule", "del", "pref", "1"])

    def stop_host(self, host: Host, *, sudden: bool = False) -> None:
        """Power a host off: its ports refuse. Sudden: no peer is told, sessions are orphaned."""
        if sudden:
            self.cut_network(host)
        docker("kill", host.container)

    def start_host(self, host: Host) -> None:
        """Power a host on again, on the same ports."""
        docker("start", host.container)
        self._learn_address(host)
        self.wait_ready(host)

    def reset(self) -> None:
        """Put every host back to how it was at the start, in parallel.

        Processes a test has touched are restarted, sessions ended, units, sudo rules, settings
        of PostgreSQL and limits of its roles restored; tables and roles a test made stay.
        """
        in_parallel(self._reset_host, self.hosts.values())
        self.wait_ready()

    def _reset_host(self, host: Host) -> None:
        running = docker("inspect", "--format", "{{.State.Running}}", host.container)
        if running.strip() != "true":
            docker("start", host.container)
            self._learn_address(host)
            until(lambda: self.exec(host, ["systemctl", "is-active", "dbus"]).rc == 0, host.name)
        self._must(host, ["lab-reset"])

    # ---- the inventory

    def inventory(self) -> dict[str, Any]:
        """The inventory of this lab, as data."""
        return {
            "version": 1,
            "defaults": {
                "ssh": {
                    "user": "oncall",
                    "identity_file": str(self.folder / "id_ed25519"),
                    "known_hosts": str(self.folder / "known_hosts"),
                }
            },
            "hosts": {host.name: self._inventory_host(host) for host in self.hosts.values()},
            "databases": {DB: self._inventory_database()},
            "services": {"shop": inventory_service()},
        }

    def _inventory_host(self, host: Host) -> dict[str, Any]:
        entry: dict[str, Any] = {"address": "127.0.0.1", "ssh": {"port": host.ssh_port}}
        if host.is_db:
            return {**entry, "groups": ["db"]}
        return {**entry, "groups": ["app"], "vars": {"health_port": host.http_port}}

    def _inventory_database(self) -> dict[str, Any]:
        def secret(role: str) -> dict[str, str]:
            return {"file": str(self.folder / f"{role}.password")}

        connect = {"host": "127.0.0.1", "port": self.db.pg_port, "dbname": "shop"}
        return {
            "host": DB,
            "connect": {**connect, "user": "oncall", "password": secret("oncall")},
            "rescue": {"user": "oncall_rescue", "password": secret("oncall_rescue")},
        }

    def inventory_yaml(self, **overrides: Mapping[str, Any]) -> str:
        """The inventory as text; overrides are merged in depth, and None removes a key.

        For instance ``inventory_yaml(services={"shop": {"rolling": {"batches": [2]}}})``.
        JSON is YAML 1.2, and needs no library to be written.
        """
        return json.dumps(merged(self.inventory(), overrides), indent=2) + "\n"


#: Named so that lab-reset stops it.
BOUNCER_UNIT = "lab-pgbouncer.service"
BOUNCER_SERVICE = """[Unit]
Description=PgBouncer of the lab
[Service]
Type=notify
User=postgres
ExecStart=/usr/sbin/pgbouncer /etc/lab-pgbouncer/pgbouncer.ini
KillSignal=SIGTERM
"""


BALANCER_UNIT = "lab-haproxy.service"
BALANCER_SOCKET = "/run/lab-haproxy.sock"
BALANCER_SUDO = f"oncall ALL=(root) NOPASSWD: /usr/bin/socat -t5 - UNIX-CONNECT\\:{BALANCER_SOCKET}"
BALANCER_SERVICE = """[Unit]
Description=HAProxy of the lab
[Service]
Type=notify
ExecStart=/usr/sbin/haproxy -Ws -f /etc/lab-haproxy/haproxy.cfg
KillMode=mixed
"""


def haproxy_text(apps: Iterable[Host], *, checked: bool) -> str:
    """A configuration file for HAProxy; each server bears the name of its host.

    It tries nothing twice: a request that it sends to a dead host has failed.
    """
    check = " check inter 100ms rise 2 fall 1" if checked else ""
    servers = "".join(f"    server {app.name} {app.address}:8000{check}\n" for app in apps)
    return (
        f"global\n    stats socket {BALANCER_SOCKET} mode 600 level admin\n"
        "defaults\n    mode http\n    retries 0\n    timeout connect 2s\n    timeout client 60s\n"
        "    timeout server 60s\n    timeout check 2s\n"
        "frontend public\n    bind *:8080\n    default_backend shop\n"
        f"backend shop\n    balance roundrobin\n    option httpchk GET /healthz\n{servers}"
    )


def bouncer_text(upstream: str, settings: Mapping[str, str | int]) -> str:
    """A configuration file for PgBouncer."""
    base: dict[str, str | int] = {
        "listen_addr": "*",
        "listen_port": 6432,
        "auth_type": "scram-sha-256",
        "auth_file": "/etc/lab-pgbouncer/users.txt",
        "admin_users": "bouncer_admin",
        "stats_users": "bouncer_stats",
        "pool_mode": "transaction",
        "default_pool_size": 5,
        # Drivers send these at login.
        "ignore_startup_parameters": "extra_float_digits",
    }
    lines = "".join(f"{key} = {value}\n" for key, value in {**base, **settings}.items())
    return f"[databases]\n* = host={upstream} port=5432\n[pgbouncer]\n{lines}"


LINK = -1  # in place of a file's mode: the text is where a symbolic link points


def inventory_service() -> dict[str, Any]:
    """The shop as the inventory declares it."""
    health = "http://${host.address}:${host.vars.health_port}/healthz"
    return {
        "hosts": "app",
        "unit": UNIT,
        "database": DB,
        "application_name": "shop-${host.name}",
        "pool": dict(POOL),
        "gates": [{"http": {"url": health}}],
        "rolling": {"batches": [1], "min_available": "50%", "max_failures": 0},
    }


def merged(base: Any, over: Any) -> Any:
    """`over` laid upon `base`, mapping by mapping; None takes a key away."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    both = {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}
    return {key: value for key, value in both.items() if value is not None}


def shop_environment(host: Host) -> dict[str, str]:
    """What the shop is told on a host."""
    return {
        "DATABASE_URL": f"postgresql+psycopg2://shop:{password('shop')}@{DB}:5432/shop",
        "APPLICATION_NAME": f"shop-{host.name}",
        "POOL_SIZE": str(POOL["size"]),
        "MAX_OVERFLOW": str(POOL["overflow"]),
    }


def env_text(environment: Mapping[str, str]) -> str:
    """An environment file for systemd."""
    return "".join(f"{key}={value}\n" for key, value in environment.items())


def settings_text(settings: Mapping[str, str]) -> str:
    """A configuration file for PostgreSQL."""
    return "".join(f"{key} = '{value}'\n" for key, value in settings.items())


def host_options(host: Host, network: str) -> list[str]:
    """The arguments of `docker create` with which systemd boots inside the container."""
    # On cgroup v2 systemd finds its own subtree through the host's name space.
    v2 = docker("info", "--format", "{{.CgroupVersion}}").strip() == "2"
    published = {
        22: host.ssh_port,
        8000: host.http_port,
        5432: host.pg_port,
        6432: host.bouncer_port,
        8080: host.balancer_port,
    }
    return [
        f"--name={host.container}",
        f"--hostname={host.name}",
        f"--network={network}",
        f"--network-alias={host.name}",
        "--cap-add=SYS_ADMIN",
        "--cap-add=NET_ADMIN",
        # Root of a real host sees whose sockets are whose.
        "--cap-add=SYS_PTRACE",
        "--security-opt=seccomp=unconfined",
        "--security-opt=apparmor=unconfined",
        f"--cgroupns={'host' if v2 else 'private'}",
        "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw",
        "--tmpfs=/run",
        "--tmpfs=/run/lock",
        "--tmpfs=/tmp",
        *(f"--publish=127.0.0.1:{port}:{inner}" for inner, port in published.items() if port),
    ]


def tar_of(files: Mapping[str, tuple[str, int]]) -> bytes:
    """An archive of root's files (path: text and mode), as `docker cp` takes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, (text, mode) in files.items():
            entry = tarfile.TarInfo(path)
            entry.mtime = int(time.time())
            if mode == LINK:
                entry.type, entry.linkname = tarfile.SYMTYPE, text
                archive.addfile(entry)
                continue
            entry.mode, entry.size = mode, len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def new_key() -> tuple[str, str]:
    """A new Ed25519 key for SSH: its private half, and its public half on one line."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return private.decode(), public.decode()


def free_ports(count: int) -> Iterator[int]:
    """Ports of 127.0.0.1 nobody listens on, below those that outgoing connections are given."""
    candidates = random.sample(range(20000, 32000), 4 * count)
    return itertools.islice((port for port in candidates if can_listen(port)), count)


def can_listen(port: int) -> bool:
    """Whether a port of 127.0.0.1 is free."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def ssh_banner(port: int) -> bool:
    """Whether an SSH server, and not only a proxy in front of none, answers on a port."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        return connection.recv(4) == b"SSH-"


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition; errors on the way there count as not yet."""
    deadline = time.monotonic() + READY_WITHIN
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (OSError, DockerFailed) as error:
            last = error
        time.sleep(0.1)
    raise AnswerTooLate(f"{what} was not ready within {READY_WITHIN:.0f} s (last: {last})")


def in_parallel(work: Callable[[Host], None], hosts: Iterable[Host]) -> None:
    """Do something with each host at once; the first error is raised when all are through."""
    with ThreadPoolExecutor(max_workers=16) as pool:
        list(pool.map(work, hosts))


def remove_labelled(label: str) -> None:
    """Remove containers and networks that carry a label."""
    by_label = f"label={label}"
    containers = docker("ps", "--all", "--quiet", "--filter", by_label).split()
    if containers:
        docker("rm", "--force", "--volumes", *containers)
    networks = docker("network", "ls", "--quiet", "--filter", by_label).split()
    if networks:
        docker("network", "rm", *networks)


def remove_orphans() -> None:
    """Remove the labs of test processes that were killed before they could."""
    form = f'{{{{.Label "{LABEL}.owner"}}}}'
    owners = docker("network", "ls", "--filter", f"label={LABEL}", "--format", form).split()
    for owner in set(owners) - {"0"}:
        if not process_lives(int(owner)):
            # Another process may be at it at this very moment.
            with suppress(DockerFailed):
                remove_labelled(f"{LABEL}.owner={owner}")
            for folder in STATE.glob(f"test-{owner}-*"):
                shutil.rmtree(folder, ignore_errors=True)


def process_lives(pid: int) -> bool:
    """Whether a process of this machine is still there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
