"""The step `query`: what it asks for, what it refuses when a playbook is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from runbook.adapters.postgres import PostgresDoor
from runbook.model.effects import ChangeSql, ReadSql, Rows
from runbook.model.step import StepContext
from runbook.steps.query import QUERY, QueryArgs

if TYPE_CHECKING:
    from unit.postgres_server import Server

CONTEXT: Any = StepContext(fleet=None, judge=None, target="db")  # type: ignore[arg-type]


def _drive(args: QueryArgs, phase: str, outcome: Any = None) -> tuple[Any, Any]:
    """Run a phase that wants one effect at most; return that effect and the result."""
    steps = QUERY.phases[phase](args, CONTEXT)
    effect = None
    try:
        effect = next(steps)
        steps.send(outcome(effect) if callable(outcome) else outcome)
    except StopIteration as stop:
        return effect, stop.value
    raise AssertionError("it wants more than one effect")


def _args(**given: Any) -> QueryArgs:
    return QueryArgs.model_validate({"database": "db", **given})


def test_reading_is_no_change_and_takes_no_lock() -> None:
    args = _args(sql="SELECT 1", read_only=True, limit=5)
    assert not QUERY.changes(args)
    assert QUERY.lock(args) is None
    effect, result = _drive(args, "act", Rows(rows=({"a": 1},), truncated=True))
    assert isinstance(effect, ReadSql)
    assert effect.limit == 5
    assert result.data == {"rows": [{"a": 1}], "truncated": True}
    assert result.summary == "1 row, and there are more"


def test_a_change_shows_exactly_what_it_touches() -> None:
    args = _args(sql="DELETE FROM t WHERE i = %(i)s", parameters={"i": 1})
    assert QUERY.changes(args)
    assert QUERY.lock(args) == "database db"
    _, prepared = _drive(args, "prepare")
    effect, result = _drive(args, "act", Rows(rows=()))
    assert isinstance(effect, ChangeSql)
    assert set(prepared.touches) == effect.footprint() == set(result.touches)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sql": "SELECT pg_terminate_backend(1)", "read_only": True}, "side effects"),
        ({"sql": "DROP TABLE t", "read_only": True}, "a read-only statement"),
        ({"sql": "SELECT 1; SELECT 2"}, "more than one statement"),
        ({"sql": "SELECT %(a)s"}, "no value"),
        ({"sql": "SELECT '%(a)s'", "parameters": {"a": 1}}, "inside quotes"),
        ({"sql": "SELECT 1", "parameters": {"a": 1}}, "not used"),
        ({"sql": "SELECT 1", "readonly": True}, "Extra inputs"),
    ],
)
def test_a_mistake_is_found_before_anything_runs(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        _args(**given)


def test_it_works_on_a_real_server(server: Server) -> None:
    door = PostgresDoor(server.fleet(), rehearsal=True)
    args = _args(
        sql="SELECT %(a)s AS a, %(b)s AS b", parameters={"a": "x'y", "b": True}, read_only=True
    )
    _, result = _drive(args, "act", door.perform)
    door.close()
    assert result.data["rows"] == [{"a": "x'y", "b": True}]
