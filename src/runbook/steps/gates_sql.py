"""The gate `sql`: one statement that only reads; good when its first value is true, or not zero.

`${host.…}` in it is a quoted value, never pasted text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from runbook.model.document import visible
from runbook.model.effects import ReadSql, Rows
from runbook.model.errors import (
    DatabaseError,
    DatabaseLogin,
    DoorError,
    MissingGrant,
    SecretMissing,
    UsageError,
)
from runbook.model.inventory import SqlGate
from runbook.model.sql_guard import fill_in, reading_statement
from runbook.model.systemd import Unfit
from runbook.model.templates import placeholders
from runbook.steps.gate import LONGEST_SAID, HostGate, Place, Seat, within

#: SQLSTATEs of statements that will never do: no such thing or no right (42), a value that does
#: not fit (22), a write in a READ ONLY transaction (25).
_NEVER = ("42", "22", "25")


@dataclass(frozen=True, kw_only=True, slots=True)
class AskSql:
    """A sql gate."""

    gate: SqlGate
    database: str
    sql: str
    parameters: tuple[tuple[str, Any], ...]
    kind: ClassVar[str] = "sql"
    place: ClassVar[Place] = "database"

    def sentence(self) -> str:
        """Return the statement, and who is asked."""
        return f"ask {self.database}: {visible(' '.join(self.gate.sql.split()))[:LONGEST_SAID]}"

    def looks(self, at_most_s: float | None = None) -> tuple[ReadSql, ...]:
        """Return the statement."""
        timeout_s = within(self.gate.timeout, at_most_s)
        return (
            ReadSql(
                database=self.database,
                sql=self.sql,
                parameters=self.parameters,
                limit=1,
                timeout_s=timeout_s,
            ),
        )

    def judge(self, outcomes: Sequence[Any]) -> str | None:
        """Judge the first value of the first row."""
        (outcome,) = outcomes
        if isinstance(outcome, DoorError):
            return outcome.message
        if not outcome.rows:
            return "the statement returned no row"
        value = _first(outcome)
        return None if _true(value) else f"the statement returned {_in_words(value)}"

    def unaskable(self, outcomes: Sequence[Any]) -> Unfit | None:
        """The server refuses the statement or us, or its first value is neither true nor false."""
        (outcome,) = outcomes
        if isinstance(outcome, DoorError):
            return refusal(outcome)
        if not outcome.rows or _true(_first(outcome)) is not None:
            return None
        value = _in_words(_first(outcome))
        return Unfit(
            problem=f"its first value is {value}, neither a truth nor a number",
            hint="let it return a condition, as in: SELECT count(*) < 10 FROM …",
        )

    def answer(self, outcomes: Sequence[Any]) -> str:
        """Return the first value, or why there is none."""
        (outcome,) = outcomes
        if isinstance(outcome, DoorError):
            return outcome.message
        return f"returned {_in_words(_first(outcome))}" if outcome.rows else "returned no row"

    def by_hand(self) -> str:
        """Return what leads to the database; the statement is the inventory's."""
        return f"runbook doctor {self.database}"


def sql_gate(gate: SqlGate, seat: Seat) -> HostGate:
    """Return the gate for one host, or for none.

    Raises:
        UsageError: for a statement that does not only read, or a name without a value.
    """
    database = seat.of_database("sql", gate.database)
    sql, parameters = gate.sql, {}
    for index, name in enumerate(dict.fromkeys(placeholders(gate.sql))):
        key = f"gate_{index}"
        parameters[key] = seat.fill(f"${{{name}}}")
        sql = _replaced(sql, name, f"%({key})s")
    try:
        fill_in(reading_statement(sql), dict.fromkeys(parameters, "NULL"))
    except ValueError as error:
        raise UsageError(
            f"the sql gate for {seat.name}: {error}",
            hint="one statement that only reads; ${host.name} stands without quotes",
        ) from None
    return AskSql(gate=gate, database=database, sql=sql, parameters=tuple(parameters.items()))


def refusal(error: DoorError) -> Unfit | None:
    """Say why a database will not answer such a question however long one waits, or None.

    A database that is full or away is no reason: it is what a restart may be there for.
    """
    never = isinstance(error, DatabaseLogin | MissingGrant | SecretMissing) or (
        isinstance(error, DatabaseError) and (error.sqlstate or "").startswith(_NEVER)
    )
    return Unfit(problem=error.message, hint=error.hint or "") if never else None


def _replaced(sql: str, name: str, by: str) -> str:
    """Put `by` in the place of every `${name}`, blanks inside the braces included."""
    parts = sql.split("${")
    kept = [parts[0]]
    for part in parts[1:]:
        inside, brace, after = part.partition("}")
        own = brace and inside.strip() == name
        kept.append(f"{by}{after}" if own else f"${{{part}")
    return "".join(kept)


def _first(rows: Rows) -> Any:
    return next(iter(rows.rows[0].values()), None)


def _true(value: Any) -> bool | None:
    """Return what a value says; None when it says neither."""
    if value is None:
        return False
    if isinstance(value, bool | int | float):
        return bool(value)
    try:
        return float(value) != 0  # numeric comes as text, so that no digit is lost
    except (TypeError, ValueError):
        return None


def _in_words(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return visible(str(value))[:LONGEST_SAID]
