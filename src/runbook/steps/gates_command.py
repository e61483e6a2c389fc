"""The gate `command`: an argv on the host that only reads; good by its exit code and its output."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from runbook.model.document import visible
from runbook.model.effects import CommandOutcome, ReadCommand
from runbook.model.errors import DoorError, NotStarted
from runbook.model.fleet import ResolvedHost
from runbook.model.inventory import CommandGate
from runbook.model.systemd import Unfit
from runbook.model.units import format_duration
from runbook.steps.gate import LONGEST_SAID, HostGate, Place, Seat, within
from runbook.steps.service_manager import on_host

#: What a shell's or sshd's exec answers for a program that is not there, or cannot be run.
_NOT_RUN = frozenset({126, 127})


@dataclass(frozen=True, kw_only=True, slots=True)
class AskCommand:
    """A command gate of one host."""

    gate: CommandGate
    argv: tuple[str, ...]
    host: ResolvedHost
    kind: ClassVar[str] = "command"
    place: ClassVar[Place] = "host"

    def sentence(self) -> str:
        """Return the command, and where it runs."""
        sudo = "sudo " if self.gate.sudo else ""
        return f"on {self.host.name}: {sudo}{visible(shlex.join(self.argv))}"

    def looks(self, at_most_s: float | None = None) -> tuple[ReadCommand, ...]:
        """Return the command."""
        return (
            ReadCommand(
                host=self.host.name,
                argv=self.argv,
                timeout_s=within(self.gate.timeout, at_most_s),
                sudo=self.gate.sudo,
            ),
        )

    def judge(self, outcomes: Sequence[Any]) -> str | None:
        """Judge the exit code, then the output."""
        (outcome,) = outcomes
        if isinstance(outcome, DoorError):
            return outcome.message
        if outcome.exit_code != self.gate.exit_code:
            said = _said(outcome)
            words = f"exited with {outcome.exit_code}, not {self.gate.exit_code}"
            return words + (f": {said}" if said else "")
        if self.gate.contains is not None and self.gate.contains not in outcome.stdout:
            return f"exited with {outcome.exit_code}, without {self.gate.contains!r} in its output"
        return None

    def unaskable(self, outcomes: Sequence[Any]) -> Unfit | None:
        """The program is not there, or sudo does not let us."""
        (outcome,) = outcomes
        if isinstance(outcome, NotStarted):
            return Unfit(problem=outcome.message, hint=outcome.hint or "")
        if isinstance(outcome, DoorError) or outcome.exit_code == self.gate.exit_code:
            return None
        said = _said(outcome)
        if self.gate.sudo and outcome.stderr.startswith("sudo:"):
            hint = "sudo -n -l on the host lists what is allowed without a password"
            return Unfit(problem=said, hint=hint)
        if outcome.exit_code in _NOT_RUN:
            hint = "command.argv is one argv, not a shell line: is its program there?"
            return Unfit(problem=said or f"it exited with {outcome.exit_code}", hint=hint)
        return None

    def answer(self, outcomes: Sequence[Any]) -> str:
        """Return the exit code and how long it took."""
        (outcome,) = outcomes
        if isinstance(outcome, DoorError):
            return outcome.message
        return f"exited with {outcome.exit_code} in {format_duration(outcome.seconds)}"

    def by_hand(self) -> str:
        """Return the command, as the on-call's own terminal would run it."""
        return on_host(self.host, (*(("sudo",) if self.gate.sudo else ()), *self.argv))


def command_gate(gate: CommandGate, seat: Seat) -> HostGate:
    """Return the gate for one host.

    Raises:
        UsageError: without a host, and for a word that cannot be filled in.
    """
    host = seat.of_host("command")
    return AskCommand(gate=gate, argv=tuple(seat.fill(word) for word in gate.argv), host=host)


def _said(outcome: CommandOutcome) -> str:
    text = outcome.stderr.strip() or outcome.stdout.strip()
    return visible(text.partition("\n")[0])[:LONGEST_SAID]
