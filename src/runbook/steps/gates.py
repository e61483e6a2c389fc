"""Gates: the table of their kinds, and all gates of one host together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runbook.model.effects import Observe
from runbook.model.fleet import Fleet, ResolvedHost
from runbook.model.inventory import Gate, Service
from runbook.model.systemd import Unfit
from runbook.steps.gate import HostGate, Place, Seat
from runbook.steps.gates_command import command_gate
from runbook.steps.gates_http import http_gate
from runbook.steps.gates_released import released_gate
from runbook.steps.gates_sql import sql_gate
from runbook.steps.gates_systemd import systemd_gate
from runbook.steps.gates_tcp import tcp_gate

#: A kind is one file and one line: its key in the inventory, and who makes a gate of it.
KINDS: Mapping[str, Callable[[Any, Seat], HostGate]] = {
    "http": http_gate,
    "tcp": tcp_gate,
    "systemd": systemd_gate,
    "command": command_gate,
    "sql": sql_gate,
    "pg_released": released_gate,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Gates:
    """The gates of one host, asked together; outcomes are those of `looks`, in order."""

    each: tuple[HostGate, ...]

    def __bool__(self) -> bool:
        return bool(self.each)

    def looks(self, at_most_s: float | None = None) -> tuple[Observe[Any], ...]:
        """Return the looks of every gate."""
        return tuple(look for gate in self.each for look in gate.looks(at_most_s))

    def pairs(self, outcomes: Sequence[Any]) -> Iterator[tuple[HostGate, tuple[Any, ...]]]:
        """Yield each gate with the outcomes of its own looks."""
        rest = iter(outcomes)
        for gate in self.each:
            yield gate, tuple(next(rest) for _ in gate.looks())

    def problem(self, outcomes: Sequence[Any]) -> str | None:
        """Return the first gate that was not answered well, in words; None when all were."""
        for gate, own in self.pairs(outcomes):
            problem = gate.judge(own)
            if problem is not None:
                return f"{problem} ({named(gate)})"
        return None

    def unaskable(self, outcomes: Sequence[Any]) -> Unfit | None:
        """Return the first gate that could not even be asked: no restart of ours mends that."""
        for gate, own in self.pairs(outcomes):
            unfit = gate.unaskable(own)
            if unfit is not None:
                problem = f"the gate {named(gate)} cannot be asked: {unfit.problem}"
                return Unfit(problem=problem, hint=unfit.hint)
        return None

    def answers(self, outcomes: Sequence[Any]) -> list[dict[str, Any]]:
        """Return what each gate was asked and what came back, as plain data."""
        return [
            {
                "kind": gate.kind,
                "asked": gate.sentence(),
                "good": gate.judge(own) is None,
                "answer": gate.answer(own),
            }
            for gate, own in self.pairs(outcomes)
        ]

    def at(self, *places: Place) -> Gates:
        """Return those that are asked from one of these places."""
        return Gates(each=tuple(gate for gate in self.each if gate.place in places))


def gates_of(name: str, service: Service, host: ResolvedHost, fleet: Fleet) -> Gates:
    """Return a service's gates for one host, in the inventory's order.

    Raises:
        UsageError: for a gate that names what the inventory does not have, or cannot be asked.
    """
    unit = (service.unit or name) if service.manager == "systemd" else None
    seat = Seat(fleet=fleet, host=host, unit=unit, database=service.database)
    return bound(service.gates, seat)


def bound(gates: Sequence[Gate], seat: Seat) -> Gates:
    """Return gates as they are asked at one seat.

    Raises:
        UsageError: see `gates_of`.
    """
    return Gates(each=tuple(_bound(gate, seat) for gate in gates))


def named(gate: HostGate) -> str:
    """Return how a message names a gate: a URL speaks for itself."""
    return gate.sentence().removeprefix("GET ")


def _bound(gate: Gate, seat: Seat) -> HostGate:
    (kind,) = (kind for kind in KINDS if getattr(gate, kind) is not None)
    return KINDS[kind](getattr(gate, kind), seat)
