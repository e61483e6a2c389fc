"""The web server: listens, tells where, and stops as a service should."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from runbook.model.errors import DoorError
from runbook.serve.log import LibraryLog, Log
from runbook.serve.protocol import REFUSED, Prompt

#: Connections; more are answered 503. A storm of alerts is hundreds.
_CONNECTIONS = 1200
#: Files that are no connections: databases, secrets, the pipes of processes that are begun.
_OTHER_FILES = 200
#: Seconds that requests in flight get when we are told to stop.
_GRACE_S = 10
#: Seconds that a connection may idle between two requests.
_KEEP_ALIVE_S = 5


def bind(address: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 is any that is free.

    Raises:
        DoorError: when the address is not ours, or the port is taken or not allowed.
    """
    try:
        family, *_, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(1024)
    except OSError as error:
        raise DoorError(
            f"nobody can listen on {address} port {port}: {error.strerror}",
            hint="name another with --address and --port, or see who has it: ss -ltnp",
        ) from error
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket) -> str:
    """Return where a listening socket is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn, which leaves the process's end and its exit code to us."""

    def __init__(
        self, app: ASGIApp, log: Log, started: Callable[[], None], *, signals: bool = True
    ) -> None:
        """Prepare; `started` is called once it accepts. `signals` need the main thread."""
        super().__init__(_config(app, log))
        self._started = started
        self._signals = (signal.SIGTERM, signal.SIGINT) if signals else ()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, then say so."""
        await super().startup(sockets)
        self._started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at the first SIGTERM or SIGINT; at the second, wait for nobody.

        uvicorn would raise the signal again once it is done, and the exit code would tell of a
        crash.
        """
        before = {number: signal.signal(number, self.handle_exit) for number in self._signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's
        """Stop; see `capture_signals`."""
        self.force_exit = self.should_exit
        self.should_exit = True

    def run_on(self, listener: socket.socket) -> None:
        """Serve until told to stop."""
        asyncio.run(self.serve(sockets=[listener]))


def connections() -> int:
    """Return how many connections may be open; a process has 1024 files unless it asks for more.

    Without one left, nobody is let in, no secret is read and no run begun.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _CONNECTIONS
    wanted = _CONNECTIONS + REFUSED + _OTHER_FILES
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(1, min(_CONNECTIONS, max(soft, most) - REFUSED - _OTHER_FILES))


def _config(app: ASGIApp, log: Log) -> uvicorn.Config:
    for name in ("uvicorn.error", "asyncio"):
        library = logging.getLogger(name)
        library.handlers, library.propagate = [LibraryLog(log)], False
    return uvicorn.Config(
        app,
        http=Prompt,
        ws="none",
        loop="asyncio",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        # Whom a header of the request names is nobody to us.
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        limit_concurrency=connections(),
    )
