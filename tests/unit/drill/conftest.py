"""One real, saturated drill, shared by the tests that leave it as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runbook.drill import saturation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runbook.drill.saturation import Drill


@pytest.fixture(scope="session", autouse=True)
def impatient() -> Iterator[None]:
    """Let a page come at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saturation, "LEAK_AGE_S", 0.5)
        yield


@pytest.fixture(scope="session")
def drill(impatient: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    root: Path = tmp_path_factory.mktemp("a drill") / "state's dir"
    yield saturation.start(root)
    saturation.stop(root)
