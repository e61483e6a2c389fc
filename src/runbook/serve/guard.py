"""Before every request: is it meant for us? After it: headers that browsers obey."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runbook.model.serve_config import Listen

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_WILDCARDS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - named, not bound

_CLOSE = {"connection": "close"}
#: For all that is served; a page that needs more says so itself, and stands.
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def allowed_hosts(listen: Listen) -> frozenset[str]:
    """Return the names that a request's Host may have, without ports, in lower case."""
    named = {listen.address, *listen.hosts}
    if listen.url is not None:
        named.add(urlsplit(listen.url).hostname or "")
    if listen.address in _LOOPBACK | _WILDCARDS:
        named |= _LOOPBACK  # who is on this machine gets there by these
    return frozenset(name.strip("[]").lower() for name in named) - _WILDCARDS


_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:@/\s]+))(?::[0-9]*)?")


def host_of(header: str) -> str:
    """Return the name in a Host header, without its port, in lower case; empty for what is none."""
    match = _HOST.fullmatch(header.strip().lower())
    return "" if match is None else match[1] or match[2]


class Guard:
    """ASGI middleware. A foreign Host is a browser that was led here by a foreign page's name.

    That is DNS rebinding: to the browser we would be that page's own server.
    """

    def __init__(self, app: ASGIApp, listen: Listen) -> None:
        self._app = app
        self._hosts = allowed_hosts(listen)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is meant for us; answer 421 to the rest."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = self._refused(scope["headers"])
        app = Response(status_code=status, headers=_CLOSE) if status else self._app

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (n.encode(), v.encode())
                        for n, v in _HEADERS.items()
                        if n.encode() not in said
                    ),
                ]
            await send(message)

        await app(scope, receive, with_headers)

    def _refused(self, headers: list[tuple[bytes, bytes]]) -> int | None:
        """Return what a request is answered that is not even looked at, or None."""
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        if len(hosts) != 1 or host_of(hosts[0]) not in self._hosts:
            return 421
        # Two ways to tell where the body ends: a proxy may have taken the other one, and what
        # follows would be a request that it has never seen.
        names = {name for name, _ in headers}
        return 400 if {b"content-length", b"transfer-encoding"} <= names else None
