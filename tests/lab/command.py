"""The installed command, run as a process of its own against a lab."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from .lab import DB, password, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .lab import Host, Lab

INSTALLED = Path(sys.executable).with_name("runbook")
#: A rolling restart without pauses; a test that is about them lays its own over these.
QUICK: dict[str, Any] = {
    "settle": "0s",
    "gate": {"successes": 2, "interval": "50ms", "deadline": "10s"},
    "admit_deadline": "2s",
}
#: By the product's own rule a session over its pool must have been idle for this long, in seconds.
SETTLED_S = 5
_LONGEST_S = 90

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What became of one run of the command."""

    words: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        command = " ".join(("runbook", *self.words))
        return f"{command}\nexit {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"

    @property
    def said(self) -> str:
        """Everything that it wrote, on one line: where it wraps is another matter."""
        return " ".join((self.stdout + " " + self.stderr).split())

    def json(self) -> Any:
        """Its stdout, parsed."""
        return json.loads(self.stdout)


class Command:
    """`runbook`, with a lab's inventory and a state folder of its own."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._inventory = folder / "inventory.yaml"
        self._lab = lab
        self.env = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            # Nobody's ~/.ssh/config, keys or agent may help.
            "HOME": str(folder),
            "TERM": "dumb",
            "RUNBOOK_STATE": str(folder / "state"),
            "RUNBOOK_INVENTORY": str(self._inventory),
        }
        self.declare()

    def declare(self, **overrides: Mapping[str, Any]) -> None:
        """Write the lab's inventory with `overrides` laid over it; see `Lab.inventory_yaml`."""
        quick = json.loads(self._lab.inventory_yaml(services={"shop": {"rolling": QUICK}}))
        text = self._lab.inventory_yaml(**{**quick, **merged_in(quick, overrides)})
        self._inventory.write_text(text)

    def declare_shop(self, **keys: Any) -> None:
        """Lay keys over the service `shop` alone."""
        self.declare(services={"shop": keys})

    def __call__(self, *words: str, code: int = 0) -> Ran:
        """Run it without a terminal, to its end, and expect an exit code."""
        return self.start(*words).finish(code)

    def diagnose(self, *words: str) -> Any:
        """Return the diagnosis of the lab's database, as JSON."""
        return self("diagnose", DB, "--format", "json", *words).json()

    def start(self, *words: str, columns: int | None = None, pager: bool = False) -> Running:
        """Start it; with `columns`, its stdin and stdout are a terminal of that width.

        Before a pager, stdout is none.
        """
        return Running(words, self.env, columns, pager=pager)


