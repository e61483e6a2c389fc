"""`runbook pool apply` and `pool guard` at the command line: what is asked for wrongly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runbook.cli.main import run
from runbook.cli.pool_apply import _check_apart
from runbook.model.errors import Refused
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory

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


def in_one_file() -> dict[str, Any]:
    """Two services on one host with one file for both."""

    def settings(name: str) -> dict[str, Any]:
        path = {"env_file": "/etc/app.env"}
        return {
            "size": {**path, "key": f"{name}_POOL"},
            "url": {**path, "key": f"{name}_DATABASE_URL"},
        }

    shop = INVENTORY["services"]["shop"]
    return {
        **INVENTORY,
        "services": {
            "shop": {**shop, "settings": settings("SHOP")},
            "worker": {**shop, "settings": settings("WORKER")},
        },
        "pgbouncers": {
            "bouncer": {"host": "web-1", "database": "db", "admin": {"user": "pgbouncer"}}
        },
    }


def test_sizes_of_two_services_in_one_file_are_refused_before_anything_is_changed() -> None:
    fleet = Fleet(Inventory.model_validate(in_one_file()))
    with pytest.raises(Refused, match=r"/etc/app\.env on web-1: no run can change both") as no:
        _check_apart(("shop.size=4", "worker.size=4"), "db", fleet)
    assert "runbook pool apply db --service shop" in (no.value.hint or "")
    _check_apart(("shop.size=4",), "db", fleet)
    _check_apart((), "db", fleet)


def test_connection_strings_of_two_services_in_one_file_are_not_led_in_one_run(
    call: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    del call  # its state and its folder
    (tmp_path / "inventory.yaml").write_text(json.dumps(in_one_file()))
    assert run(["pgbouncer", "introduce", "bouncer", "--dry-run"]) == 3
    told = " ".join(capfd.readouterr().err.split())
    assert "shop and worker keep theirs in /etc/app.env on web-1" in told
    assert "runbook pgbouncer introduce bouncer --service shop" in told
