"""`runbook diagnose` on 5,000 sessions, and what its questions cost the server."""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.diagnose import diagnose_command
from bench.measure import Command, NotMeasured, Sample, peak_mb, run, walls
from bench.report import Figure, figure
from unit.postgres_server import Server, running

if TYPE_CHECKING:
    from collections.abc import Sequence

_SESSIONS = 5000
_ROUNDS = 5
#: A session is a process: about 2.5 MB of its own each, and a file descriptor on each side.
_MEMORY_GB = 16
_COST = """
SELECT sum(total_exec_time + total_plan_time) / 1000 AS seconds
  FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid WHERE r.rolname = 'oncall'
"""


def measure() -> list[Figure]:
    """Return wall time and memory of the process, and the server's own time for its statements."""
    _allow(_SESSIONS + 500)
    with (
        tempfile.TemporaryDirectory(prefix="runbook-bench-") as folder,
        running(
            max_connections=_SESSIONS + 20,
            shared_preload_libraries="pg_stat_statements",
            **{"pg_stat_statements.track_planning": "on"},
        ) as server,
        server.crowd(_SESSIONS, application_name="shop-web-1"),
    ):
        command = diagnose_command(Path(folder), server.port)
        run(command)  # warms the caches of both sides
        taken, costs = _rounds(server, command)
    return [
        figure(f"`runbook diagnose`, {_SESSIONS:,} sessions", "s", walls(taken), 1.5),
        figure("its peak memory", "MB", [peak_mb(taken)], 200),
        figure("the server's time for its statements", "s", costs),
    ]


def _rounds(server: Server, command: Command) -> tuple[list[Sample], list[float]]:
    server.admin("CREATE EXTENSION pg_stat_statements")
    taken, costs = [], []
    for _ in range(_ROUNDS):
        server.admin("SELECT pg_stat_statements_reset()")
        taken.append(run(command))
        costs.append(float(server.admin(_COST)[0][0]))
    _check(taken)
    return taken, costs


def _check(taken: Sequence[Sample]) -> None:
    if f"holds {_SESSIONS}" not in taken[-1].stdout:
        raise NotMeasured(f"it did not see the {_SESSIONS} sessions: {taken[-1].stdout[:300]}")


def _allow(descriptors: int) -> None:
    """Raise the bounds that so many connections need.

    Raises:
        NotMeasured: when the machine is too small, or does not let us.
    """
    pages = resource.getpagesize() * _available_pages()
    if pages < _MEMORY_GB * 1e9:
        raise NotMeasured(f"{_SESSIONS} sessions take {_MEMORY_GB} GB, {pages / 1e9:.0f} are free")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < descriptors:
        if hard != resource.RLIM_INFINITY and hard < descriptors:
            raise NotMeasured(f"a process may open {hard} files, {descriptors} are needed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))


def _available_pages() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 // resource.getpagesize()
    return 0
