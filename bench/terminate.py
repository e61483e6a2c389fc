"""500 leaked sessions terminated, each one proved, shown and checked again before its signal."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from bench.measure import RUNBOOK, Command, NotMeasured, Sample, peak_mb, run, walls
from bench.report import Figure, figure
from unit.postgres_server import PASSWORD, Server, running

_ROUNDS = 3
_LEAKED = 500
#: The pool that the service declares; 505 sessions less 5 are 500 over it.
_POOL = 5
_SLOTS = 600
#: 99% of the usable 598 slots are 593: with 505 in use, 500 have to go.
_HEADROOM = "99%"
_PASSWORD = "BENCH_PG_PASSWORD"
#: A session counts as idle from two seconds on (findings/leak_proof.py).
_SETTLED_S = 2.3


def measure() -> list[Figure]:
    """Return the wall time of the whole process, diagnosis and proof included."""
    with (
        tempfile.TemporaryDirectory(prefix="runbook-bench-") as folder,
        running(max_connections=_SLOTS) as server,
    ):
        command = _remediate(Path(folder), server)
        taken = [_once(server, command) for _ in range(_ROUNDS)]
    return [
        figure(
            f"{_LEAKED} leaked sessions terminated, guarded",
            "s",
            walls(taken),
            3.0,
            note="the watch for sessions that come straight back is set to end at once: its"
            " length is a choice of the user's",
        ),
        figure("its peak memory", "MB", [peak_mb(taken)]),
    ]


def _once(server: Server, command: Command) -> Sample:
    with server.crowd(_LEAKED + _POOL, application_name="shop-web-1"):
        time.sleep(_SETTLED_S)
        sample = run(command)
    terminated = _terminated(sample.stdout)
    if terminated != _LEAKED:
        raise NotMeasured(f"{terminated} sessions were terminated, not {_LEAKED}: {sample.stderr}")
    return sample


def _terminated(stdout: str) -> int:
    whole = json.loads(stdout)
    found = [t["data"] for step in whole["steps"] for t in step["targets"].values()]
    return sum(len(data.get("terminated", ())) for data in found)


def _remediate(home: Path, server: Server) -> Command:
    inventory = home / "inventory.yaml"
    inventory.write_text(_INVENTORY.replace("PORT", str(server.port)))
    given = (f"max_sessions={_LEAKED}", f"headroom={_HEADROOM}", "watch=0s")
    options = [word for each in given for word in ("-p", each)]
    argv = (RUNBOOK, "remediate", "db", "--terminate-idle", "--yes", "-i", str(inventory))
    env = {_PASSWORD: PASSWORD, "RUNBOOK_STATE": str(home / "state")}
    return Command(argv=(*argv, *options, "--format", "json"), env=env)


_INVENTORY = """\
version: 1
hosts:
  web-1: {address: 127.0.1.1, groups: [web]}
databases:
  db:
    connect: {host: 127.0.0.1, port: PORT, dbname: shop, user: oncall, password: {env: VARIABLE}}
services:
  shop:
    hosts: web
    database: db
    application_name: shop-${host.name}
    pool: {processes: 1, size: 5}
""".replace("VARIABLE", _PASSWORD)
