"""One POST, against a real server on this machine."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from runbook.adapters.http_post import BODY_BYTES, HttpPostDoor
from runbook.model.effects import HttpPost, HttpReply
from runbook.model.errors import ChangeInRehearsal, SecretMissing
from runbook.model.inventory import Secret

Answer = Callable[[BaseHTTPRequestHandler], None]


def say(status: int, body: bytes = b"", **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that answers every POST so; and what it was sent."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append({"path": self.path, "body": body.decode(), "headers": dict(self.headers)})
            answer(self)

        def do_GET(self) -> None:
            got.append({"path": self.path, "body": None})
            answer(self)

        def log_message(self, *_args: Any) -> None:
            """Nothing on the tests' stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        server.server_close()


def post(url: str | Secret, timeout_s: float = 5.0, **more: Any) -> HttpReply:
    effect = HttpPost(url=url, shown="it", body='{"text": "ü"}', timeout_s=timeout_s, **more)
    return HttpPostDoor(rehearsal=False).perform(effect)


def test_it_posts_what_it_was_given() -> None:
    with serving(say(200, b"ok")) as (url, got):
        reply = post(f"{url}/hook?x=1", content_type="text/plain")
    assert (reply.status, reply.body, reply.error) == (200, "ok", "")
    assert (got[0]["path"], got[0]["body"]) == ("/hook?x=1", '{"text": "ü"}')
    assert got[0]["headers"]["Content-Type"] == "text/plain"


@pytest.mark.parametrize("status", [400, 404, 429, 503])
def test_a_no_is_an_answer_with_its_words(status: int) -> None:
    with serving(say(status, b"no_service")) as (url, _):
        reply = post(url)
    assert (reply.status, reply.body) == (status, "no_service")


def test_a_redirect_is_not_followed() -> None:
    with serving(say(200)) as (other, got):
        with serving(say(302, Location=f"{other}/")) as (url, _):
            assert post(url).status == 302
        assert got == []


def test_the_address_comes_from_where_the_secret_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(say(200)) as (url, got):
        monkeypatch.setenv("HOOK", f"{url}/T0/B0\n")
        assert post(Secret(env="HOOK")).status == 200
        assert got[0]["path"] == "/T0/B0"
    monkeypatch.delenv("HOOK")
    with pytest.raises(SecretMissing, match="HOOK"):
        post(Secret(env="HOOK"))


def test_a_server_that_drips_is_left_when_the_time_is_over() -> None:
    stop = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not stop.wait(0.05):
            handler.wfile.write(b".")

    with serving(drip) as (url, _):
        began = time.monotonic()
        reply = post(url, timeout_s=0.5)
        stop.set()
    assert (reply.status, reply.error) == (0, "no answer within 0.5s")
    assert time.monotonic() - began < 20


def test_a_long_answer_is_cut() -> None:
    with serving(say(200, b"x" * 1_000_000)) as (url, _):
        assert len(post(url).body) == BODY_BYTES


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    reply = post(f"http://127.0.0.1:{port}/T0/secret")
    assert (reply.status, reply.asked) == (0, True)
    assert "refused" in reply.error.lower()


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "ftp://x/", "hooks.example/T0/secret", "http://", "http://a b/"]
)
def test_what_is_no_address_is_not_tried_again_and_not_repeated(url: str) -> None:
    reply = post(url)
    assert (reply.status, reply.asked) == (0, False)
    assert "secret" not in reply.error


def test_a_rehearsal_tells_nobody() -> None:
    with serving(say(200)) as (url, got):
        effect = HttpPost(url=url, shown="it", body="")
        with pytest.raises(ChangeInRehearsal):
            HttpPostDoor(rehearsal=True).perform(effect)
    assert got == []


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(say(200)) as (proxy, got):
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert post("http://hooks.example.invalid/x").status == 200
    assert got[0]["path"] == "http://hooks.example.invalid/x"
