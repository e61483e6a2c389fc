"""What several rooms' tests share: a real PostgreSQL, started once at first need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unit.postgres_server import Server


#: Files and folders whose tests start servers and programs of their own, or play very many cases.
#: `make unit`, which is run all the time, leaves them to `make test`.
SLOW = (
    "adapters/test_capture_file.py",
    "adapters/test_executable_inventory.py",
    "adapters/test_local_command.py",
    "adapters/test_postgres.py",
    "adapters/test_postgres_host.py",
    "adapters/test_postgres_ladder.py",
    "adapters/test_ssh.py",
    "adapters/test_target_locks.py",
    "cli/test_diagnose_looks.py",
    "cli/test_playbooks_test.py",
    "cli/test_runs_resume.py",
    "cli/test_runs_work.py",
    "cli/test_streams.py",
    "cli/test_telling.py",
    "cli/test_watch_live.py",
    "drill/",
    "engine/test_decide_properties.py",
    "findings/test_churn.py",
    "findings/test_on_a_real_server.py",
    "findings/test_pool_use.py",
    "findings/test_pooling_fitness.py",
    "findings/test_server_host.py",
    "findings/test_stalled_logins.py",
    "serve/test_attacks.py",
    "serve/test_hooks.py",
    "serve/test_killed_again_and_again.py",
    "serve/test_serve_process.py",
    "serve/test_under_load.py",
    "steps/test_doctor_on_a_real_server.py",
    "steps/test_terminate_host.py",
    "telling/test_once.py",
    "telling/test_stale.py",
    "test_inventory_fuzz.py",
    "test_tutorial.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, in one place."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and str(item.path.relative_to(here)).startswith(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A real PostgreSQL 18 with 12 slots, two of them for superusers, and two walsenders."""
    from unit.postgres_server import running

    with running() as started:
        yield started
