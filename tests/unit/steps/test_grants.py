"""The step `grants`, against a real server: who is a member, who is not, and what is no role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from runbook.adapters.postgres import PostgresDoor
from runbook.model.step import StepContext
from runbook.steps.grants import GRANTS, GrantsArgs

if TYPE_CHECKING:
    from runbook.model.plan import Result
    from unit.postgres_server import Server


def _act(server: Server, *roles: str) -> Result:
    """Look, as the role of the database's `connect`."""
    fleet = server.fleet()
    door = PostgresDoor(fleet, rehearsal=True)
    args = GrantsArgs(database="db", roles=roles)
    context: Any = StepContext(fleet=fleet, judge=None, target="db")  # type: ignore[arg-type]
    drive = GRANTS.phases["act"](args, context)
    outcome: Any = None
    try:
        while True:
            outcome = door.perform(drive.send(outcome))
    except StopIteration as stop:
        result: Result = stop.value
        return result
    finally:
        door.close()


def test_it_tells_members_from_others_and_from_what_is_no_role(server: Server) -> None:
    server.admin("CREATE ROLE held_one NOLOGIN; CREATE ROLE lacked_one NOLOGIN")
    ours = _act(server, "pg_monitor").data["role"]
    server.admin(f"GRANT held_one TO {ours}")
    try:
        assert _act(server, "held_one").status == "ok"
        lacked = _act(server, "held_one", "lacked_one", "no_such_role")
        assert lacked.status == "refused"
        assert lacked.summary == (
            f"{ours} is no member of lacked_one; the server has no role no_such_role (on db)"
        )
        assert lacked.hint == f"GRANT lacked_one TO {ours};"
        assert lacked.data["missing"] == ["lacked_one"]
        # The statement that it names mends it.
        server.admin(lacked.hint)
        assert _act(server, "held_one", "lacked_one").status == "ok"
        assert _act(server, "no_such_role").hint == ""
    finally:
        server.admin("DROP ROLE held_one; DROP ROLE lacked_one")


def test_it_only_looks_and_takes_names_alone() -> None:
    args = GrantsArgs(database="db", roles=("pg_monitor",))
    assert not GRANTS.changes(args)
    for roles in ((), ("a; DROP TABLE x",), ("Pg",)):
        with pytest.raises(ValidationError):
            GrantsArgs(database="db", roles=roles)
