"""What is in flight: each task that was begun and has not ended, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from runbook.model.plan import Obligation, Result, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Flight:
    """One task in flight."""

    key: str
    target: str
    phase: str
    changes: bool
    #: The last thing that it said of itself: `draining`, `stabilising`, ….
    stage: str = ""
    #: The change that was asked for and has not been answered.
    doing: str | None = None
    #: Whether anything was asked for at all.
    acted: bool = False
    #: Commands that finish or undo it by hand, where the step has noted some as `by_hand`.
    by_hand: tuple[str, ...] = ()

    def words(self) -> str:
        """Say who is at what."""
        return f"{self.target} ({self.stage or self.phase})"


class Flights:
    """Follows the tasks of a run by their events. The caller sees to it that one tells at a time.

    A signal's handler reads it at any moment: each change here is one assignment.
    """

    def __init__(self) -> None:
        self._by_key: dict[str, Flight] = {}

    def begin(self, task: Task) -> None:
        """Take note of a task that begins."""
        self._by_key[task.key] = Flight(
            key=task.key, target=task.target, phase=task.phase, changes=task.changes
        )

    def end(self, key: str) -> None:
        """Take note of one that has ended."""
        self._by_key.pop(key, None)

    def follow(self, kind: str, key: str | None, data: Mapping[str, Any]) -> None:
        """Take note of how far a task is."""
        flight = self._by_key.get(key or "")
        if flight is None:
            return
        if kind == "said":
            self._by_key[flight.key] = replace(flight, stage=str(data["stage"]))
        elif kind == "intended":
            self._by_key[flight.key] = replace(flight, doing=data["sentence"], acted=True)
        elif kind == "changed":
            self._by_key[flight.key] = replace(flight, doing=None)
        elif kind == "noted" and "by_hand" in data:
            self._by_key[flight.key] = replace(flight, by_hand=tuple(data["by_hand"]))

    def now(self) -> tuple[Flight, ...]:
        """Return what is in flight at this moment, by key."""
        return tuple(sorted(self._by_key.values(), key=lambda flight: flight.key))


def left_behind(flight: Flight, owed: tuple[Obligation, ...]) -> Result:
    """Say of a task that nobody waits for any more how its target was left.

    A look, or a change that was not yet asked for, has changed nothing.
    """
    debts = tuple(line for debt in owed if debt.task == flight.key for line in debt.by_hand)
    stage = f" while {flight.stage}" if flight.stage else ""
    if not flight.acted:
        why = f"left{stage}: nobody waited for its end; nothing was changed by it"
        return Result(status="failed", summary=why)
    if flight.doing is not None:
        why = f"{flight.doing}: asked for, and goes on there; nobody waited for its end"
    else:
        why = f"left{stage}: what was asked for is done, nobody waited to see whether it is well"
    return Result(status="unknown", summary=why, by_hand=(*flight.by_hand, *debts))
