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
from typing import TYPE_CHECKING, Any

from runbook.model.effects import HttpGet, HttpReply

if TYPE_CHECKING:
    import http.client
    import ssl

#: Bytes of the body that are read; a health page is shorter.
BODY_BYTES = 64 * 1024
_CHUNK = 8 * 1024


class HttpDoor:
    """Performs HttpGet: no redirects, no proxies, certificates verified."""

    def __init__(self) -> None:
        self._tls: ssl.SSLContext | None = None
        self._lock = threading.Lock()

    def perform(self, effect: Any) -> HttpReply:
        """Ask once, and say how it went."""
        if not isinstance(effect, HttpGet):
            raise TypeError(f"HttpDoor does not perform {type(effect).__name__}")
        exchange = _Exchange(url=effect.url, timeout_s=effect.timeout_s, tls=self._context)
        return exchange.perform()

    def close(self) -> None:
        """Nothing is kept open between requests."""

    def _context(self) -> ssl.SSLContext:
        # Loading the system's certificates takes 20 ms: once is enough.
        import ssl

        with self._lock:
            if self._tls is None:
                self._tls = ssl.create_default_context()
            return self._tls


@dataclass(kw_only=True)
class _Exchange:
    """One request and what came of it."""

    url: str
    timeout_s: float
    tls: Any
    started: float = field(default_factory=time.monotonic)
    reply: HttpReply | None = None
    connection: http.client.HTTPConnection | None = None

    def perform(self) -> HttpReply:
        worker = threading.Thread(target=self._work, name="http-get", daemon=True)
        worker.start()
        worker.join(self.timeout_s)
        reply = self.reply
        if reply is None:
            self._abandon()
            return self._failed(f"no answer within {round(self.timeout_s, 1):g}s")
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
        except TimeoutError:
            self.reply = self._failed(f"no answer within {round(self.timeout_s, 1):g}s")
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
        self.connection.request(
            "GET", path, headers={"User-Agent": "runbook", "Accept": "*/*", "Connection": "close"}
        )
        response = self.connection.getresponse()
        body = self._body(response)
        self.connection.close()
        text = body.decode("utf-8", errors="replace")
        return HttpReply(status=response.status, body=text, error="", seconds=self._seconds())

    def _open(self) -> tuple[http.client.HTTPConnection, str]:
        import http.client
        from urllib.parse import urlsplit

        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{self.url!r} does not begin with http:// or https:// and a host")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if parts.scheme == "http":
            plain = http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.timeout_s)
            return plain, path
        secure = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=self.timeout_s, context=self.tls()
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

    def _failed(self, why: str, *, asked: bool = True) -> HttpReply:
        return HttpReply(status=0, body="", error=why, seconds=self._seconds(), asked=asked)

    def _seconds(self) -> float:
        return time.monotonic() - self.started
