"""`runbook pool plan` at the command line: what is asked for wrongly, and what cannot be seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runbook.cli.main import run

INVENTORY: dict[str, Any] = {
    "version": 1,
    "hosts": {"web-1": {"address": "127.0.0.1"}},
    "databases": {
        "db": {"connect": {"host": "127.0.0.1", "port": 1, "user": "oncall"}},
        "db-2": {"connect": {"host": "127.0.0.1", "port": 2, "user": "oncall"}},
    },
    "services": {"shop": {"hosts": "web-1", "database": "db", "pool": {"size": 3}}},
}


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `runbook pool plan` on an inventory whose servers do not answer."""
    monkeypatch.setenv("RUNBOOK_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inventory.yaml").write_text(json.dumps(INVENTORY))

    def _call(*words: str) -> tuple[int, str, str]:
        code = run(["pool", "plan", *words])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return _call


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["db-1"], "did you mean 'db-2'?"),
        (["db", "--what-if", "shop.sise=3"], "did you mean 'size'?"),
        (["db-2", "--what-if", "shop.size=3"], "service 'shop' uses 'db', not 'db-2'"),
        (["db", "--window", "3"], "is no duration"),
        (["db", "--window", "1h"], "1h: at most 10m"),
        (["db", "--reserve", "120%"], "no percentage"),
        (["--check"], "--check answers for one database"),
    ],
)
def test_a_slip_of_the_pen_is_told_before_anything_is_asked(
    call: Any, words: list[str], said: str
) -> None:
    code, out, err = call(*words)
    assert code == 2
    assert out == ""
    assert said in err


def test_a_server_that_does_not_answer(call: Any) -> None:
    code, out, err = call("db", "--window", "0")
    assert code == 1
    assert out == ""
    assert "127.0.0.1" in err


def test_of_several_each_is_told_and_json_stays_json(call: Any) -> None:
    code, out, err = call("--window", "0", "--format", "json")
    assert code == 1
    assert json.loads(out) == []
    assert "error: db: " in err
    assert "error: db-2: " in err


@pytest.mark.parametrize("target", ["db", "no-such"])
def test_a_check_that_cannot_look_is_unknown(call: Any, target: str) -> None:
    code, out, _ = call(target, "--window", "0", "--check")
    assert code == 3
    assert out.startswith(f"RUNBOOK UNKNOWN - {target}: ")
