"""Spoiled requests through the whole application, and what became of those that it took."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from fuzz.served import all_in_process, play
from fuzz.whole import whole


@pytest.mark.parametrize(("count", "over_http"), [(600, False), (100, True)])
def test_nothing_but_what_is_documented_and_nothing_runs_that_no_rule_allows(
    count: int, over_http: bool
) -> None:
    """As `make fuzz-alerts` plays very many of them."""
    broken, counts = play(range(count), over_http=over_http)
    assert broken == []
    for way in ("202", "400", "401", "403", "404", "415", "421", "kept", "ran"):
        assert counts[way], counts


def test_a_run_that_no_rule_allows_would_be_noticed(tmp_path: Path) -> None:
    with whole(tmp_path) as stage:
        asyncio.run(all_in_process(stage.app, range(200)))
        stage.settle()
        _, ran = stage.check()
        assert ran
        with sqlite3.connect(tmp_path / "serve.db") as inbox:
            inbox.execute("UPDATE entries SET target = 'elsewhere' WHERE state = 'ran'")
        with pytest.raises(AssertionError):
            stage.check()
