"""Runs commands on hosts over SSH: fabric opens the connections, paramiko's channels run the argv.

One connection a host is kept for the run. A lost one is opened anew for the next command, and an
observation is then asked again; a change never is. Commands run without a terminal, with bounded
output and a deadline of our own.
"""

from __future__ import annotations

import select
import shlex
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runbook.adapters.host_door import (
    DRAIN_S,
    Errand,
    HeldCommand,
    HostDoor,
    Kept,
    out_of_time,
    shown,
)
from runbook.adapters.ssh_connect import Connector, hang_up
from runbook.model.effects import CommandOutcome
from runbook.model.errors import ConnectionLost, Unreachable

if TYPE_CHECKING:
    from runbook.model.fleet import Fleet, ResolvedHost

#: Idle connections kept. Each has a thread of paramiko's that wakes ten times a second, so with
#: 200 hosts the oldest are closed again; opening one anew takes about 12 ms of processor time.
KEPT_CONNECTIONS = 32
#: A live connection opens a channel in one round trip; one that does not is as good as lost.
_CHANNEL_TIMEOUT_S = 10.0
#: Between two looks at whether a silent command has ended.
_TICK_S = 0.2
_CHUNK = 64 * 1024


@dataclass(kw_only=True)
class _Line:
    """One host's connection, and the lock of whoever uses it."""

    host: ResolvedHost
    lock: threading.Lock = field(default_factory=threading.Lock)
    connection: Any = None
    used: float = 0.0
    #: Commands that stay on the connection: while there are any, it is not closed for being idle.
    held: set[_HeldChannel] = field(default_factory=set)

    def leave(self) -> None:
        """Let those who hold the connection keep it; the next command opens one of its own."""
        for held in self.held:
            held.alone = True
        self.connection = None
        self.held = set()

    def drop(self) -> None:
        connection, self.connection = self.connection, None
        self.held = set()
        if connection is not None:
            hang_up(connection)


