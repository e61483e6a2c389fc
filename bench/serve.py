"""`runbook serve`: how long an event takes until it is accepted, durably; and what idling costs.

Events come at a steady rate, whatever becomes of the ones before: a time is from when an event was
due, so that a server that stalls is charged with all who had to wait.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measure import PYTHON, RUNBOOK, NotMeasured
from bench.report import Figure, figure
from runbook.adapters.inbox import SqliteInbox

_RATE, _SECONDS, _ROUNDS = 200, 10, 3
_P99_S, _IDLE_MB = 0.05, 120.0
_SECRET = "a-secret-of-the-benchmark"


def measure() -> list[Figure]:
    """Return the figures; every event is looked for on disk afterwards."""
    with tempfile.TemporaryDirectory(prefix="runbook-bench-") as folder:
        home = Path(folder)
        with _ours(home) as (port, pid), _bare() as floor:
            idle = _resident_mb(pid)
            ours, theirs = [], []
            for number in range(_ROUNDS):
                # By turns: a slow moment of the machine hits both.
                ours.append(_p99(port, f"{number}"))
                theirs.append(_p99(floor, f"{number}"))
            after = _resident_mb(pid)
        _check_kept(home)
    times = [a / b for a, b in zip(ours, theirs, strict=True)]
    what = f"at {_RATE} events/s"
    return [
        figure(f"accepted and on disk, {what}, p99", "ms", [x * 1e3 for x in ours], _P99_S * 1e3),
        figure(f"bare starlette, {what}, p99", "ms", [x * 1e3 for x in theirs]),
        figure("accepted and on disk / bare starlette, p99", "times", times),
        figure("resident memory, idle", "MB", [idle], _IDLE_MB),
        figure(f"resident memory after {_RATE * _SECONDS * _ROUNDS} events", "MB", [after]),
    ]


# ---- the servers -------------------------------------------------------------------------------


@contextmanager
def _ours(home: Path) -> Iterator[tuple[int, int]]:
    config = {
        "version": 1,
        "inventory": "inventory.yaml",
        "hooks": {"pd": {"source": "pagerduty", "secrets": [{"env": "BENCH_SECRET"}]}},
        "limits": {"queue": 100_000},
        # One rule, which does not hold: acceptance is measured, and not what it leads to.
        "rules": [{"name": "none", "hook": "pd", "run": "doctor", "when": {"priority": "P1"}}],
    }
    (home / "inventory.yaml").write_text("version: 1\nhosts: {here: {connection: local}}\n")
    (home / "serve.yaml").write_text(json.dumps(config))
    env = {**os.environ, "RUNBOOK_STATE": str(home / "state"), "BENCH_SECRET": _SECRET}
    port = _free_port()
    argv = [RUNBOOK, "serve", "--config", str(home / "serve.yaml"), "--port", str(port)]
    with _running(argv, port, env) as process:
        yield port, process.pid


@contextmanager
def _bare() -> Iterator[int]:
    port = _free_port()
    with _running([PYTHON, "-m", "bench.bare_server", str(port)], port, dict(os.environ)):
        yield port


@contextmanager
def _running(argv: list[str], port: int, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL, env=env)
    try:
        until = time.monotonic() + 60
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > until:
                raise NotMeasured(f"{' '.join(argv[:3])} does not listen")
            time.sleep(0.05)
        time.sleep(1)  # what a start leaves to do
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6


# ---- the events --------------------------------------------------------------------------------


def _p99(port: int, name: str) -> float:
    """Return the 99th percentile of the seconds until an event was answered 202."""
    taken = sorted(asyncio.run(_send(port, lambda number: _request(f"{name}-{number}"))))
    return taken[int(len(taken) * 0.99)]


async def _send(port: int, request: Callable[[int], bytes]) -> list[float]:
    began = time.perf_counter() + 0.2
    return await asyncio.gather(
        *(_one(port, request(n), began + n / _RATE) for n in range(_RATE * _SECONDS))
    )


async def _one(port: int, request: bytes, due: float) -> float:
    await asyncio.sleep(due - time.perf_counter())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    if not answer.startswith(b"HTTP/1.1 202 "):
        raise NotMeasured(f"an event was answered {answer[:40]!r}")
    return time.perf_counter() - due


def _request(name: str) -> bytes:
    """Return a signed event as PagerDuty sends it, over a connection of its own."""
    about = {
        "id": "Q1ABCDEFGHIJ",
        "type": "incident",
        "title": "too many clients",
        "body": "x" * 900,
    }
    event = {
        "id": f"01BENCH{name}",
        "event_type": "incident.triggered",
        "resource_type": "incident",
        "occurred_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "data": about,
    }
    body = json.dumps({"event": event}).encode()
    signature = hmac.new(_SECRET.encode(), body, hashlib.sha256).hexdigest()
    head = (
        "POST /hooks/pd HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"X-PagerDuty-Signature: v1={signature}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body


def _check_kept(home: Path) -> None:
    inbox = SqliteInbox(home / "state" / "serve.db", limit=1)
    kept = len(inbox.recent(1_000_000))
    inbox.close()
    if kept != _RATE * _SECONDS * _ROUNDS:
        raise NotMeasured(f"{kept} events are on disk, of {_RATE * _SECONDS * _ROUNDS}")
