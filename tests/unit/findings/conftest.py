"""A real PostgreSQL with 30 slots of its own, for causes that fill it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unit.postgres_server import Server


@pytest.fixture(scope="package")
def roomy() -> Iterator[Server]:
    """30 slots, two of them for superusers; a table to lock."""
    from unit.postgres_server import running

    with running(max_connections=30) as started:
        with started.connect("postgres") as admin:
            admin.execute("CREATE TABLE stock (id int PRIMARY KEY, left_over int)")
            admin.execute("INSERT INTO stock SELECT n, n FROM generate_series(1, 10) n")
            admin.execute("GRANT ALL ON stock TO app, crowd")
        yield started
