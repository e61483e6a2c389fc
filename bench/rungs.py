"""From the command to the cause, through each rung of the ladder, with every slot taken."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from bench.measure import RUNBOOK, Command, NotMeasured, Sample, run, walls
from bench.report import Figure, figure
from lab.lab import DB, Lab, password

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROUNDS = 7
_MOST_S = 1.5
_ADMIN = "bench_admin"
#: max_connections 40 less 3 reserved: what an application can take (tests/lab/lab.py).
_ORDINARY = 37
_RESERVED = 3
#: By rung: what the inventory leaves in place, and how many superusers' sessions are in besides.
_RUNGS: dict[str, tuple[dict[str, Any], int]] = {
    "connect": ({"rescue": None}, 0),
    "admin": ({"rescue": None, "admin": {"user": _ADMIN, "password": {"env": "BENCH_ADMIN"}}}, 0),
    "local": ({"rescue": None, "local": {}}, 0),
    "rescue": ({}, _RESERVED),
    "os": ({"rescue": None, "local": {}}, _RESERVED),
}


def measure() -> list[Figure]:
    """Return the wall time of the whole process for each rung."""
    lab = Lab.start(app_hosts=1, name="bench-rungs", owned=True)
    try:
        lab.psql(f"CREATE ROLE {_ADMIN} SUPERUSER LOGIN PASSWORD '{password(_ADMIN)}'")
        with tempfile.TemporaryDirectory(prefix="runbook-bench-") as folder:
            return [_measure(lab, Path(folder), rung) for rung in _RUNGS]
    finally:
        lab.stop()


def _measure(lab: Lab, home: Path, rung: str) -> Figure:
    overrides, superusers = _RUNGS[rung]
    # The ordinary door needs a slot: one is left for it.
    ordinary = _ORDINARY - (rung == "connect")
    command = _diagnose(lab, home, rung, overrides)
    with _taken(lab, ordinary, "shop"), _taken(lab, superusers, _ADMIN):
        taken = [run(command) for _ in range(_ROUNDS)]
    _check(rung, taken)
    return figure(f"command to cause by the rung `{rung}`", "s", walls(taken), _MOST_S)


def _diagnose(lab: Lab, home: Path, rung: str, overrides: dict[str, Any]) -> Command:
    inventory = home / f"{rung}.yaml"
    inventory.write_text(lab.inventory_yaml(databases={DB: overrides}))
    argv = (RUNBOOK, "diagnose", DB, "--format", "json", "-i", str(inventory))
    env = {
        "HOME": str(home),
        "RUNBOOK_STATE": str(home / "state"),
        "BENCH_ADMIN": password(_ADMIN),
    }
    return Command(argv=argv, env=env)


@contextmanager
def _taken(lab: Lab, count: int, role: str) -> Iterator[None]:
    """Hold this many slots."""
    with ExitStack() as held:
        for _ in range(count):
            held.enter_context(
                psycopg.connect(
                    host="127.0.0.1",
                    port=lab.db.pg_port,
                    dbname="shop",
                    user=role,
                    password=password(role),
                    application_name="shop-app-1",
                )
            )
        yield


def _check(rung: str, taken: list[Sample]) -> None:
    for sample in taken:
        said = json.loads(sample.stdout)
        if said["server"]["rung"] != rung:
            raise NotMeasured(f"it came in by {said['server']['rung']}, not by {rung}")
        if said["finding"]["cause"] == "healthy":
            raise NotMeasured(f"by the rung {rung} it found nothing: {said['finding']['title']}")
