"""`runbook pool apply` and `pool guard` at the command line: what is asked for wrongly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runbook.cli.main import run

SETTING = {"env_file": "/etc/shop.env", "key": "POOL_SIZE"}
INVENTORY: dict[str, Any] = {
    "version": 1,
    "hosts": {"web-1": {"address": "127.0.0.1"}},
    "databases": {
        "db": {"connect": {"host": "127.0.0.1", "port": 1, "user": "oncall"}},
        "other": {"connect": {"host": "127.0.0.1", "port": 2, "user": "oncall"}},
    },
    "services": {
        "shop": {
            "hosts": "web-1",
            "database": "db",
            "pool": {"size": 3},
            "settings": {"size": SETTING},
        }
    },
}


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `runbook pool …` on an inventory whose servers do not answer."""
    monkeypatch.setenv("RUNBOOK_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inventory.yaml").write_text(json.dumps(INVENTORY))

    def _call(words: str) -> tuple[int, str]:
        code = run(["pool", *words.split()])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return code, " ".join(captured.err.split())

    return _call


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("apply db --set shop.sise=3", 2, "did you mean 'size'?"),
        ("apply db --set shp.size=3", 2, "did you mean 'shop'?"),
        ("apply db --set shop.overflow=3", 2, "services.shop.settings has no overflow"),
        ("apply db --set shop.size=3 --service shop", 2, "--set names the services"),
        ("apply other --service shop", 2, "uses database 'db', not 'other'"),
        ("apply db --window 5", 2, "is no duration"),
        ("apply db -p bathes=1", 2, "there are batches, min_available, settle"),
        ("apply db -p batches=0", 2, "0 is no amount"),
        ("apply db --undo 2026 --set shop.size=3", 2, "it takes nothing else"),
        ("apply db --undo nonsense", 2, "there is no run 'nonsense'"),
        ("apply db", 1, "127.0.0.1:1"),
        ("guard db --set shop.lock_timeut=5s", 2, "did you mean 'lock_timeout'"),
        ("guard db --without limit", 2, "'limit' is no parameter"),
        ("guard other --service shop", 2, "uses database 'db', not 'other'"),
        ("guard db --undo 2026 --apply", 2, "it takes nothing else"),
        ("guard db --undo nonsense", 2, "there is no run 'nonsense'"),
        ("guard dbb", 2, "did you mean 'db'?"),
        ("guard db --apply --yes", 1, "127.0.0.1:1"),
    ],
)
def test_what_is_asked_for_wrongly(call: Any, words: str, code: int, said: str) -> None:
    came_to, told = call(words)
    assert came_to == code
    assert said in told
