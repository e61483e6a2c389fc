"""Fixtures for tests on the lab: one lab for each test process, reset before each test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .command import Command
from .docker_engine import LabUnavailable
from .lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, so that `-m "not lab"` leaves the lab out."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("lab")


@pytest.fixture(scope="session")
def lab_session() -> Iterator[Lab]:
    """The lab of this test process; RUNBOOK_LAB names one that `python -m lab up` keeps.

    Where no lab can be had this fails, and says what is missing: these tests never skip.
    """
    kept = os.environ.get("RUNBOOK_LAB")
    lab = attach_or_start(kept)
    if isinstance(lab, LabUnavailable):
        pytest.fail(str(lab), pytrace=False)
    yield lab
    if not kept:
        lab.stop()


def attach_or_start(kept: str | None) -> Lab | LabUnavailable:
    """The lab of that name, else one that nobody else uses; or why there is none."""
    try:
        if kept:
            return Lab.attach(kept)
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        return Lab.start(app_hosts=3, name=f"test-{os.getpid()}-{worker}", owned=True)
    except LabUnavailable as missing:
        return missing


@pytest.fixture
def lab(lab_session: Lab) -> Lab:
    """The lab, as if it had just been started."""
    lab_session.reset()
    return lab_session


@pytest.fixture
def runbook(lab: Lab, tmp_path: Path) -> Command:
    """The installed command, with this lab's inventory and a state folder of its own."""
    return Command(lab, tmp_path)
