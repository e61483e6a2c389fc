"""The HTTP door against real sockets, well-behaved and not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from runbook.adapters.http_get import BODY_BYTES, HttpDoor
from runbook.model.effects import HttpGet, HttpReply


@contextmanager
def serving(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client, suppress(OSError):
                        talk(client)

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def get(url: str, timeout_s: float = 5.0) -> HttpReply:
    return HttpDoor().perform(HttpGet(url=url, timeout_s=timeout_s))


def says(*parts: bytes, pause_s: float = 0.0) -> Callable[[socket.socket], None]:
    def talk(client: socket.socket) -> None:
        client.recv(4096)
        for part in parts:
            client.sendall(part)
            time.sleep(pause_s)

    return talk


def test_a_good_answer() -> None:
    with serving(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as url:
        reply = get(f"{url}/healthz?x=1")
    assert (reply.status, reply.body, reply.error, reply.asked) == (200, "ok", "", True)


def test_redirects_are_answers() -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with serving(says(head)) as url:
        assert get(url).status == 302


def test_the_body_is_bounded() -> None:
    with serving(says(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1_000_000)) as url:
        assert len(get(url).body) == BODY_BYTES


@pytest.mark.parametrize(
    "talk",
    [
        says(b"", pause_s=3),
        says(b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 30, pause_s=0.1),
        says(b"HTTP/1.1 200 OK\r\n\r\n", *[b"."] * 30, pause_s=0.1),
    ],
    ids=["mute", "dripping headers", "dripping body"],
)
def test_the_deadline_is_for_everything(talk: Callable[[socket.socket], None]) -> None:
    with serving(talk) as url:
        began = time.monotonic()
        reply = get(url, 0.4)
    assert time.monotonic() - began < 1.5
    assert (reply.status, reply.asked) == (0, True)
    assert "within 0.4s" in reply.error


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    reply = get(f"http://127.0.0.1:{port}/")
    assert (reply.status, reply.asked) == (0, True)
    assert "refused" in reply.error.lower()


def test_nonsense_is_no_answer() -> None:
    with serving(says(b"\x1b[31mSSH-2.0-what\r\n")) as url:
        reply = get(url)
    assert reply.status == 0
    assert "HTTP" in reply.error


@pytest.mark.parametrize(
    "url", ["ftp://x/", "nonsense", "http://", "http://x:y/", "http://[::1/", "http://a b/", ""]
)
def test_what_cannot_be_asked_is_told_apart(url: str) -> None:
    reply = get(url, 2.0)
    assert (reply.status, reply.asked) == (0, False)


def test_an_unknown_name_cannot_be_asked() -> None:
    reply = get("http://no-such-host.invalid/")
    assert reply.status == 0
    assert not reply.asked or "within" in reply.error
