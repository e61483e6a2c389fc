"""`runbook serve` as a process of its own, and those who call it."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import re
import signal
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .command import INSTALLED
from .lab import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from .command import Command

#: What the calls of these tests are signed with.
SECRET = "a-secret-of-the-tests"
_LISTENING = re.compile(r"http://127\.0\.0\.1:(\d+)")


class Serving:
    """A `serve` that goes on; see `serving`."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._config = folder / "serve.yaml"
        self._log = folder / "serve.log"
        self._env = dict(env)
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text() if self._log.exists() else ""

    def configure(self, config: Mapping[str, Any]) -> None:
        """Write its configuration; JSON is YAML."""
        self._config.write_text(json.dumps(config))

    def start(self) -> None:
        """Start it, and return once it listens."""
        before = len(self.log)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(INSTALLED), "serve", "--config", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                cwd=self._env["HOME"],
            )

        def listens() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log
            return bool(_LISTENING.search(self.log, before))

        until(listens, "serve listens")
        found = _LISTENING.search(self.log, before)
        assert found is not None
        self.port = int(found[1])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Post something, and return the status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", path, body, dict(headers))
            return connection.getresponse().status
        finally:
            connection.close()

    def pagerduty(self, event: Mapping[str, Any], hook: str = "pagerduty") -> int:
        """Post a signed V3 webhook, and return the status."""
        body = json.dumps({"event": event}).encode()
        signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-PagerDuty-Signature": f"v1={signature}",
        }
        return self.post(f"/hooks/{hook}", body, headers)


@contextmanager
def serving(runbook: Command, folder: Path, config: Mapping[str, Any]) -> Iterator[Serving]:
    """Run `serve` with a configuration; its runs that go on when the context ends are ended."""
    made = Serving(folder, {**runbook.env, "HOOK_SECRET": SECRET})
    made.configure(config)
    made.start()
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.stop()


def triggered(incident: str, service: str, event: str = "01TRIGGERED") -> dict[str, Any]:
    """Return PagerDuty's event of an incident that has just been triggered."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    return {
        "id": event,
        "event_type": "incident.triggered",
        "resource_type": "incident",
        "occurred_at": now,
        "agent": None,
        "client": None,
        "data": {
            "id": incident,
            "type": "incident",
            "number": 9,
            "status": "triggered",
            "title": "too many clients already",
            "service": {"id": service, "type": "service_reference", "summary": "prod"},
            "priority": None,
            "urgency": "high",
            "teams": [],
            "assignees": [],
        },
    }
