"""A real server under callers who are slow, many, or change their secret meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from pathlib import Path

import httpx

from unit.serve.house import House, sign


def test_slow_callers_are_let_go(tmp_path: Path) -> None:
    """A body that dawdles is answered 408, a head that never ends is cut off; others are served."""
    with House(tmp_path).open() as house, house.connect() as slow, house.connect() as mute:
        mute.sendall(b"POST /hooks/small HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Dawdle: ")
        slow.sendall(
            b"POST /hooks/small HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        assert house.post("a").status_code == 202
        assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert slow.recv(1000) == b""
        with contextlib.suppress(ConnectionResetError):
            assert mute.recv(1000) == b""


def test_a_thousand_events_at_once(tmp_path: Path) -> None:
    """Each over a connection of its own: each is answered, and on disk once."""

    async def call(host: str, port: int, key: str) -> bytes:
        body = json.dumps({"alerts": [{"key": key}]}).encode()
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(
            f"POST /hooks/small HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"X-Small-Signature: {sign(body)}\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        answer = await reader.read()
        writer.close()
        return answer[:12]

    async def storm(host: str, port: int) -> list[bytes]:
        return await asyncio.gather(*(call(host, port, f"e{n}") for n in range(1000)))

    with House(tmp_path).open() as house:
        host, port = house.url.removeprefix("http://").split(":")
        answers = asyncio.run(storm(host, int(port)))
        assert set(answers) == {b"HTTP/1.1 202"}
        kept = {entry.alert.key for entry in house.inbox.queued(2000)}
        assert kept == {f"e{n}" for n in range(1000)}


def test_a_secret_is_rotated_under_load(tmp_path: Path) -> None:
    """The new one is added, the sender takes it, the old one goes: no call is refused."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("old-secret")
    new.write_text("old-secret")
    secrets = [{"file": str(old)}, {"command": ["cat", str(new)]}]
    hooks = {"small": {"source": "pagerduty", "secrets": secrets}}
    signing, stop, codes = ["old-secret"], threading.Event(), []

    def call(house: House, name: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            codes.append(house.post(f"{name}-{count}", secret=signing[0]).status_code)

    with House(tmp_path, hooks=hooks).open() as house:
        callers = [threading.Thread(target=call, args=(house, n)) for n in range(3)]
        for caller in callers:
            caller.start()
        _wait_for(codes, 30)
        old.write_text("new-secret")
        signing[0] = "new-secret"
        _wait_for(codes, 30)
        stop.set()
        for caller in callers:
            caller.join()
        assert house.post("last", secret="neither").status_code == 403
    assert set(codes) == {202}


def _wait_for(codes: list[int], more: int) -> None:
    until, waited = len(codes) + more, threading.Event()
    while len(codes) < until:
        waited.wait(0.01)


def test_health_and_figures_answer_meanwhile(tmp_path: Path) -> None:
    """A secret's command that hangs keeps nobody else waiting."""
    hooks = {"small": {"source": "pagerduty", "secrets": [{"command": ["sleep", "3"]}]}}
    with House(tmp_path, hooks=hooks).open() as house:
        answers: list[int] = []
        hanging = threading.Thread(target=lambda: answers.append(house.post("a").status_code))
        hanging.start()
        assert httpx.get(house.url + "/healthz").status_code == 200
        assert httpx.get(house.url + "/metrics").status_code == 200
        assert not answers
        hanging.join()
        assert answers == [503]
