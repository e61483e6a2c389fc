"""`runbook diagnose` on a local PostgreSQL with 500 sessions, beside what it cannot do without."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from bench.counting_proxy import counting
from bench.measure import PYTHON, RUNBOOK, Command, NotMeasured, interleave, peak_mb, run, walls
from bench.report import Figure, figure
from runbook.findings.examination import questions
from unit.postgres_server import HOST, PASSWORD, running

_ROUNDS = 11
_SESSIONS = 500
_VERSION = 180000
_PASSWORD = "BENCH_PG_PASSWORD"
_IMPORTS = "import click, psycopg, pydantic, rich.console"


def measure() -> list[Figure]:
    """Return wall time, memory and round trips of a diagnosis, and two floors."""
    with (
        tempfile.TemporaryDirectory(prefix="runbook-bench-") as folder,
        running(max_connections=_SESSIONS + 20) as server,
        server.crowd(_SESSIONS, application_name="shop-web-1"),
        counting(server.port) as counts,
    ):
        home = Path(folder)
        commands = {
            "ours": diagnose_command(home, server.port),
            "imports": Command(argv=(PYTHON, "-c", _IMPORTS)),
        }
        psql = _psql(server.port)
        if psql is not None:
            commands["psql"] = psql
        taken = interleave(commands, _ROUNDS)
        counted = run(diagnose_command(home, counts.port))
    _check(counted.stdout)
    ours = taken["ours"]
    figures = [
        figure(f"`runbook diagnose`, {_SESSIONS} sessions", "s", walls(ours), 0.7),
        figure("its connections", "", [counts.connections], 1),
        figure("its round trips, TCP's own aside", "", [counts.round_trips], 5),
        figure("its peak memory", "MB", [peak_mb(ours)], 120),
        figure(f"floor: `{_IMPORTS}`", "s", walls(taken["imports"])),
    ]
    if "psql" in taken:
        figures.append(figure("floor: the same questions by psql", "s", walls(taken["psql"])))
    return figures


def _check(text: str) -> None:
    if f"holds {_SESSIONS}" not in text:
        raise NotMeasured(f"the diagnosis did not see the {_SESSIONS} sessions: {text[:300]}")


def diagnose_command(home: Path, port: int) -> Command:
    """Return a diagnosis of the server at this port, by a small shop's inventory."""
    inventory = home / f"inventory-{port}.yaml"
    inventory.write_text(_INVENTORY.replace("PORT", str(port)))
    argv = (RUNBOOK, "diagnose", "db", "-i", str(inventory))
    env = {_PASSWORD: PASSWORD, "RUNBOOK_STATE": str(home / "state")}
    return Command(argv=argv, env=env)


def _psql(port: int) -> Command | None:
    """The very questions, in one message, as the adapter sends them."""
    program = shutil.which("psql")
    if program is None:
        return None
    asked = [q.sql for q in questions() if q.min_version <= _VERSION]
    message = "\n;".join(["BEGIN TRANSACTION READ ONLY", *asked, "ROLLBACK"])
    argv = (program, "-X", "-q", "-h", HOST, "-p", str(port), "-U", "oncall", "shop", "-c", message)
    return Command(argv=argv, env={"PGPASSWORD": PASSWORD})


#: An inventory as a small shop has it: a few hosts, services, pools, gates.
_INVENTORY = """\
version: 1
defaults:
  ssh: {user: oncall, port: 9, identity_file: ~/.ssh/id_ed25519}
groups:
  web: {vars: {health_port: 8000}}
hosts:
  db-1: {address: 127.0.0.5, groups: [db]}
  web-1: {address: 127.0.1.1, groups: [web]}
  web-2: {address: 127.0.1.2, groups: [web]}
  web-3: {address: 127.0.1.3, groups: [web]}
  jobs-1: {address: 127.0.2.1, groups: [jobs]}
databases:
  db:
    host: db-1
    connect: {host: 127.0.0.1, port: PORT, dbname: shop, user: oncall, password: {env: VARIABLE}}
services:
  shop:
    hosts: web
    unit: shop.service
    database: db
    application_name: shop-${host.name}
    pool: {processes: 2, size: 5, overflow: 0}
    gates: [{http: {url: "http://${host.address}:${host.vars.health_port}/healthz"}}]
  jobs:
    hosts: jobs
    database: db
    application_name: jobs-${host.name}
    pool: {processes: 1, size: 4}
""".replace("VARIABLE", _PASSWORD)