class SshDoor(HostDoor):
    """Performs effects on hosts over SSH; several hosts at once, one command at a time on each."""

    def __init__(self, fleet: Fleet, *, rehearsal: bool) -> None:
        super().__init__(fleet, rehearsal=rehearsal)
        self._connector = Connector()
        self._lines: dict[str, _Line] = {}
        self._lock = threading.Lock()
        self._closed = False

    def release(self, host: str) -> None:
        """Close the connection to one host; a later command opens it anew."""
        line = self._lines.get(host)
        if line is not None:
            with line.lock:
                line.drop()

    def close(self) -> None:
        """Close every connection at once; what still runs on one ends as ConnectionLost.

        None is opened any more: a thread that was given up must not log in again.
        """
        with self._lock:
            self._closed = True
            lines, self._lines = list(self._lines.values()), {}
        for line in lines:
            line.drop()

    def _hold(self, host: ResolvedHost, argv: tuple[str, ...], within_s: float) -> HeldCommand:
        line = self._line(host)
        errand = Errand(argv=argv, timeout_s=within_s, change=False)
        with line.lock:
            kept = line.connection is not None
            try:
                return self._begin_to_hold(line, errand)
            except ConnectionLost:
                if not kept:
                    raise
                return self._begin_to_hold(line, errand)

    def _begin_to_hold(self, line: _Line, errand: Errand) -> HeldCommand:
        channel = self._channel(line)
        try:
            started = _exec(channel, shlex.join(errand.argv), errand.timeout_s)
        except _Cut:
            line.drop()
            raise _lost(line.host.name, errand) from None
        if not started:
            _close_quietly(channel)
            raise out_of_time(line.host.name, errand)
        held = _HeldChannel(line, channel)
        line.held.add(held)
        return held

    def _run(self, host: ResolvedHost, errand: Errand) -> CommandOutcome:
        line = self._line(host)
        with line.lock:
            kept = line.connection is not None
            try:
                outcome = self._attempt(line, errand)
            except ConnectionLost:
                if errand.change or not kept:
                    raise
                outcome = self._attempt(line, errand)
            line.used = time.monotonic()
        self._close_oldest()
        return outcome

    def _attempt(self, line: _Line, errand: Errand) -> CommandOutcome:
        started = time.monotonic()
        channel = self._channel(line)
        execution = _Execution(channel, errand, started + errand.timeout_s)
        try:
            if not execution.run(shlex.join(errand.argv)):
                if execution.feeding:
                    # Nothing else ends a write that the other side does not take.
                    line.drop()
                raise out_of_time(line.host.name, errand)
            exit_code = execution.exit_code()
        except _Cut:
            line.drop()
            raise _lost(line.host.name, errand) from None
        finally:
            _close_quietly(channel)
        return CommandOutcome(
            exit_code=exit_code,
            stdout=execution.stdout.text(),
            stderr=execution.stderr.text(),
            seconds=time.monotonic() - started,
        )

    def _channel(self, line: _Line) -> Any:
        """Return a fresh channel; nothing has been asked of the host when this raises."""
        if line.connection is not None:
            channel = _open_channel(line.connection)
            if channel is not None:
                return channel
            if line.held and line.connection.transport.is_active():
                # sshd's MaxSessions may allow but one: whoever holds a lock keeps it.
                line.leave()
            else:
                line.drop()
        self._refuse_when_closed(line)
        line.connection = self._connector.open(line.host)
        self._refuse_when_closed(line)
        channel = _open_channel(line.connection)
        if channel is None:
            line.drop()
            raise Unreachable(
                f"{line.host.name}: the login works, but no command may be run (no channel)",
                hint="sshd's MaxSessions, ForceCommand and the account's shell decide on this",
            )
        return channel

    def _refuse_when_closed(self, line: _Line) -> None:
        if self._closed:
            line.drop()
            raise Unreachable(f"{line.host.name}: not asked any more: its door was closed")

    def _line(self, host: ResolvedHost) -> _Line:
        with self._lock:
            return self._lines.setdefault(host.name, _Line(host=host))

    def _close_oldest(self) -> None:
        with self._lock:
            lines = [line for line in self._lines.values() if line.connection and not line.held]
            extra = sorted(lines, key=lambda line: line.used)[: -KEPT_CONNECTIONS or None]
        for line in extra if len(lines) > KEPT_CONNECTIONS else ():
            if line.lock.acquire(blocking=False):
                try:
                    line.drop()
                finally:
                    line.lock.release()


class _HeldChannel:
    """A command that stays on a channel until its stdin is closed."""

    def __init__(self, line: _Line, channel: Any) -> None:
        self._line = line
        self._connection = line.connection
        self._channel = channel
        self._unread = b""
        #: Whether nobody but us uses the connection any more.
        self.alone = False

    def ask(self, line: str | None, within_s: float) -> str | None:
        try:
            if line is not None:
                self._channel.settimeout(within_s)
                self._channel.sendall(f"{line}\n".encode())
            return self._read_line(time.monotonic() + within_s)
        except Exception:  # noqa: BLE001 - OSError, SSHException, EOFError: it is gone
            return None

    def close(self) -> None:
        self._line.held.discard(self)
        _close_quietly(self._channel)
        if self.alone:
            hang_up(self._connection)

    def _read_line(self, deadline: float) -> str | None:
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._channel.settimeout(left)
            data = self._channel.recv(_CHUNK)
            if not data:
                return None
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode("utf-8", errors="replace")


class _Cut(Exception):
    """The connection went away under a command."""


