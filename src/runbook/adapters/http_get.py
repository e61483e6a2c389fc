"""One HTTP GET for a health gate, by the standard library: httpx alone takes 200 ms to import.

The deadline covers everything, name lookup and a server that sends a byte a second included. So
the exchange runs in a thread of its own that is left behind, with its socket shut, when it is over
time. Nothing raises: whatever goes wrong is an answer about the host's health.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook.model.effects import HttpGet, HttpReply

if TYPE_CHECKING:
    import http.client
    import ssl
    from collections.abc import Callable, Iterable

#: Bytes of the body that are read; a health page is shorter.
BODY_BYTES = 64 * 1024
_CHUNK = 8 * 1024


class HttpDoor:
    """Performs HttpGet: no redirects, no proxies, certificates verified unless it says not."""

    def __init__(self) -> None:
        #: By (verify, ca_file): loading the system's certificates takes 20 ms, once is enough.
        self._tls: dict[tuple[bool, str | None], ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def perform(self, effect: Any) -> HttpReply:
        """Ask once, and say how it went."""
        if not isinstance(effect, HttpGet):
            raise TypeError(f"HttpDoor does not perform {type(effect).__name__}")
        return _Exchange(effect=effect, tls=lambda: self._context(effect)).perform()

    def close(self) -> None:
        """Nothing is kept open between requests."""

    def _context(self, effect: HttpGet) -> ssl.SSLContext:
        key = (effect.verify, effect.ca_file)
        with self._lock:
            if key not in self._tls:
                self._tls[key] = _context(*key)
            return self._tls[key]


def _context(verify: bool, ca_file: str | None) -> ssl.SSLContext:
    """Return what an https connection goes by.

    Raises:
        _NoAuthorities: when the file of authorities cannot be read, or holds none.
    """
    import ssl

    if not verify:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    path = None if ca_file is None else Path(ca_file).expanduser()
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        why = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise _NoAuthorities(f"the ca_file {ca_file} cannot be used: {why}") from None


class _NoAuthorities(Exception):
    """The file that names the authorities cannot be used."""


@dataclass(kw_only=True)
class _Exchange:
    """One request and what came of it."""

    effect: HttpGet
    tls: Callable[[], ssl.SSLContext]
    started: float = field(default_factory=time.monotonic)
    reply: HttpReply | None = None
    connection: http.client.HTTPConnection | None = None

    def perform(self) -> HttpReply:
        worker = threading.Thread(target=self._work, name="http-get", daemon=True)
        worker.start()
        worker.join(self.effect.timeout_s)
        reply = self.reply
        if reply is None:
            self._abandon()
            return self._failed(self._silent())
        return reply

    def _work(self) -> None:
        import http.client
        import ssl

        try:
            self.reply = self._ask()
        except socket.gaierror as error:
            self.reply = self._failed(f"the name cannot be resolved: {error.strerror}", asked=False)
        except ssl.SSLCertVerificationError as error:
            why = f"its certificate is not trusted: {error.verify_message}"
            self.reply = self._failed(why, asked=False)
        except _NoAuthorities as error:
            self.reply = self._failed(str(error), asked=False)
        except TimeoutError:
            self.reply = self._failed(self._silent())
        except OSError as error:
            self.reply = self._failed(error.strerror or str(error))
        except http.client.InvalidURL as error:
            self.reply = self._failed(f"no proper URL: {error}", asked=False)
        except http.client.HTTPException as error:
            self.reply = self._failed(f"no proper HTTP answer ({type(error).__name__})")
        except (ValueError, UnicodeError) as error:
            self.reply = self._failed(f"no proper URL: {error}", asked=False)

    def _ask(self) -> HttpReply:
        self.connection, path = self._open()
        self.connection.request("GET", path, headers=self._headers())
        response = self.connection.getresponse()
        body = self._body(response)
        self.connection.close()
        return HttpReply(
            status=response.status,
            body=body.decode("utf-8", errors="replace"),
            error="",
            seconds=self._seconds(),
            headers=_joined(response.getheaders()),
        )

    def _headers(self) -> dict[str, str]:
        """Ours, under those that were asked for, whatever their case."""
        own = {"User-Agent": "runbook", "Accept": "*/*", "Connection": "close"}
        sent = {name.lower() for name, _ in self.effect.headers}
        kept = {name: value for name, value in own.items() if name.lower() not in sent}
        return {**kept, **dict(self.effect.headers)}

    def _open(self) -> tuple[http.client.HTTPConnection, str]:
        import http.client
        from urllib.parse import urlsplit

        parts = urlsplit(self.effect.url)
        timeout_s = self.effect.timeout_s
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(
                f"{self.effect.url!r} does not begin with http:// or https:// and a host"
            )
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s), path
        secure = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=timeout_s, context=self.tls()
        )
        return secure, path

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        body = bytearray()
        while len(body) < BODY_BYTES and (chunk := response.read1(_CHUNK)):
            body += chunk
        return bytes(body[:BODY_BYTES])

    def _abandon(self) -> None:
        """Shut the socket, so that the thread left behind ends."""
        sock = self.connection.sock if self.connection else None
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def _silent(self) -> str:
        return f"no answer within {round(self.effect.timeout_s, 1):g}s"

    def _failed(self, why: str, *, asked: bool = True) -> HttpReply:
        return HttpReply(status=0, body="", error=why, seconds=self._seconds(), asked=asked)

    def _seconds(self) -> float:
        return time.monotonic() - self.started


def _joined(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers by their names in lower case; values of one that came twice are joined."""
    joined: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        joined[key] = f"{joined[key]}, {value}" if key in joined else value
    return joined
