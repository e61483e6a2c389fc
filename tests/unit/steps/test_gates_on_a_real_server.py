"""sql and pg_released gates against a real PostgreSQL: full, too small a role, wrong SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runbook.doors import open_doors
from runbook.model.errors import DoorError
from runbook.model.inventory import Gate
from runbook.steps.gate import Seat
from runbook.steps.gates import bound

if TYPE_CHECKING:
    from runbook.model.fleet import Fleet
    from unit.postgres_server import Server


def asked(fleet: Fleet, **gate: Any) -> tuple[str | None, str | None]:
    """Ask one gate by the real doors; return its problem, and why it can never be asked."""
    gates = bound((Gate.model_validate(gate),), Seat(fleet=fleet, host=None, database="db"))
    doors = open_doors(fleet, rehearsal=True)

    def look(effect: Any) -> Any:
        try:
            return doors[type(effect)].perform(effect)
        except DoorError as error:
            return error

    try:
        outcomes = [look(effect) for effect in gates.looks()]
    finally:
        for door in {id(door): door for door in doors.values()}.values():
            door.close()
    unfit = gates.unaskable(outcomes)
    never = f"{unfit.problem} | {unfit.hint}" if unfit else None
    return gates.problem(outcomes), never


@pytest.mark.parametrize(
    ("sql", "well"),
    [
        ("SELECT true", True),
        ("SELECT count(*) < 0 FROM pg_stat_activity", False),
        ("SELECT 0.00::numeric", False),
        ("SELECT 0.01::numeric", True),
        ("SELECT 1e400::numeric", True),
        ("SELECT NULL", False),
        ("SELECT true WHERE false", False),
        ("SELECT 0::bigint, true", False),
        ("WITH a AS (SELECT 2 AS n) SELECT n FROM a;", True),
    ],
)
def test_what_a_statement_says(server: Server, sql: str, well: bool) -> None:
    problem, never = asked(server.fleet(), sql={"sql": sql})
    assert (problem is None, never) == (well, None)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM no_such_table",
        "SELECT 'a word'",
        "SELECT 1/",
        "SELECT pg_read_server_files_or_so()",
        "SELECT rolpassword FROM pg_authid",
    ],
)
def test_what_can_never_be_answered(server: Server, sql: str) -> None:
    problem, never = asked(server.fleet(), sql={"sql": sql})
    assert problem
    assert never


def test_room_is_counted_as_the_server_has_it(server: Server) -> None:
    free = server.usable
    assert asked(server.fleet(), pg_released={"free": free}) == (None, None)
    with server.crowd(3):
        problem, never = asked(server.fleet(), pg_released={"free": free})
        assert never is None
        assert f"{free - 3} of {free} usable slots are free in db, not {free}" in str(problem)
        assert asked(server.fleet(), pg_released={"free": free - 3}) == (None, None)


def test_a_full_server_is_a_problem_and_no_reason_to_stop(server: Server) -> None:
    with server.crowd(server.usable):
        problem, never = asked(server.fleet(), pg_released={"free": 1})
        assert problem
        assert never is None
        problem, never = asked(server.fleet(), sql={"sql": "SELECT true"})
        assert never is None


def test_a_role_that_sees_too_little_is_told_what_to_grant(server: Server) -> None:
    connect = server.fleet().inventory.databases["db"].connect.model_dump(exclude_none=True)
    blind = server.fleet(connect={**connect, "user": "blind"})
    problem, never = asked(blind, pg_released={})
    assert problem
    assert 'GRANT pg_monitor TO "blind"' in str(never)
