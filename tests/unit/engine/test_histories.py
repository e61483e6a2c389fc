"""Recorded histories, decided again: a run that is resumed after an upgrade goes on as it began."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from unit.engine.record_histories import FOLDER, record, replay
from unit.engine.scenes import SCENES

RECORDED = sorted(FOLDER.glob("*.json"))


def test_every_scene_is_recorded() -> None:
    assert {path.stem for path in RECORDED} == set(SCENES)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_it_is_decided_as_it_was(path: Path) -> None:
    for was, now in replay(json.loads(path.read_text())):
        assert now == was


@pytest.mark.parametrize("name", SCENES)
def test_its_scene_still_plays_as_it_was_recorded(name: str) -> None:
    """A plan that is made of today's nodes, not only one that was kept, is decided so."""
    recorded, scene = json.loads((FOLDER / f"{name}.json").read_text()), SCENES[name]()
    made = replace(scene.plan, engine=recorded["plan"]["engine"])
    assert record(replace(scene, plan=made)) == recorded
