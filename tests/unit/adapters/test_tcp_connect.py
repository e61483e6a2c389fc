"""The TCP door against real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from runbook.adapters.tcp_connect import BANNER_BYTES, TcpDoor
from runbook.model.effects import TcpConnect, TcpReply


@contextmanager
def serving(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client, suppress(OSError):
                        talk(client)

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


def connect(port: int, host: str = "127.0.0.1", *, banner: bool = False) -> TcpReply:
    return TcpDoor().perform(TcpConnect(host=host, port=port, timeout_s=0.5, banner=banner))


def test_it_opens_and_waits_for_nothing() -> None:
    with serving(lambda _client: time.sleep(5)) as port:
        reply = connect(port)
    assert (reply.opened, reply.error, reply.banner, reply.asked) == (True, "", "", True)


def test_the_first_line_and_no_more() -> None:
    def talk(client: socket.socket) -> None:
        client.sendall(b"SSH-2.0-")
        time.sleep(0.05)
        client.sendall(b"server\r\nsecond line\r\n")

    with serving(talk) as port:
        assert connect(port, banner=True).banner.strip() == "SSH-2.0-server"


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    reply = connect(port)
    assert (reply.opened, reply.asked) == (False, True)
    assert "refused" in reply.error.lower()


def test_a_mute_one_is_open_and_has_said_nothing() -> None:
    with serving(lambda _client: time.sleep(5)) as port:
        reply = connect(port, banner=True)
    assert (reply.opened, reply.banner) == (True, "")
    assert "within 0.5s" in reply.error


def test_one_that_hangs_up() -> None:
    with serving(lambda client: client.sendall(b"bye")) as port:
        reply = connect(port, banner=True)
    assert (reply.opened, reply.banner) == (True, "bye")
    assert "closed" in reply.error


def test_an_endless_line_is_cut() -> None:
    with serving(lambda client: client.sendall(b"x" * 100_000)) as port:
        reply = connect(port, banner=True)
    assert (len(reply.banner), reply.error) == (BANNER_BYTES, "")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 300, "\udcff"])
def test_a_name_that_leads_nowhere_cannot_be_asked(host: str) -> None:
    reply = connect(1, host)
    assert not reply.opened
    assert not reply.asked or "within" in reply.error
