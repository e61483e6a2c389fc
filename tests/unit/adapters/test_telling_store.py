"""What was told is kept, by several processes at once."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from runbook.adapters.telling_store import TellingStore
from runbook.model.errors import DoorError
from runbook.model.intake import Told

TOLD = Told(run_id="r", recipient="pagerduty", key="start", content={"text": "ü"}, since=5.0)


def test_what_is_kept_comes_back_in_order(tmp_path: Path) -> None:
    one, two = (TellingStore(tmp_path / "telling.db") for _ in range(2))
    result = replace(TOLD, key="result")
    one.keep(TOLD)
    two.keep(result)
    sent = replace(TOLD, state="sent", attempts=2, remote_id="N1", sent_at=7.5, why="")
    two.keep(sent)
    assert one.of("r", "pagerduty") == {"start": sent, "result": result}
    assert list(one.of("r", "pagerduty")) == ["start", "result"]
    assert one.of("r", "chat") == {}
    assert one.pending() == [result]
    one.keep(replace(result, state="given-up", why="no"))
    assert ([each.why for each in two.given_up()], two.pending()) == (["no"], [])
    two.forget(before=6.0)
    assert one.of("r", "pagerduty") == {}


def test_what_is_due_is_not_forgotten(tmp_path: Path) -> None:
    store = TellingStore(tmp_path / "telling.db")
    store.keep(TOLD)
    store.forget(before=1e12)
    assert store.pending() == [TOLD]


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    TellingStore(tmp_path / "state" / "telling.db").close()
    assert (tmp_path / "state" / "telling.db").stat().st_mode & 0o777 == 0o600


def test_alarms_are_kept_by_key(tmp_path: Path) -> None:
    store = TellingStore(tmp_path / "telling.db")
    assert store.said_of("db") is None
    store.say_of("db", {"open": True})
    store.say_of("db", {"open": False})
    assert store.said_of("db") == {"open": False}


@pytest.mark.parametrize("what", ["no database", "a later version"])
def test_a_file_that_is_none_is_told(tmp_path: Path, what: str) -> None:
    path = tmp_path / "telling.db"
    if what == "no database":
        path.write_text("x" * 10_000)
    else:
        sqlite3.connect(path).execute("PRAGMA user_version = 99")
    with pytest.raises(DoorError, match=r"telling\.db"):
        TellingStore(path)