class Running:
    """A run of the command that is still going on."""

    def __init__(
        self,
        words: tuple[str, ...],
        env: Mapping[str, str],
        columns: int | None,
        *,
        pager: bool = False,
    ) -> None:
        self._words = words
        self._terminal: int | None = None
        inner: int | None = None
        if columns:
            self._terminal, inner = pty.openpty()
            size = ["cols", str(columns), "rows", "40"]
            subprocess.run(["stty", *size, "-echo"], stdin=inner, check=True)
        self.process = subprocess.Popen(
            [str(INSTALLED), *words],
            stdin=subprocess.DEVNULL if inner is None else inner,
            stdout=subprocess.PIPE if inner is None or pager else inner,
            stderr=subprocess.PIPE,
            env=dict(env),
            cwd=env["HOME"],
        )
        if inner is not None:
            os.close(inner)
        assert self.process.stderr is not None
        out = self._terminal if self.process.stdout is None else self.process.stdout.fileno()
        assert out is not None
        self._out, self._err = _Reader(out), _Reader(self.process.stderr.fileno())

    def wait_for(self, text: str) -> None:
        """Return once it has written a text to stderr."""

        def seen() -> bool:
            assert self.process.poll() is None, f"ended before {text!r}: {self._ran()}"
            return text in self._err.text

        until(seen, f"{text!r} on stderr")

    def answer(self, text: str) -> None:
        """Type a line at its terminal."""
        assert self._terminal is not None
        os.write(self._terminal, f"{text}\n".encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def finish(self, code: int = 0) -> Ran:
        """Wait for its end, and expect an exit code. Whatever came of it, this holds: no traceback,
        and not one byte that a terminal would obey.
        """
        try:
            self.process.wait(_LONGEST_S)
        finally:
            self.process.kill()
        ran = self._ran()
        assert ran.code == code, ran
        for stream in (ran.stdout, ran.stderr):
            assert "Traceback" not in stream, ran
            assert "internal error" not in stream, ran
            assert not [char for char in stream if char < " " and char not in "\r\n"], ran
        return ran

    def _ran(self) -> Ran:
        if self.process.poll() is not None:
            self._out.join(5)
            self._err.join(5)
        return Ran(
            words=self._words,
            code=-1 if self.process.returncode is None else self.process.returncode,
            stdout=self._out.text,
            stderr=self._err.text,
        )


class _Reader(threading.Thread):
    """Reads one stream to its end, so that the writer never has to wait."""

    def __init__(self, fd: int) -> None:
        super().__init__(daemon=True)
        self._fd = fd
        self._data = b""
        self.start()

    def run(self) -> None:
        """Read; a terminal whose other side is closed answers with an error."""
        try:
            while data := os.read(self._fd, 65536):
                self._data += data
        except OSError:
            return

    @property
    def text(self) -> str:
        """What was read so far."""
        return self._data.decode(errors="replace").replace("\r\n", "\n")


def merged_in(base: Any, over: Any) -> dict[str, Any]:
    """Return the top-level keys of `over`, each merged into what `base` has; None stays None.

    A None must survive: it is `Lab.inventory_yaml` that takes keys away for it.
    """

    def both(old: Any, new: Any) -> Any:
        if not (isinstance(old, dict) and isinstance(new, dict)):
            return new
        return {**old, **{key: both(old.get(key), value) for key, value in new.items()}}

    return {key: both(base.get(key), value) for key, value in over.items()}


# ---- the lab's state, as tests compare it


def sessions(lab: Lab) -> dict[str, str]:
    """Every client session but our own: pid and backend_start, with whose it is."""
    rows = lab.psql(
        "SELECT pid || ' ' || backend_start, usename || ' ' || application_name"
        " FROM pg_stat_activity WHERE backend_type IN ('client backend', 'walsender')"
        " AND pid <> pg_backend_pid()"
    )
    return dict(row.split("|", 1) for row in rows.splitlines())


def invocations(lab: Lab) -> dict[str, str]:
    """The InvocationID of the shop on every app host."""
    return {host.name: lab.invocation_id(host) for host in lab.apps}


def starts(lab: Lab, host: Host) -> int:
    """How often systemd has started the shop on a host, by its journal."""
    return lab.journal(host).count("Started ")


def wait_settled(lab: Lab, application: str, count: int) -> None:
    """Return once that many sessions of an application have been idle long enough to be judged."""
    sql = (
        f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{application}' AND"
        f" state LIKE 'idle%' AND state_change < now() - interval '{SETTLED_S} s'"
    )
    until(lambda: int(lab.psql(sql)) >= count, f"{count} idle sessions of {application}")


@contextmanager
def connections(
    lab: Lab, count: int, application: str, user: str = "shop", **more: Any
) -> Iterator[list[Connection]]:
    """Open sessions from this process; those that were terminated are closed without a word."""
    opened: list[Connection] = []
    try:
        opened.extend(connect(lab, application, user, **more) for _ in range(count))
        yield opened
    finally:
        for connection in opened:
            connection.close()


def connect(lab: Lab, application: str, user: str = "shop", **more: Any) -> Connection:
    """Open one session, in autocommit, which has said something already."""
    connection = psycopg.connect(
        host="127.0.0.1",
        port=lab.db.pg_port,
        dbname="shop",
        user=user,
        password=password(user),
        application_name=application,
        autocommit=True,
        **more,
    )
    connection.execute("SELECT name FROM items WHERE id = 1")
    return connection
