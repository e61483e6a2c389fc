"""The state directory: who may have it, and what is removed with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.drill import saturation, state
from runbook.drill.errors import DrillError, DrillRefused


def _create(root: Path, home: Path | None = None) -> state.State:
    root.mkdir(exist_ok=True)
    return state.create(root, home=home or root / "postgres", user=None)


def test_the_default_is_below_the_users_state_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state.default_dir() == tmp_path / "runbook" / "drill"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert state.default_dir() == Path("/home/somebody/.local/state/runbook/drill")


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    root = tmp_path / "d"
    assert _create(root) == state.load(root)
    assert root.stat().st_mode & 0o777 == 0o700


def test_a_directory_with_other_things_is_neither_used_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "diary").write_text("mine")
    with pytest.raises(DrillRefused, match="diary"):
        state.create(tmp_path, home=tmp_path / "postgres", user=None)
    with pytest.raises(DrillError, match="holds no drill"):
        saturation.stop(tmp_path)
    assert (tmp_path / "diary").read_text() == "mine"


def test_a_half_finished_start_is_removed(tmp_path: Path) -> None:
    root = tmp_path / "d"
    drill = _create(root)
    Path(drill.home).mkdir()
    assert saturation.stop(root)
    assert not root.exists()


def test_a_start_that_died_before_its_marker_is_removed(tmp_path: Path) -> None:
    root = tmp_path / "d"
    root.mkdir()
    (root / "drill.json.tmp").touch()
    assert saturation.stop(root)
    assert not root.exists()
    assert not saturation.stop(root)


def test_a_mangled_home_is_not_removed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    root = tmp_path / "d"
    state.remove(root, _create(root, precious))
    assert precious.exists()


def test_a_mangled_marker_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "drill.json").write_text('{"phase": 1')
    with pytest.raises(DrillError, match=r"drill\.json"):
        saturation.status(tmp_path)


def test_one_start_or_stop_at_a_time(tmp_path: Path) -> None:
    with (
        state.locked(tmp_path),
        pytest.raises(DrillRefused) as refusal,
        state.locked(tmp_path, wait_s=0.15),
    ):
        pass
    assert "runbook drill stop" in str(refusal.value.hint)
    assert refusal.value.exit_code == 3


def test_a_path_that_means_something_in_an_inventory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DrillError, match="inventory"):
        saturation.start(tmp_path / "${host.name}")
