"""A server that refuses a signal in spite of its own rule, as managed services do."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from runbook.adapters.postgres_signal import signal
from runbook.adapters.postgres_talk import Reply, StatementError
from runbook.model.errors import ConnectionLost, DatabaseError, MissingGrant
from runbook.model.sessions import SessionId

SUPERUSERS = 1


@dataclass
class Managed:
    """A wire to a server that aborts the first message, and then keeps to its rule."""

    aborted: bool = False
    #: What ends the first message.
    sqlstate: str | None = "42501"
    recovered: int = 0
    door: Any = field(default_factory=lambda: SimpleNamespace(user="oncall", database="db"))

    def literal(self, value: object) -> str:
        return f" '{value}'"

    def run(self, statements: list[str], _timeout_s: float, *, change: bool = False) -> list[Reply]:  # noqa: ARG002
        begin, *_, sql, commit = statements
        assert (begin, commit) == ("BEGIN", "COMMIT")
        if not self.aborted:
            self.aborted = True
            raise StatementError([], DatabaseError("it broke off", sqlstate=self.sqlstate))
        asked = [pid for pid in (SUPERUSERS, 2, 3) if f"({pid}," in sql]
        rows: list[dict[str, Any]] = [
            {"pid": pid, "may": pid != SUPERUSERS, "signalled": pid != SUPERUSERS or None}
            for pid in asked
        ]
        if "pg_terminate_backend" not in sql:  # who is still there
            rows = [row for row in rows if not row["may"]]
        nothing = [Reply(columns=(), rows=[])]
        return [*nothing * (len(statements) - 2), Reply(columns=("pid",), rows=rows), *nothing]

    def recover(self) -> None:
        self.recovered += 1


def ids(*pids: int) -> list[SessionId]:
    return [SessionId(pid=pid, backend_start="a", state_change="b", state="idle") for pid in pids]


def test_one_by_one_the_others_are_signalled() -> None:
    wire: Any = Managed()
    assert signal(wire, ids(SUPERUSERS, 2, 3)) == (2, 3)
    assert wire.recovered == 1


def test_one_by_one_the_denied_are_told() -> None:
    wire: Any = Managed()
    with pytest.raises(MissingGrant, match="may not terminate the sessions 1"):
        signal(wire, ids(SUPERUSERS))


@pytest.mark.parametrize("sqlstate", ["57014", "XX000", None])
def test_what_breaks_off_for_another_reason_is_in_doubt(sqlstate: str | None) -> None:
    wire: Any = Managed(sqlstate=sqlstate)
    with pytest.raises(ConnectionLost, match="the signalling broke off: it broke off"):
        signal(wire, ids(2, 3))
