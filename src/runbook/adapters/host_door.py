"""What the doors to hosts share: which effect becomes which argv, and output that stays bounded."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from runbook.model.effects import (
    Change,
    ChangeCommand,
    CommandOutcome,
    ReadCommand,
    RestartUnit,
    ShowUnit,
)
from runbook.model.errors import ChangeInRehearsal, CommandFailed
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


class Kept:
    """One stream of output: its first `KEPT_BYTES`, and the count of the rest."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._dropped = 0

    def add(self, data: bytes) -> None:
        """Take what has arrived."""
        room = KEPT_BYTES - len(self._data)
        self._data += data[:room]
        self._dropped += max(0, len(data) - room)

    def text(self) -> str:
        """Return it as text; bytes that are no UTF-8 become U+FFFD."""
        text = self._data.decode("utf-8", errors="replace")
        return f"{text}\n[{self._dropped} more bytes were cut off]" if self._dropped else text


class HostDoor(ABC):
    """Performs ReadCommand, ShowUnit, RestartUnit and ChangeCommand on hosts."""

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
                return self._command(effect.host, argv, sudo, effect.timeout_s, change=True)
            case ChangeCommand(host=host, argv=argv, sudo=sudo, timeout_s=timeout_s):
                return self._command(host, argv, sudo, timeout_s, change=True)
            case ReadCommand(host=host, argv=argv, sudo=sudo, timeout_s=timeout_s):
                return self._command(host, argv, sudo, timeout_s, change=False)
            case _:
                raise TypeError(f"{type(self).__name__} does not perform {type(effect).__name__}")

    @abstractmethod
    def close(self) -> None:
        """Give back what is open; may be called twice."""

    @abstractmethod
    def _run(
        self, host: ResolvedHost, argv: tuple[str, ...], timeout_s: float, *, change: bool
    ) -> CommandOutcome:
        """Run an argv on a host."""

    def _command(
        self, name: str, argv: tuple[str, ...], sudo: bool, timeout_s: float, *, change: bool
    ) -> CommandOutcome:
        whole = (*SUDO, *argv) if sudo else argv
        return self._run(self._fleet.host(name), whole, timeout_s, change=change)

    def _show(self, effect: ShowUnit) -> UnitState:
        outcome = self._command(
            effect.host, show_argv(effect.unit), False, SHOW_TIMEOUT_S, change=False
        )
        state = parse_show(outcome.stdout)
        if not state.properties:
            said = outcome.stderr.strip() or f"exit code {outcome.exit_code}"
            raise CommandFailed(
                f"{effect.host}: systemctl show {effect.unit} said nothing: {said}",
                hint="is systemd running there? a service without systemd is declared with"
                " `manager: {command: …}` in the inventory",
            )
        return state


def out_of_time(
    host: str, argv: tuple[str, ...], timeout_s: float, *, change: bool
) -> CommandFailed:
    """Return the error of a command that did not end in time."""
    hint = (
        f"it was not stopped and may still be at work on {host}: look there before trying again"
        if change
        else "the host may be overloaded, or the command waits for something"
    )
    return CommandFailed(f"{host}: {shlex.join(argv)} did not end within {timeout_s:g}s", hint=hint)
