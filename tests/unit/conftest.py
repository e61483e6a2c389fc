"""What several rooms' tests share: a real PostgreSQL, started once at first need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unit.postgres_server import Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A real PostgreSQL 18 with 12 slots, two of them for superusers, and two walsenders."""
    from unit.postgres_server import running

    with running() as started:
        yield started
