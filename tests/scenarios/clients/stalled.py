"""Clients that begin to log in and never answer the server's question for a password."""

from __future__ import annotations

import os
import socket
import struct

from scenarios.clients.telling import config, stay, tell


def main() -> None:
    """Open `count` connections as a role that needs a password, and say nothing more."""
    given = config()
    place = (os.environ["PGHOST"], int(os.environ["PGPORT"]))
    held = [socket.create_connection(place) for _ in range(given["count"])]
    words = b"user\0" + os.environ["PGUSER"].encode() + b"\0database\0shop\0\0"
    for opened in held:
        opened.sendall(struct.pack("!ii", len(words) + 8, 196608) + words)
    for opened in held:
        opened.recv(1)  # R: the server has asked
    tell()
    stay()


if __name__ == "__main__":
    main()
