"""The gate `pg_released`: the database has room again, so many usable slots are free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from runbook.model.effects import ReadSql
from runbook.model.errors import DoorError
from runbook.model.inventory import ReleasedGate
from runbook.model.systemd import Unfit
from runbook.model.units import amount_ceil
from runbook.steps.database_gate import Sessions, row_of
from runbook.steps.gate import HostGate, Place, Seat
from runbook.steps.gates_sql import refusal


@dataclass(frozen=True, kw_only=True, slots=True)
class AskReleased:
    """A pg_released gate."""

    gate: ReleasedGate
    database: str
    kind: ClassVar[str] = "pg_released"
    place: ClassVar[Place] = "database"

    def sentence(self) -> str:
        """Return how much must be free, and where."""
        return f"{self.database} has {self.gate.free} of its usable slots free"

    def looks(self, at_most_s: float | None = None) -> tuple[ReadSql, ...]:
        """Return one count of all sessions."""
        del at_most_s  # one statement over a catalogue view; its own bound is short enough
        everyone = Sessions(database=self.database, application=None, address=None, role=None)
        return (everyone.look(),)

    def judge(self, outcomes: Sequence[Any]) -> str | None:
        """Judge how many slots are free."""
        (outcome,) = outcomes
        if isinstance(outcome, DoorError):
            return outcome.message
        row = row_of(outcome)
        if not row:
            return f"{self.database} gave no answer"
        if not row["sees_all"]:
            return f"{row['asked_as']} does not see other roles' sessions in {self.database}"
        free, wanted = _free(row), amount_ceil(self.gate.free, row["usable"])
        if free >= wanted:
            return None
        return f"{free} of {row['usable']} usable slots are free in {self.database}, not {wanted}"

    def unaskable(self, outcomes: Sequence[Any]) -> Unfit | None:
        """The server does not let us in, or does not show other roles' sessions."""
        (outcome,) = outcomes
        if isinstance(outcome, DoorError):
            return refusal(outcome)
        row = row_of(outcome)
        if not row or row["sees_all"]:
            return None
        return Unfit(
            problem=f"{row['asked_as']} does not see other roles' sessions in {self.database}",
            hint=f'GRANT pg_monitor TO "{row["asked_as"]}";',
        )

    def answer(self, outcomes: Sequence[Any]) -> str:
        """Return how many slots are free."""
        (outcome,) = outcomes
        if isinstance(outcome, DoorError):
            return outcome.message
        row = row_of(outcome)
        return f"{_free(row)} of {row['usable']} usable slots free" if row else "no answer"

    def by_hand(self) -> str:
        """Return the command that shows who holds the slots."""
        return f"runbook diagnose {self.database}"


def released_gate(gate: ReleasedGate, seat: Seat) -> HostGate:
    """Return the gate.

    Raises:
        UsageError: when no database is named.
    """
    return AskReleased(gate=gate, database=seat.of_database("pg_released", gate.database))


def _free(row: dict[str, Any]) -> int:
    return max(0, int(row["usable"]) - int(row["used"]))
