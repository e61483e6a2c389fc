"""The last rung: the server's processes as its own host shows them, and SIGTERM from there."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from runbook.model.document import visible
from runbook.model.effects import ChangeCommand, ReadCommand
from runbook.model.errors import CommandFailed, ConnectionLost, MissingGrant, NotStarted
from runbook.model.os_user import SHELL, script_as_os_user, sudo_refusal, sudoers_rule
from runbook.model.server_look import LookFailed, read_look
from runbook.model.server_scripts import TITLES, look_script, signal_script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runbook.model.effects import CommandOutcome
    from runbook.model.fleet import ResolvedHost
    from runbook.model.inventory import LocalSocket
    from runbook.model.ports import Door as HostDoor
    from runbook.model.processes import ServerProcesses
    from runbook.model.sessions import SessionId

#: Seconds for one look: it takes a tenth of one with 100 sessions, and the host may be overloaded.
_LOOK_TIMEOUT_S = 15.0
#: Seconds for one batch of signals: a few milliseconds for each session.
_SIGNAL_TIMEOUT_S = 15.0
#: Bytes of the answer that are kept: 10,000 processes are about 6 MB.
_KEPT_BYTES = 64 * 1024 * 1024

_TICKS = re.compile(r"ticks (\d+)")
_MARK = re.compile(r"(received|switches) (\d+)")


def seen_from_host(session: SessionId) -> bool:
    """Whether a session was seen by its process alone, and is to be signalled that way."""
    return _TICKS.fullmatch(session.backend_start) is not None


class ServerHost:
    """One server's host, over whichever door leads to it."""

    def __init__(
        self, hosts: HostDoor, host: ResolvedHost, local: LocalSocket, database: str
    ) -> None:
        self._hosts = hosts
        self._host = host
        self._local = local
        self._database = database

    @property
    def sudoers_rule(self) -> str:
        """The line that lets us read the server's files there, and signal its sessions."""
        return sudoers_rule(self._host.ssh.user, self._local.os_user, SHELL)

    def look(self) -> ServerProcesses:
        """Return the processes of the server on the declared port.

        Raises:
            CommandFailed: the host's answer holds no such server.
            DoorError: the host cannot be reached.
        """
        done: CommandOutcome = self._hosts.perform(
            ReadCommand(
                host=self._host.name,
                argv=script_as_os_user(self._local.os_user, or_plainly=True),
                timeout_s=_LOOK_TIMEOUT_S,
                stdin=look_script(self._local.port, self._local.socket_dir, self._local.os_user),
                keep_bytes=_KEPT_BYTES,
            )
        )
        try:
            user, processes = read_look(self._host.name, self._local.port, done.stdout)
        except LookFailed as error:
            hint = error.hint.replace("databases.…", f"databases.{self._database}")
            refusal = sudo_refusal(done.stderr)
            more = f"; {visible(refusal)}: {self.sudoers_rule}" if refusal else ""
            raise CommandFailed(visible(error.message), hint=hint + more) from None
        except (ValueError, IndexError):
            said = visible(" ".join(done.stdout[:200].split()))
            raise CommandFailed(
                f"{self._host.name} told its processes in a way that cannot be read: {said}"
            ) from None
        if user == self._local.os_user:
            return replace(processes, as_owner=True)
        return replace(processes, unseen=(self._refused(done.stderr), *processes.unseen))

    def signal(self, sessions: Sequence[SessionId]) -> tuple[int, ...]:
        """Send SIGTERM to those that are still as they were seen; return their pids, in order.

        Raises:
            MissingGrant: sudo does not let us be the server's user, or that user may not signal
                any of them; nothing was signalled.
            CommandFailed: the server does not keep its titles up; nothing was signalled.
            ConnectionLost: some may have been signalled.
        """
        calls = [call for session in sessions if (call := _call(session))]
        if not calls:
            return ()
        local = self._local
        done = self._perform(signal_script(local.port, local.socket_dir, local.os_user, calls))
        said = [line.partition(" ") for line in done.stdout.splitlines()]
        words = {word: rest for word, _, rest in said}
        told = {int(pid): word for word, _, pid in said if pid.isdecimal()}
        self._check_that_it_ran(done, words)
        signalled = tuple(s.pid for s in sessions if told.get(s.pid) == "signalled")
        denied = sorted(pid for pid, word in told.items() if word == "denied")
        # Of a batch that was signalled in part, the part is told; the rest is as it was.
        if denied and not signalled:
            raise MissingGrant(
                f"{self._host.name}: {local.os_user!r} may not signal"
                f" {', '.join(map(str, denied))}",
                hint=f"databases.{self._database}.local.os_user is whom the server runs as",
            )
        return signalled

    def _check_that_it_ran(self, done: CommandOutcome, words: dict[str, str]) -> None:
        """Raise unless the script came to its end, and signalled what it was to signal."""
        if "signal" not in words and sudo_refusal(done.stderr):
            raise MissingGrant(self._refused(done.stderr), hint=self.sudoers_rule)
        if "end" not in words:
            raise ConnectionLost(
                f"{self._host.name}: the script that signals sessions did not come to its end"
                f" (exit code {done.exit_code})",
                hint=f"some may have been signalled: look at {self._database} again",
            )
        if "titles" in words:
            raise CommandFailed(
                f"{self._host.name}: the server's titles need not be kept up"
                f" ({TITLES} is {visible(words['titles']) or 'not told'}): nothing was signalled,"
                " because a session that is at work may bear the title `idle`",
                hint=f"when a slot is free: ALTER SYSTEM SET {TITLES} = on, and a reload",
            )

    def _perform(self, script: str) -> CommandOutcome:
        effect = ChangeCommand(
            host=self._host.name,
            argv=script_as_os_user(self._local.os_user, or_plainly=False),
            timeout_s=_SIGNAL_TIMEOUT_S,
            stdin=script,
        )
        try:
            done: CommandOutcome = self._hosts.perform(effect)
        except NotStarted:
            raise
        except CommandFailed as error:
            # It did not end in time, and may have signalled some.
            raise ConnectionLost(error.message, hint=error.hint) from None
        return done

    def _refused(self, stderr: str) -> str:
        said = visible(sudo_refusal(stderr) or "sudo does not let us")
        return (
            f"{self._host.name}: the server's settings, and nothing can be terminated from there:"
            f" {said}; in /etc/sudoers.d: {self.sudoers_rule}"
        )


def _call(session: SessionId) -> tuple[int, int, str, int, str] | None:
    """Return what the script compares; None for a session that cannot be compared."""
    ticks, mark = _TICKS.fullmatch(session.backend_start), _MARK.fullmatch(session.state_change)
    if not ticks or not mark or not session.state.startswith("idle"):
        return None
    return session.pid, int(ticks[1]), mark[1], int(mark[2]), session.state
