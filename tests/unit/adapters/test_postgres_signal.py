"""A server that refuses a signal in spite of its own rule, as managed services do."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from runbook.adapters.postgres_signal import signal
from runbook.adapters.postgres_talk import Reply, StatementError
from runbook.model.errors import DatabaseError, MissingGrant
from runbook.model.sessions import SessionId

SUPERUSERS = 1


@dataclass
class Managed:
    """A wire to a server that aborts the first message, and then keeps to its rule."""

    aborted: bool = False
    door: Any = field(default_factory=lambda: SimpleNamespace(user="oncall", database="db"))

    def literal(self, value: object) -> str:
        return f" '{value}'"

    def run(self, statements: list[str], _timeout_s: float, *, change: bool = False) -> list[Reply]:  # noqa: ARG002
        (sql,) = statements
        if not self.aborted:
            self.aborted = True
            raise StatementError([], DatabaseError("permission denied", sqlstate="42501"))
        asked = [pid for pid in (SUPERUSERS, 2, 3) if f"({pid}," in sql]
        rows: list[dict[str, Any]] = [
            {"pid": pid, "may": pid != SUPERUSERS, "signalled": pid != SUPERUSERS or None}
            for pid in asked
        ]
        if "pg_terminate_backend" not in sql:  # who is still there
            rows = [row for row in rows if not row["may"]]
        return [Reply(columns=("pid", "may", "signalled"), rows=rows)]


def ids(*pids: int) -> list[SessionId]:
    return [SessionId(pid=pid, backend_start="a", state_change="b", state="idle") for pid in pids]


def test_one_by_one_the_others_are_signalled() -> None:
    wire: Any = Managed()
    assert signal(wire, ids(SUPERUSERS, 2, 3)) == (2, 3)


def test_one_by_one_the_denied_are_told() -> None:
    wire: Any = Managed()
    with pytest.raises(MissingGrant, match="may not terminate the sessions 1"):
        signal(wire, ids(SUPERUSERS))
