"""What the doors to hosts share: which effect becomes which argv, and output that stays bounded."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from runbook.adapters.secret_holes import filled
from runbook.model.effects import (
    Change,
    ChangeCommand,
    CommandOutcome,
    PutFile,
    ReadCommand,
    RestartUnit,
    ShowUnit,
)
from runbook.model.errors import ChangeInRehearsal, CommandFailed
from runbook.model.host_files import put_argv
from runbook.model.setup_effects import PutSecretFile
from runbook.model.systemd import parse_show, restart_argv, show_argv

if TYPE_CHECKING:
    from runbook.model.effects import Effect, UnitState
    from runbook.model.fleet import Fleet, ResolvedHost

#: Bytes kept of each of a command's two streams; the rest is read and thrown away.
KEPT_BYTES = 256 * 1024
#: How long output is awaited after the command itself has ended: a daemon that it started may hold
#: the pipe open for good.
DRAIN_S = 1.0
#: A look at systemd is answered in milliseconds; a host that takes longer is in trouble.
SHOW_TIMEOUT_S = 15.0

SUDO = ("sudo", "-n")


@dataclass(frozen=True, kw_only=True, slots=True)
class Errand:
    """A command for a host, as it is run there."""

    argv: tuple[str, ...]
    timeout_s: float
    #: Whether it may change something: then it is neither repeated nor killed.
    change: bool
    #: What it reads, to its end; nothing, when empty.
    stdin: bytes = b""
    #: Bytes of each output stream that are kept.
    keep: int = KEPT_BYTES


class Kept:
    """One stream of output: its first bytes up to a bound, and the count of the rest."""

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self._most = most
        self._data = bytearray()
        self._dropped = 0

    def add(self, data: bytes) -> None:
        """Take what has arrived."""
        room = self._most - len(self._data)
        self._data += data[:room]
        self._dropped += max(0, len(data) - room)

    def text(self) -> str:
        """Return it as text; bytes that are no UTF-8 become U+FFFD."""
        text = self._data.decode("utf-8", errors="replace")
        return f"{text}\n[{self._dropped} more bytes were cut off]" if self._dropped else text


class HeldCommand(Protocol):
    """A command that stays at work on a host, and is talked to line by line."""

    def ask(self, line: str | None, within_s: float) -> str | None:
        """Send a line, or none, and return the next one; None when it has ended or says nothing."""

    def close(self) -> None:
        """Close its stdin, which ends it; may be called twice."""


class HostDoor(ABC):
    """Performs ReadCommand, ShowUnit, RestartUnit, ChangeCommand and PutFile on hosts."""

    def __init__(self, fleet: Fleet, *, rehearsal: bool) -> None:
        self._fleet = fleet
        self._rehearsal = rehearsal

    def perform(self, effect: Effect[Any]) -> CommandOutcome | UnitState:
        """Perform one effect; see `runbook.model.ports.Door`."""
        if self._rehearsal and isinstance(effect, Change):
            raise ChangeInRehearsal(
                f"this is a rehearsal, and it was asked to change something: {effect.sentence()}",
                hint="nothing was changed; this is a defect of the step: report it",
            )
        match effect:
            case ShowUnit():
                return self._show(effect)
            case RestartUnit():
                argv = restart_argv(effect.unit)
                sudo = self._fleet.host(effect.host).sudo
                errand = Errand(argv=argv, timeout_s=effect.timeout_s, change=True)
                return self._command(effect.host, errand, sudo)
            case ChangeCommand():
                return self._command(effect.host, _errand(effect, change=True), effect.sudo)
            case ReadCommand():
                return self._command(effect.host, _errand(effect, change=False), effect.sudo)
            case PutSecretFile():
                content = filled(effect.content, effect.holes)
                return self._command(effect.host, _put(effect, content), effect.sudo)
            case PutFile():
                return self._command(effect.host, _put(effect, effect.content), effect.sudo)
            case _:
                raise TypeError(f"{type(self).__name__} does not perform {type(effect).__name__}")

    def hold(self, host: str, argv: tuple[str, ...], within_s: float) -> HeldCommand:
        """Start a command that stays until it is closed; `within_s` is for its start alone.

        Raises:
            DoorError: when it could not be started.
            ChangeInRehearsal: what stays on a host is no look.
        """
        if self._rehearsal:
            raise ChangeInRehearsal(f"this is a rehearsal: nothing is held on {host}")
        return self._hold(self._fleet.host(host), argv, within_s)

    @abstractmethod
    def close(self) -> None:
        """Give back what is open; may be called twice."""

    @abstractmethod
    def _hold(self, host: ResolvedHost, argv: tuple[str, ...], within_s: float) -> HeldCommand:
        """Start a command that stays."""

    @abstractmethod
    def _run(self, host: ResolvedHost, errand: Errand) -> CommandOutcome:
        """Run a command on a host."""

    def _command(self, name: str, errand: Errand, sudo: bool) -> CommandOutcome:
        whole = replace(errand, argv=(*SUDO, *errand.argv)) if sudo else errand
        return self._run(self._fleet.host(name), whole)

    def _show(self, effect: ShowUnit) -> UnitState:
        errand = Errand(argv=show_argv(effect.unit), timeout_s=SHOW_TIMEOUT_S, change=False)
        outcome = self._command(effect.host, errand, False)
        state = parse_show(outcome.stdout)
        if not state.properties:
            said = outcome.stderr.strip() or f"exit code {outcome.exit_code}"
            raise CommandFailed(
                f"{effect.host}: systemctl show {effect.unit} said nothing: {said}",
                hint="is systemd running there? a service without systemd is declared with"
                " `manager: {command: …}` in the inventory",
            )
        return state


def _errand(effect: ReadCommand | ChangeCommand, *, change: bool) -> Errand:
    keep = effect.keep_bytes if isinstance(effect, ReadCommand) else None
    return Errand(
        argv=effect.argv,
        timeout_s=effect.timeout_s,
        change=change,
        stdin=effect.stdin.encode("utf-8", errors="replace"),
        keep=KEPT_BYTES if keep is None else keep,
    )


def _put(effect: PutFile, content: str) -> Errand:
    argv = put_argv(
        effect.path,
        effect.expected,
        content,
        effect.backup,
        effect.mode,
        effect.owner,
        follow=effect.follow,
    )
    return Errand(argv=argv, timeout_s=effect.timeout_s, change=True, stdin=content.encode())


def shown(errand: Errand) -> str:
    """Return its first line: the rest of an inline script tells a reader nothing."""
    first, *more = shlex.join(errand.argv).splitlines()
    return f"{first} …" if more else first


def out_of_time(host: str, errand: Errand) -> CommandFailed:
    """Return the error of a command that did not end in time."""
    hint = (
        f"it was not stopped and may still be at work on {host}: look there before trying again"
        if errand.change
        else "the host may be overloaded, or the command waits for something"
    )
    return CommandFailed(
        f"{host}: {shown(errand)} did not end within {errand.timeout_s:g}s", hint=hint
    )
