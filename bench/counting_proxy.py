"""A TCP proxy that counts connections and round trips on their way to a server."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"


@dataclass(kw_only=True)
class Counts:
    """What has gone through; a round trip is a client's words and the answer to them."""

    port: int
    connections: int = 0
    round_trips: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def counting(server_port: int) -> Iterator[Counts]:
    """Forward connections to a local port for as long as the context lasts."""
    with socket.create_server((HOST, 0)) as listener:
        counts = Counts(port=listener.getsockname()[1])
        threading.Thread(target=_accept, args=(listener, server_port, counts), daemon=True).start()
        yield counts


def _accept(listener: socket.socket, server_port: int, counts: Counts) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return  # the listener was closed: the measurement is over
        with counts.lock:
            counts.connections += 1
        threading.Thread(target=_forward, args=(client, server_port, counts), daemon=True).start()


def _forward(client: socket.socket, server_port: int, counts: Counts) -> None:
    """Pass bytes both ways; count each time that the client speaks after the server has."""
    server = socket.create_connection((HOST, server_port))
    speaker: socket.socket | None = None
    with client, server, selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ, server)
        selector.register(server, selectors.EVENT_READ, client)
        while True:
            for key, _ in selector.select():
                source: socket.socket = key.fileobj  # type: ignore[assignment]
                data = source.recv(65536)
                if not data:
                    return
                # The farewell asks for no answer: b"X" and a length of 4.
                if source is client and speaker is not client and data != b"X\0\0\0\4":
                    with counts.lock:
                        counts.round_trips += 1
                speaker = source
                key.data.sendall(data)
