"""A `serve` in this process for tests: a real server on loopback, a small source, a real inbox."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from runbook import wiring
from runbook.adapters.inbox import SqliteInbox
from runbook.adapters.journal import SqliteJournal
from runbook.adapters.run_locks import RunLocks
from runbook.adapters.secrets import resolve
from runbook.engine.local_runs import LocalRuns
from runbook.model.alert import Alert, Answer, Reading, Received, Rejected
from runbook.model.serve_config import Hook, ServeConfig
from runbook.model.source import Source
from runbook.serve.app import create_app
from runbook.serve.context import Context
from runbook.serve.log import Log
from runbook.serve.metrics import Metrics
from runbook.serve.server import Server, bind, url_of

SECRET = "correct-horse"  # pragma: allowlist secret


def sign(body: bytes, secret: str = SECRET) -> str:
    """Return what the small source wants to see."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _authenticate(received: Received, _hook: Hook, secrets: Sequence[str]) -> None:
    shown = received.headers.get("x-small-signature")
    if shown is None:
        raise Rejected(401, "no signature")
    right = [sign(received.body, secret) for secret in secrets]
    if not any(hmac.compare_digest(shown.encode(), each.encode()) for each in right):
        raise Rejected(403, "another signature")


def _read(received: Received, _hook: Hook) -> Reading:
    try:
        said = json.loads(received.body)
    except ValueError:
        raise Rejected(400, "no JSON") from None
    if "answer" in said:
        return Reading(answer=Answer(**said["answer"]))
    return Reading(alerts=tuple(alert(received.hook, **one) for one in said.get("alerts", ())))


def alert(hook: str = "small", **said: Any) -> Alert:
    """Return an alert of the small source."""
    return Alert(**{"source": "pagerduty", "hook": hook, "event": "happened", **said})


SMALL = Source(
    name="pagerduty",
    summary="for tests",
    content_types=("application/json",),
    authenticate=_authenticate,
    read=_read,
)


class House:
    """One server, its inbox, and ways to call it."""

    def __init__(self, folder: Path, *, limit: int = 2000, **config: Any) -> None:
        self.secret_file = folder / "secret"
        if not self.secret_file.exists():
            self.secret_file.write_text(SECRET + "\n")
        hooks = {"small": {"source": "pagerduty", "secrets": [{"file": str(self.secret_file)}]}}
        self.config = ServeConfig.model_validate({"version": 1, "hooks": hooks, **config})
        self.path = folder / "state" / "serve.db"
        self.inbox = SqliteInbox(self.path, limit=limit, busy_s=0.3)
        self.journal = SqliteJournal(folder / "state" / "journal.db")
        self.runs = LocalRuns(self.journal, RunLocks(folder / "state" / "runs.lock"), who="serve")
        self.log = io.StringIO()
        self.metrics = Metrics()
        self.url = ""

    def context(self) -> Context:
        """Return what the parts of `serve` work with."""
        return Context(
            config=self.config,
            source="serve.yaml",
            load_fleet=lambda: wiring.load_fleet(None),
            inbox=self.inbox,
            journal=self.journal,
            runs=self.runs,
            secret=resolve,
        )

    @contextmanager
    def open(self, **doors: Any) -> Iterator[House]:
        """Serve for as long as the context lasts."""
        log = Log(self.log, as_json=True)
        doors = {"sources": {"pagerduty": SMALL}, "health": lambda: (True, {}), **doors}
        app = create_app(self.context(), log=log, metrics=self.metrics, **doors)
        listener = bind("127.0.0.1", 0)
        self.url = url_of(listener)
        started = threading.Event()
        server = Server(app, log, started.set, signals=False)
        thread = threading.Thread(target=server.run_on, args=(listener,))
        thread.start()
        assert started.wait(30)
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join(30)
            self.inbox.close()
            self.journal.close()

    def post(
        self,
        *keys: str,
        hook: str = "small",
        secret: str = SECRET,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> httpx.Response:
        """Send events as their source would."""
        if body is None:
            body = json.dumps({"alerts": [{"key": key} for key in keys]}).encode()
        signed = {"content-type": "application/json", "x-small-signature": sign(body, secret)}
        return httpx.post(
            f"{self.url}/hooks/{hook}", content=body, headers={**signed, **(headers or {})}
        )

    def logged(self) -> list[dict[str, Any]]:
        """Return the lines of the log."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def connect(self) -> socket.socket:
        """Return a bare connection."""
        host, port = self.url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=30)


def eventually(true: Any, within_s: float = 30.0) -> None:
    """Wait until something holds."""
    until = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(0.02)
