"""`diagnose --watch` as a process, on a pipe and on a terminal, under a server that goes away."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from unit.cli.test_diagnose_looks import inventory
from unit.postgres_server import PASSWORD, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unit.postgres_server import Server

_LONGEST_S = 60.0
#: What a terminal does with these bytes is not read from the text.
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Watching:
    """A watch that goes on: what it has written so far, and its end."""

    def __init__(self, folder: Path, *words: str, size: tuple[int, int] | None, **env: str) -> None:
        self._terminal: int | None = None
        out: int = subprocess.PIPE
        if size is not None:
            self._terminal, out = pty.openpty()
            self.resize(*size)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "runbook", "diagnose", "db", "--watch", *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            env={
                **os.environ,
                "TERM": "xterm",
                "LANG": "C.UTF-8",
                "NO_COLOR": "1",
                "RUNBOOK_STATE": str(folder / "state"),
                "LOOKS_PG_PASSWORD": PASSWORD,
                **env,
            },
        )
        if self._terminal is None:
            assert self.process.stdout is not None
            self._from = self.process.stdout.fileno()
        else:
            os.close(out)
            self._from = self._terminal
        self._data = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._from, 65536):
                self._data += data
        except OSError:  # a terminal whose other side is closed
            return

    @property
    def raw(self) -> str:
        """Everything that was written."""
        return self._data.decode(errors="replace")

    @property
    def lines(self) -> list[str]:
        """What was written, by lines, without what moves a cursor."""
        return _ESCAPES.sub("", self.raw).replace("\r", "").splitlines()

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size."""
        assert self._terminal is not None
        packed = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, packed)

    def until(self, what: str, times: int = 1) -> None:
        """Return once it has written a text, as often as that since the beginning."""
        deadline = time.monotonic() + _LONGEST_S
        while _ESCAPES.sub("", self.raw).count(what) < times:
            assert self.process.poll() is None, f"ended before {what!r}: {self.raw}{self._told()}"
            assert time.monotonic() < deadline, f"no {what!r} in {self.raw[-3000:]}"
            time.sleep(0.05)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(_LONGEST_S)
        self._reader.join(_LONGEST_S)
        told = self._told()
        assert "Traceback" not in self.raw + told
        return code

    def _told(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that may be stopped."""
    with running() as started:
        yield started


@pytest.fixture
def watch(own: Server, tmp_path: Path) -> Iterator[Callable[..., Watching]]:
    """Start a watch on the server; it is gone after the test."""
    begun: list[Watching] = []

    def start(*words: str, size: tuple[int, int] | None = None, **more: Any) -> Watching:
        env = more.pop("env", {})
        (tmp_path / "inventory.yaml").write_text(inventory(own, **more))
        begun.append(Watching(tmp_path, "--interval", "500ms", *words, size=size, **env))
        return begun[-1]

    yield start
    for each in begun:
        each.process.kill()
        each.process.wait()


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """Stop the server for as long as the context lasts."""
    data = server.admin("SHOW data_directory")[0][0]
    binary = Path(server.admin("SELECT setting FROM pg_config WHERE name = 'BINDIR'")[0][0])
    user = "nobody" if os.geteuid() == 0 else None

    def control(*words: str) -> None:
        subprocess.run(
            [binary / "pg_ctl", "-D", data, "-w", *words],
            check=True, user=user, cwd=data, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    control("-m", "immediate", "stop")
    try:
        yield
    finally:
        control("-l", f"{data}/../log", "start")


def ours(server: Server) -> list[tuple[int, bool]]:
    """Return the sessions of runbook: pid, and whether it is a superuser's."""
    return [
        (pid, superuser)
        for pid, superuser in server.admin(
            "SELECT pid, usename = 'postgres' FROM pg_stat_activity"
            " WHERE application_name LIKE 'runbook %'"
        )
    ]


# ---- on a pipe ---------------------------------------------------------------------------------


def test_a_line_a_look_over_one_connection_until_ctrl_c(
    own: Server, watch: Callable[..., Watching], tmp_path: Path
) -> None:
    looking = watch()
    looking.until("healthy", 2)
    first = ours(own)
    looking.until("healthy", 5)
    assert len(first) == 1
    assert ours(own) == first
    assert looking.end() == 0
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \d+/10 ", line) for line in looking.lines)
    assert not (tmp_path / "state").exists()
    own.settle([pid for pid, _ in first])


def test_it_survives_the_server_and_says_what_happened(
    own: Server, watch: Callable[..., Watching]
) -> None:
    looking = watch()
    looking.until("healthy", 2)
    with stopped(own):
        looking.until("no answer for", 3)
    looking.until("answers again, after")
    looking.until("healthy", 4)
    assert looking.end() == 0
    gone = [line for line in looking.lines if "no answer for" in line]
    assert re.search(r"no answer for [1-9]\d*\.\ds: .*refused", gone[-1])
    back = next(line for line in looking.lines if "answers again" in line)
    assert "the server was started at " in back


def test_a_new_cause_is_told_in_the_line_in_which_it_comes(
    own: Server, watch: Callable[..., Watching]
) -> None:
    looking = watch()
    looking.until("healthy")
    with own.crowd(7, application_name="shop-web-1"):
        looking.until("[healthy -> leaked-sessions: ")
        looking.until("7/10 70% leaked-sessions: 4 leaked sessions", 2)
    assert looking.end() == 0


def test_a_slot_reserved_for_emergencies_is_given_back_between_looks(
    own: Server, watch: Callable[..., Watching]
) -> None:
    """The admin's slot is there for whoever mends it; the watch must not sit on it."""
    admin = {"user": "postgres", "password": {"env": "LOOKS_PG_PASSWORD"}}
    with own.crowd(own.usable):
        looking = watch("--interval", "3s", admin=admin)
        looking.until("10/10", 2)
        seen = [ours(own) for _ in range(5)]
        assert [] in seen
        assert looking.end() == 0


def test_a_wrong_password_ends_it_at_once(watch: Callable[..., Watching]) -> None:
    looking = watch(env={"LOOKS_PG_PASSWORD": "wrong"})
    assert looking.process.wait(_LONGEST_S) == 1
    assert "password authentication failed" in looking._told()


def test_nobody_home_at_first_is_waited_for(own: Server, watch: Callable[..., Watching]) -> None:
    with stopped(own):
        looking = watch()
        looking.until("no answer for", 2)
    looking.until("healthy")
    assert looking.end() == 0


def test_a_reader_that_has_gone_ends_it(watch: Callable[..., Watching]) -> None:
    looking = watch()
    looking.until("healthy")
    os.close(looking._from)
    assert looking.process.wait(_LONGEST_S) == 0
    assert looking._told() == ""


# ---- on a terminal -----------------------------------------------------------------------------

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


def frame(looking: Watching) -> list[str]:
    """Return the lines of the last whole screen: the next one has begun after it."""
    screens = looking.raw.partition(LEAVE)[0].split("\x1b[H")
    last = screens[-2] if len(screens) > 2 else screens[-1]
    return _ESCAPES.sub("", last).replace("\r", "").split("\n")


@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_the_screen_fits_follows_its_size_and_is_given_back(
    own: Server, watch: Callable[..., Watching], locale: str
) -> None:
    env = {"LANG": locale, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    with own.crowd(7, application_name="shop-web-1"):
        looking = watch(size=(80, 24), env=env)
        looking.until("4 leaked sessions", 2)
        shown = frame(looking)
        assert len(shown) <= 24
        assert max(map(len, shown)) <= 80
        assert shown[0].rstrip() == "4 leaked sessions: shop on web-1 holds 7, its pool is 3"
        assert ("┤" in "".join(shown)) == (locale == "C.UTF-8")
        before = len(looking.raw)
        looking.resize(50, 12)
        for _ in range(20):  # a busy machine has screens of the old size under way
            looking.until("4 leaked sessions", looking.raw.count("4 leaked sessions") + 2)
            shown = frame(looking)
            if len(shown) <= 12:
                break
        assert len(looking.raw) > before
        assert len(shown) <= 12
        assert max(map(len, shown)) <= 50
        assert looking.end() == 0
    inside, _, after = looking.raw.rpartition(LEAVE)
    assert inside.startswith(ENTER) or ENTER in inside[:40]
    left = _ESCAPES.sub("", after).replace("\r", "").splitlines()
    assert left[0].startswith("4 leaked sessions: shop on web-1 holds 7")
    assert re.search(r"Watched for .*: \d+ looks$", left[-1])
    assert not re.search(r"\x1b\[[0-9;?]*[A-HJKhl]", after)


def test_a_terminal_shows_since_when_nobody_answers(
    own: Server, watch: Callable[..., Watching]
) -> None:
    looking = watch(size=(80, 24))
    looking.until("Healthy")
    with stopped(own):
        looking.until("No answer from db since")
        looking.until("trying on", 3)
        assert "x" in "".join(line for line in frame(looking) if " 0 ┤" in line)
    looking.until("answers again, after")
    assert looking.end() == 0


def test_being_told_to_stop_gives_the_screen_back_too(watch: Callable[..., Watching]) -> None:
    looking = watch(size=(80, 24))
    looking.until("Healthy")
    assert looking.end(signal.SIGTERM) == 130
    assert LEAVE in looking.raw


def test_a_dumb_terminal_gets_lines(watch: Callable[..., Watching]) -> None:
    looking = watch(size=(80, 24), env={"TERM": "dumb"})
    looking.until("healthy", 2)
    assert looking.end() == 0
    assert "\x1b" not in looking.raw
