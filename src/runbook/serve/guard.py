"""Before every request: is it meant for us? After it: headers that browsers obey."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runbook.model.serve_config import Listen

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_WILDCARDS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - named, not bound

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


def host_of(header: str) -> str:
    """Return the name in a Host header, without its port, in lower case."""
    name, bracket, _ = header.strip().lower().removeprefix("[").partition("]")
    return name if bracket else name.rpartition(":")[0] or name


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
        given = [value for name, value in scope["headers"] if name == b"host"]
        ours = len(given) == 1 and host_of(given[0].decode("latin-1")) in self._hosts
        app = self._app if ours else Response(status_code=421, headers={"connection": "close"})

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
