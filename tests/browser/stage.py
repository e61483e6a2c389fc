"""A real `serve` for a browser: pages over a real journal, runs in processes of their own.

The shop is a service of this machine: hosts without a connection, a command that restarts each,
and a health check that a small server here answers.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette

from runbook import wiring
from runbook.adapters.secrets import resolve
from runbook.engine.local_runs import LocalRuns
from runbook.engine.planning import make_plan
from runbook.model.ports import Request, RunView
from runbook.model.serve_config import ServeConfig
from runbook.serve.context import Context
from runbook.serve.pages import routes
from unit.pages.world import MemoryInbox

PATIENCE_S = 60.0
PEOPLE: dict[str, Any] = {
    "vera": {"role": "viewer", "token": {"file": "vera.token"}},
    "dana": {"role": "approver", "token": {"file": "dana.token"}},
    "eve": {"role": "approver", "token": {"file": "eve.token"}},
    "otto": {"role": "operator", "token": {"file": "otto.token"}},
}

#: Restarts a host of the shop, unless a test holds it, or says what changes with each restart.
_CTL = """
import pathlib, sys, time
verb, name = sys.argv[1:]
folder = pathlib.Path(__file__).parent
stamp, until = folder / f"{name}.stamp", time.monotonic() + 120
if verb == "restart":
    while (folder / f"{name}.held").exists() and time.monotonic() < until:
        time.sleep(0.05)
    stamp.write_text(f"{time.time():.3f}")
print(stamp.read_text() if stamp.exists() else "never")
"""


class Stage:
    """A folder with a shop, a journal and pages; RUNBOOK_STATE is this folder's already."""

    def __init__(self, folder: Path, *, hosts: int = 3) -> None:
        self.folder = folder
        self.hosts = [f"web-{n + 1}" for n in range(hosts)]
        self.inbox = MemoryInbox()
        self.journal = wiring.open_journal()
        # As on a machine that is there for this alone, whatever this one is called.
        self.runs = LocalRuns(
            self.journal,
            wiring.run_locks(),
            who="runbook@ops-01",
            start=wiring.worker_processes().start,
        )
        for name in PEOPLE:
            (folder / f"{name}.token").write_text(self.token(name))
        #: Hosts whose health check answers badly.
        self.sick: set[str] = set()
        self.health = _health(self.sick)
        self.inventory = folder / "inventory.yaml"
        self._write_shop()
        self.url = ""

    def token(self, name: str) -> str:
        """Return somebody's token."""
        return f"a-token-of-{name}-4711"

    def context(self) -> Context:
        """Return what `serve` hands to its pages."""
        people = {
            name: {**person, "token": {"file": str(self.folder / f"{name}.token")}}
            for name, person in PEOPLE.items()
        }
        return Context(
            config=ServeConfig.model_validate({"version": 1, "people": people}),
            source="serve.yaml",
            load_fleet=lambda: wiring.load_fleet(str(self.inventory)),
            inbox=self.inbox,
            journal=self.journal,
            runs=self.runs,
            secret=resolve,
        )

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve the pages on a port of this machine; return where."""
        app = Starlette(routes=routes(self.context()))
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        try:
            yield self.url
        finally:
            server.should_exit = True
            thread.join(PATIENCE_S)

    def submit(
        self,
        playbook: str = "rolling-restart",
        target: str | None = "shop",
        *,
        params: Mapping[str, Any] | None = None,
        rehearsal: bool = False,
        inventory: Path | None = None,
        **asked: Any,
    ) -> str:
        """Submit a run as a rule does, and return its id."""
        source = str(inventory or self.inventory)
        plan = make_plan(
            wiring.load_playbook(playbook),
            fleet=wiring.load_fleet(source),
            target=target,
            given=params or {},
            rehearsal=rehearsal,
        )
        run_id = wiring.new_run_id()
        values = {"rule": "restart-shop", "incident": "Q1ABCDEFGHIJKL", **asked}
        request = Request(
            playbook=playbook, target=target, params=params or {}, inventory=source, **values
        )
        self.runs.submit(run_id, plan.to_json(), request)
        return run_id

    def asking(self, **asked: Any) -> str:
        """Submit a run and return its id once it waits for an answer."""
        run_id = self.submit(**asked)
        until(lambda: self.view(run_id).waiting is not None)
        until(lambda: not self.view(run_id).alive)
        return run_id

    def view(self, run_id: str) -> RunView:
        """Return a run."""
        return self.runs.view(run_id)

    def ended(self, run_id: str) -> str:
        """Return how a run ended, once it has."""
        until(lambda: self.view(run_id).record.ended_at is not None)
        return self.view(run_id).record.status

    def restarted(self) -> list[str]:
        """Return the hosts that were restarted."""
        return [name for name in self.hosts if (self.folder / f"{name}.stamp").exists()]

    def hold(self, name: str) -> None:
        """Let a host's restart wait in its middle."""
        (self.folder / f"{name}.held").touch()

    def let_go(self, name: str) -> None:
        """Let it go on."""
        (self.folder / f"{name}.held").unlink()

    def close(self) -> None:
        """Let go of everything."""
        for held in self.folder.glob("*.held"):
            held.unlink()
        self.health.shutdown()
        self.journal.close()

    def _write_shop(self) -> None:
        program = self.folder / "shopctl.py"
        program.write_text(_CTL)
        argv = [sys.executable, str(program)]
        port = self.health.server_address[1]
        hosts = "".join(
            f"  {name}: {{address: 127.0.0.1, connection: local, sudo: false, groups: [web]}}\n"
            for name in self.hosts
        )
        self.inventory.write_text(
            f"version: 1\nhosts:\n{hosts}services:\n  shop:\n    hosts: web\n    manager:\n"
            f"      command:\n        restart: {json.dumps([*argv, 'restart', '${host.name}'])}\n"
            f"        status: {json.dumps([*argv, 'status', '${host.name}'])}\n"
            f"    gates:\n      - http: {{url: 'http://127.0.0.1:{port}/${{host.name}}/healthz'}}\n"
            "    rolling:\n      batches: [1, 2]\n      min_available: 1\n      max_failures: 0\n"
            "      settle: 1s\n      gate: {successes: 3, interval: 300ms, deadline: 90s}\n"
        )


def _health(sick: set[str]) -> ThreadingHTTPServer:
    """Answer `/HOST/healthz`, well unless the host is sick."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if self.path.split("/")[1] in sick else 200)
            self.end_headers()
            self.wfile.write(b"as asked")

        def log_message(self, *_args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def until(true: Callable[[], bool]) -> None:
    """Wait for something that is about to happen."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.05)
