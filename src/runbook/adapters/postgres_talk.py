"""What both ways to talk SQL have in common: libpq over the network, psql on the server's host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runbook.adapters.postgres_errors import Door
    from runbook.model.errors import DatabaseError

Row = dict[str, Any]

#: Our own SQL finds nothing but the catalogue's own functions, operators and tables: whoever may
#: create objects in `public` could otherwise make better matches of them, and have them run with
#: the rights of our role, which may be a superuser's. Named, pg_temp is searched last, not first.
OWN_PATH = "pg_catalog, pg_temp"
PIN_PATH = f"SET LOCAL search_path = {OWN_PATH}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What one statement returned."""

    columns: tuple[str, ...]
    rows: list[Row]


class StatementError(Exception):
    """A row of statements broke off at one: what came before it, and the error for users."""

    def __init__(self, done: list[Reply], error: DatabaseError) -> None:
        super().__init__(error.message)
        self.done = done
        self.error = error


class Talk(Protocol):
    """A way in that opened: statements go out together, and replies come back."""

    #: Where it leads, in the inventory's words, for messages.
    door: Door
    #: server_version_num.
    server_version: int

    @property
    def conforming_strings(self) -> bool:
        """Whether a backslash in a literal is a backslash."""

    @property
    def alive(self) -> bool:
        """Whether it can be used, as far as this side can tell without asking."""

    def run(
        self, statements: Sequence[str], timeout_s: float, *, change: bool = False
    ) -> list[Reply]:
        """Send statements together, over one connection; return a reply for each.

        `change` says that they may change something: they are then never sent twice.

        Raises:
            StatementError: the server refused a statement; those after it were not run.
            SlotRefused: there was no slot any more; nothing was run.
            ConnectionLost: the connection broke, or was silent for longer than the timeout.
        """

    def recover(self) -> None:
        """End the transaction that a refused statement has left open."""

    def literal(self, value: object) -> str:
        """Return a value as SQL, with a blank before it so that it cannot join what precedes it.

        Raises:
            ValueError: for a value that is neither text, number, boolean nor None.
        """

    def close(self) -> None:
        """End it; may be called twice."""


def plain_literal(value: object) -> str | None:
    """Return a value as SQL where no quoting is needed; None for text and floats.

    Raises:
        ValueError: for a value that is neither text, number, boolean nor None.
    """
    if value is None:
        return " NULL"
    if isinstance(value, bool):
        return " TRUE" if value else " FALSE"
    if isinstance(value, int):
        return f" {value}"
    if not isinstance(value, str | float):
        raise ValueError(f"{value!r} is no SQL parameter: give text, a number or a boolean")  # noqa: TRY004
    if "\0" in str(value):
        raise ValueError("a SQL parameter cannot hold a NUL character")
    return None