class _Execution:
    """One command on one channel."""

    def __init__(self, channel: Any, errand: Errand, deadline: float) -> None:
        self.stdout, self.stderr = Kept(errand.keep), Kept(errand.keep)
        self._input = errand.stdin
        self._feeder: threading.Thread | None = None
        self._channel = channel
        self._deadline = deadline

    def run(self, command: str) -> bool:
        """Run until the command has ended; False when the deadline came first.

        Raises:
            _Cut: when the connection was lost; the command may or may not have run.
        """
        return self._send(command) and self._follow()

    @property
    def feeding(self) -> bool:
        """Whether its input is still being written."""
        return self._feeder is not None and self._feeder.is_alive()

    def exit_code(self) -> int:
        """Return the exit code; -1 for a command that a signal ended.

        Raises:
            _Cut: when the connection ended without telling.
        """
        code: int = self._channel.exit_status
        if code == -1 and not self._channel.get_transport().is_active():
            raise _Cut
        return code

    def _send(self, command: str) -> bool:
        if not _exec(self._channel, command, self._deadline - time.monotonic()):
            return False
        if self._input:
            # Beside the reading: a command may want its output read before it reads on.
            self._feeder = threading.Thread(target=self._feed, daemon=True)
            self._feeder.start()
            return True
        try:
            self._channel.shutdown_write()
        except Exception:  # noqa: BLE001 - SSHException, EOFError, OSError: all mean the same here
            raise _Cut from None
        return True

    def _feed(self) -> None:
        # A command that ended, or closed its input, need not have read it to the end.
        with suppress(Exception):
            self._channel.sendall(self._input)
        with suppress(Exception):
            self._channel.shutdown_write()

    def _follow(self) -> bool:
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        ended_at: float | None = None
        while True:
            # Asked before reading: what arrives with the end must still be read.
            over = self._channel.eof_received or self._channel.closed
            self._read_ready()
            now = time.monotonic()
            if over:
                return self._await_status()
            if ended_at is None and self._channel.exit_status_ready():
                ended_at = now
            if ended_at is not None and now > ended_at + DRAIN_S:
                return True
            if ended_at is None and now >= self._deadline:
                return False
            poll.poll(1000 * min(_TICK_S, max(0.001, self._deadline - now)))

    def _read_ready(self) -> None:
        while self._channel.recv_ready():
            self.stdout.add(self._channel.recv(_CHUNK))
        while self._channel.recv_stderr_ready():
            self.stderr.add(self._channel.recv_stderr(_CHUNK))

    def _await_status(self) -> bool:
        """Both streams are closed; a command may do so and work on, so its end is waited for."""
        remaining = self._deadline - time.monotonic()
        return bool(self._channel.status_event.wait(max(0.0, remaining)))


def _exec(channel: Any, command: str, within_s: float) -> bool:
    """Start a command on a channel; False when the server did not accept it in time.

    paramiko waits without a limit for that; closing the channel is what ends the wait.

    Raises:
        _Cut: when the connection was lost; the command may or may not have run.
    """
    overtime = threading.Event()

    def give_up() -> None:
        overtime.set()
        channel.close()

    timer = threading.Timer(max(0.0, within_s), give_up)
    timer.daemon = True
    timer.start()
    try:
        channel.exec_command(command)
    except Exception:  # noqa: BLE001 - SSHException, EOFError, OSError: all mean the same here
        if not overtime.is_set():
            raise _Cut from None
    finally:
        timer.cancel()
    return not overtime.is_set()


def _open_channel(connection: Any) -> Any:
    """Return a channel, or None when the connection is no longer good for one."""
    try:
        return connection.transport.open_session(timeout=_CHANNEL_TIMEOUT_S)
    except Exception:  # noqa: BLE001 - SSHException, ChannelException, EOFError, OSError
        return None


def _close_quietly(channel: Any) -> None:
    with suppress(Exception):  # the connection may be gone already
        channel.close()


def _lost(host: str, errand: Errand) -> ConnectionLost:
    hint = (
        "it may or may not have happened, and is not tried again: look at the host"
        if errand.change
        else "nothing was changed; is the host overloaded, restarting, or its network down?"
    )
    return ConnectionLost(f"{host}: the connection was lost during {shown(errand)}", hint=hint)
