"""One exchange: its answer, or whether it may have arrived; with a real server on this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from runbook.adapters.http_exchange import Exchanges, NoReply, _Fate, _OverTime
from unit.adapters.test_http_post import say, serving


def get(url: str, within_s: float = 5.0, most: int = 10_000) -> int:
    exchanges = Exchanges()
    try:
        return exchanges.exchange("GET", url, headers={}, within_s=within_s, most=most).status
    finally:
        exchanges.close()


def sent(url: str, within_s: float = 5.0, most: int = 10_000) -> bool:
    with pytest.raises(NoReply) as caught:
        get(url, within_s, most)
    return caught.value.sent


def test_an_answer_comes_with_its_headers_in_lower_case() -> None:
    with serving(say(429, b"slow", **{"Ratelimit-Reset": "7"})) as (url, _):
        reply = Exchanges().exchange("POST", url, headers={}, body=b"x", within_s=5)
    assert (reply.status, reply.body, reply.headers["ratelimit-reset"]) == (429, b"slow", "7")


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_what_was_never_sent_cannot_have_arrived() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not sent(f"http://127.0.0.1:{port}")
    assert not sent("http://nowhere.invalid")
    assert not sent("gopher://127.0.0.1")
    assert not sent("http://127.0.0.1:99999")


def test_what_was_sent_and_not_answered_may_have_arrived() -> None:
    with silent() as url:
        assert sent(url, within_s=0.3)


def test_a_trickling_answer_is_no_answer() -> None:
    over = threading.Event()

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        while not over.wait(0.02):
            handler.wfile.write(b"x")

    with serving(trickle) as (url, _):
        assert sent(url, within_s=0.5)
        over.set()


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    with serving(say(200, b"x" * 5000)) as (url, _):
        assert sent(url, most=1000)
        assert get(url, most=5000) == 200


def test_what_was_given_up_before_it_was_sent_is_never_sent() -> None:
    """A name server that takes its time must not lead to a second note later."""
    fate = _Fate()
    assert not fate.give_up()
    with pytest.raises(_OverTime):
        fate.trace("http11.send_request_headers.started", {})
    late = _Fate()
    late.trace("connection.connect_tcp.started", {})
    late.trace("http2.send_request_headers.started", {})
    assert late.give_up()


def test_the_library_still_says_when_it_begins_to_send() -> None:
    """All of the above hangs on the names by which it traces."""
    with silent() as url, pytest.raises(NoReply) as caught:
        get(url, within_s=0.2)
    assert caught.value.sent
