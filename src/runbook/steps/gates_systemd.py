"""The gate `systemd`: a unit that runs, stays up, and is in no restart loop.

A unit that crashes and is started again is active at most looks: one that lived for 1.5 s passed
three looks in a row. So its age counts: a start of systemd's own accord, or one that is younger
than `stable`, is not good yet. How old it is, the host's own monotonic clock tells: a unit up for
so long has had one InvocationID throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from runbook.model.effects import CommandOutcome, Observe, ReadCommand, ShowUnit, UnitState
from runbook.model.errors import DoorError, UsageError
from runbook.model.fleet import ResolvedHost
from runbook.model.inventory import SystemdGate
from runbook.model.systemd import (
    Unfit,
    parse_span,
    running,
    start_limit_hit,
    unit_name_problem,
    up_seconds,
)
from runbook.model.units import format_duration
from runbook.steps.gate import HostGate, Place, Seat, within
from runbook.steps.service_manager import on_host

_UPTIME_ARGV = ("cat", "/proc/uptime")
_LOOK_TIMEOUT_S = 15.0
#: A unit that systemd itself has started again is trusted when it has run for this long, and for
#: three of its pauses between starts: a loop is quicker than that. NRestarts alone would hold a
#: crash of last week against it.
_LOOP_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class AskSystemd:
    """A systemd gate of one host."""

    gate: SystemdGate
    unit: str
    host: ResolvedHost
    kind: ClassVar[str] = "systemd"
    place: ClassVar[Place] = "host"

    def sentence(self) -> str:
        """Return what must hold of which unit."""
        stable = f", up for {format_duration(self.gate.stable)}" if self.gate.stable else ""
        return f"unit {self.unit} on {self.host.name}{stable}"

    def looks(self, at_most_s: float | None = None) -> tuple[Observe[Any], ...]:
        """Return a look at the unit, and one at the host's clock."""
        timeout_s = within(_LOOK_TIMEOUT_S, at_most_s)
        clock = ReadCommand(host=self.host.name, argv=_UPTIME_ARGV, timeout_s=timeout_s)
        return (ShowUnit(host=self.host.name, unit=self.unit), clock)

    def judge(self, outcomes: Sequence[Any]) -> str | None:
        """Judge its state, then its age."""
        state, clock = outcomes
        if isinstance(state, DoorError):
            return state.message
        return self._state_problem(state) or self._age_problem(state, clock)

    def unaskable(self, outcomes: Sequence[Any]) -> Unfit | None:
        """No such unit, or a name that is none."""
        state = outcomes[0]
        if isinstance(state, DoorError) or state["LoadState"] not in {"not-found", ""}:
            return None
        return Unfit(
            problem=f"systemd of {self.host.name} has no unit {self.unit}",
            hint="systemctl list-units --type=service --all shows the names; the gate's key is"
            " systemd.unit",
        )

    def answer(self, outcomes: Sequence[Any]) -> str:
        """Return the unit's state, and for how long it has been up."""
        state, clock = outcomes
        if isinstance(state, DoorError):
            return state.message
        age = _age(state, clock)
        since = "" if age is None else f", up for {format_duration(age)}"
        return f"{state['ActiveState'] or 'unknown'}/{state['SubState'] or 'unknown'}{since}"

    def by_hand(self) -> str:
        """Return the command that shows its state."""
        return on_host(self.host, ("systemctl", "status", "--no-pager", self.unit))

    def _state_problem(self, state: UnitState) -> str | None:
        if start_limit_hit(state):
            return f"{self.unit} has hit its start limit: systemd starts it no more"
        if running(state):
            return None
        words = f"{state['ActiveState'] or 'unknown'}/{state['SubState'] or 'unknown'}"
        result = state["Result"] if state["Result"] not in {"", "success"} else ""
        return f"{self.unit} is {words}" + (f", result {result}" if result else "")

    def _age_problem(self, state: UnitState, clock: CommandOutcome | DoorError) -> str | None:
        again = state["NRestarts"] if state["NRestarts"] not in {"", "0"} else ""
        trusted = max(self.gate.stable, _loop_s(state) if again else 0.0)
        if trusted == 0:
            return None
        age = _age(state, clock)
        if age is None:
            return f"for how long {self.unit} has been up cannot be seen"
        if age >= trusted:
            return None
        why = f"; systemd had to start it again {again} times" if again else ""
        return (
            f"{self.unit} has been up for {format_duration(age)}, not yet for"
            f" {format_duration(trusted)}{why}"
        )


def systemd_gate(gate: SystemdGate, seat: Seat) -> HostGate:
    """Return the gate for one host.

    Raises:
        UsageError: without a host or a unit, and for a unit's name that is none.
    """
    host = seat.of_host("systemd")
    unit = seat.fill(gate.unit) if gate.unit is not None else seat.unit
    if unit is None:
        raise UsageError(
            "a systemd gate looks at a unit, and neither it nor its service names one",
            hint="systemd: {unit: NAME.service}",
        )
    unfit = unit_name_problem(unit)
    if unfit is not None:
        raise UsageError(f"the gate's unit for {host.name}: {unfit.problem}", hint=unfit.hint)
    return AskSystemd(gate=gate, unit=unit, host=host)


def _loop_s(state: UnitState) -> float:
    return max(_LOOP_S, 3 * (parse_span(state["RestartUSec"]) or 0.0))


def _age(state: UnitState, clock: CommandOutcome | DoorError) -> float | None:
    """Return for how long the unit has been up; None when the host's clock does not tell."""
    words = clock.stdout.split() if isinstance(clock, CommandOutcome) and clock.ok else []
    try:
        return up_seconds(state, float(words[0]))
    except (IndexError, ValueError):
        return None
