"""Looks up a server's name with a deadline: libpq does so without one, and cannot be stopped."""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
import time

#: What was found, or why nothing was.
_Found = list[str] | OSError


class NameNotFound(Exception):
    """No address in time; the message is worded as libpq's own."""


def with_addresses(host: str, port: int, timeout_s: float) -> dict[str, str]:
    """Return libpq's `host` and `hostaddr` for a host, or several joined by commas.

    Every address of a name is there to be tried in turn; its name stays beside it, for
    certificates are made out to names. Addresses and socket folders need no looking up.

    Raises:
        NameNotFound: none of the names led anywhere within `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    pairs: list[tuple[str, str]] = []
    missing: list[str] = []
    for name in host.split(","):
        if _is_place(name):
            pairs.append((name, ""))
            continue
        found = _look_up(name, port, deadline - time.monotonic())
        if isinstance(found, OSError):
            missing.append(f'could not translate host name "{name}" to address: {found}')
        else:
            pairs.extend((name, address) for address in found)
    if not pairs:
        raise NameNotFound("; ".join(missing))
    if not any(address for _, address in pairs):
        return {"host": ",".join(name for name, _ in pairs)}
    return {
        "host": ",".join(name for name, _ in pairs),
        # A list of addresses is as long as that of names; beside a place it stays empty.
        "hostaddr": ",".join(address for _, address in pairs),
    }


def _is_place(name: str) -> bool:
    """Whether it is an address already, or a folder with a socket."""
    if not name or name.startswith(("/", "@")):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _look_up(name: str, port: int, timeout_s: float) -> _Found:
    answer: queue.SimpleQueue[_Found] = queue.SimpleQueue()

    def ask() -> None:
        try:
            told = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
            answer.put(list(dict.fromkeys(str(entry[4][0]) for entry in told)))
        except (OSError, UnicodeError) as error:
            answer.put(error if isinstance(error, OSError) else OSError(str(error)))

    # A daemon: the resolver cannot be interrupted, and must not keep the process from its end.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.get(timeout=max(0.0, timeout_s))
    except queue.Empty:
        return OSError(f"no answer from DNS within {timeout_s:.1f}s")
