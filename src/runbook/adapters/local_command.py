"""Runs commands on this machine, for hosts with `connection: local`: argv lists, never a shell."""

from __future__ import annotations

import os
import select
import selectors
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from runbook.adapters.host_door import DRAIN_S, Errand, HeldCommand, HostDoor, Kept, out_of_time
from runbook.model.effects import CommandOutcome
from runbook.model.errors import NotStarted

if TYPE_CHECKING:
    from typing import IO

    from runbook.model.fleet import ResolvedHost

#: Between two looks at whether the command has ended, while it says nothing.
_TICK_S = 0.05
_CHUNK = 64 * 1024


class LocalDoor(HostDoor):
    """Performs effects on hosts that are this machine."""

    def close(self) -> None:
        """Nothing is kept open between commands."""

    def _hold(self, host: ResolvedHost, argv: tuple[str, ...], within_s: float) -> HeldCommand:
        errand = Errand(argv=argv, timeout_s=within_s, change=True)
        return _HeldProcess(_start(host.name, errand, stdin=subprocess.PIPE))

    def _run(self, host: ResolvedHost, errand: Errand) -> CommandOutcome:
        started = time.monotonic()
        process = _start(host.name, errand)
        streams = _Streams(process, errand)
        try:
            if not streams.follow(started + errand.timeout_s):
                if not errand.change:
                    _kill_group(process)
                raise out_of_time(host.name, errand)
        finally:
            streams.close()
        return CommandOutcome(
            exit_code=process.returncode,
            stdout=streams.stdout.text(),
            stderr=streams.stderr.text(),
            seconds=time.monotonic() - started,
        )


def _start(host: str, errand: Errand, stdin: int | None = None) -> subprocess.Popen[bytes]:
    """Start the command in its own process group: a Ctrl-C here is not a Ctrl-C there."""
    try:
        return subprocess.Popen(
            errand.argv,
            stdin=stdin or (subprocess.PIPE if errand.stdin else subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise NotStarted(
            f"{host}: {shlex.join(errand.argv)} cannot be run: {why}",
            hint="on a host with `connection: local` commands run on this very machine: is the"
            " program installed here, and is its path right?",
        ) from None


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what can be killed: what sudo runs is another user's, and is left to end by itself."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=DRAIN_S)


class _HeldProcess:
    """A process that stays until its stdin is closed."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._unread = b""

    def ask(self, line: str | None, within_s: float) -> str | None:
        try:
            if line is not None:
                os.write(cast("IO[bytes]", self._process.stdin).fileno(), f"{line}\n".encode())
            return self._read_line(time.monotonic() + within_s)
        except (OSError, ValueError):  # its end of the pipe is closed, or ours
            return None

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        # Reaped, or killed: a holder that does not end with its stdin would hold for good.
        try:
            self._process.wait(timeout=DRAIN_S)
        except subprocess.TimeoutExpired:
            _kill_group(self._process)

    def _read_line(self, deadline: float) -> str | None:
        out = cast("IO[bytes]", self._process.stdout).fileno()
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([out], [], [], left)[0]:
                return None
            data = os.read(out, _CHUNK)
            if not data:
                return None
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode("utf-8", errors="replace")


class _Streams:
    """A process's output, read side by side and kept within bounds, while it is fed its input."""

    def __init__(self, process: subprocess.Popen[bytes], errand: Errand) -> None:
        self.stdout, self.stderr = Kept(errand.keep), Kept(errand.keep)
        self._process = process
        self._input = memoryview(errand.stdin)
        self._selector = selectors.DefaultSelector()
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            self._selector.register(process.stdin, selectors.EVENT_WRITE)
        for pipe, kept in ((process.stdout, self.stdout), (process.stderr, self.stderr)):
            os.set_blocking(cast("IO[bytes]", pipe).fileno(), False)
            self._selector.register(cast("IO[bytes]", pipe), selectors.EVENT_READ, kept)

    def follow(self, deadline: float) -> bool:
        """Read until the process has ended; False when the deadline came first."""
        ended_at: float | None = None
        while self._selector.get_map() or self._process.poll() is None:
            now = time.monotonic()
            if ended_at is None and self._process.poll() is not None:
                ended_at = now
            if ended_at is not None and now > ended_at + DRAIN_S:
                break
            if ended_at is None and now >= deadline:
                return False
            self._read_some(min(_TICK_S, max(0.0, deadline - now)) if ended_at is None else _TICK_S)
        return True

    def close(self) -> None:
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _read_some(self, seconds: float) -> None:
        if not self._selector.get_map():
            self._wait(seconds)
            return
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                self._feed()
            elif data := os.read(key.fd, _CHUNK):
                key.data.add(data)
            else:
                self._selector.unregister(key.fileobj)

    def _feed(self) -> None:
        """Write what the pipe takes; whoever does not want the rest need not read it."""
        pipe = cast("IO[bytes]", self._process.stdin)
        try:
            self._input = self._input[os.write(pipe.fileno(), self._input[:_CHUNK]) :]
        except BrokenPipeError:
            self._input = self._input[:0]
        if not self._input:
            self._selector.unregister(pipe)
            pipe.close()

    def _wait(self, seconds: float) -> None:
        """Both streams are closed, and the process is still there."""
        try:
            self._process.wait(timeout=max(seconds, 0.001))
        except subprocess.TimeoutExpired:
            return
