"""One HTTP exchange under one deadline, and whether it was begun: what tells news apart from noise.

A request that was not answered may have arrived. Whether it can have is known here alone: nothing
is sent after the deadline, whatever the name server or a handshake takes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

#: Bytes of an answer that are read, unless told.
_BODY = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoReply(Exception):
    """There was no answer.

    `sent`: the request had begun to be sent, and may have arrived. `again`: another attempt may
    fare better; no address and no trusted certificate come by waiting.
    """

    def __init__(self, why: str, *, sent: bool, again: bool = True) -> None:
        super().__init__(why)
        self.why = why
        self.sent = sent
        self.again = again


class _TooMuch(Exception):
    """An answer is longer than anybody wants to read."""


class _OverTime(Exception):
    """The deadline was over before anything was sent."""


@dataclass
class _Fate:
    """Whether a request is sent, or given up before: one of the two, whoever is first."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    sent: bool = False
    given_up: bool = False

    def trace(self, name: str, _info: Any) -> None:
        """Be told by the library how far it is."""
        if not name.endswith("send_request_headers.started"):
            return
        with self.lock:
            if self.given_up:
                raise _OverTime
            self.sent = True

    def give_up(self) -> bool:
        """Give it up, unless it was sent; return whether it was."""
        with self.lock:
            self.given_up = True
            return self.sent


class Exchanges:
    """Exchanges with one service; redirects are not followed: an answer is the service's own.

    HTTPS_PROXY and its like hold: a bastion is mostly behind a proxy.
    """

    def __init__(self) -> None:
        self._client: httpx.Client | None = None

    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        within_s: float,
        most: int = _BODY,
        cut: bool = False,
    ) -> Reply:
        """Send one request, once, and return the answer, of `most` bytes; a longer one may be cut.

        Raises:
            NoReply: when there is none in time; no message says the address, which may be a secret.
        """
        fate, done = _Fate(), threading.Event()
        outcome: list[Reply | Exception] = []

        def work() -> None:
            try:
                found = self._send(method, url, headers, body, within_s, most, fate, cut=cut)
                outcome.append(found)
            except Exception as error:  # noqa: BLE001 - handed to the thread that waits
                outcome.append(error)
            done.set()

        # The deadline covers names and trickling answers too: a thread that is over it is left.
        threading.Thread(target=work, name="exchange", daemon=True).start()
        if not done.wait(within_s):
            raise NoReply(f"no answer within {within_s:.3g}s", sent=fate.give_up())
        if isinstance(outcome[0], Reply):
            return outcome[0]
        why = _why(outcome[0])
        raise NoReply(why, sent=fate.sent, again=why not in _FOR_GOOD) from None

    def _send(  # noqa: PLR0917
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        within_s: float,
        most: int,
        fate: _Fate,
        *,
        cut: bool,
    ) -> Reply:
        with self._opened().stream(
            method,
            url,
            headers={"User-Agent": "runbook", **headers},
            content=body,
            timeout=within_s,
            extensions={"trace": fate.trace},
        ) as answer:
            found = b""
            for chunk in answer.iter_bytes():
                found += chunk
                if len(found) > most and not cut:
                    raise _TooMuch(most)
                if len(found) >= most and cut:
                    break
            head = {name.lower(): value for name, value in answer.headers.items()}
            return Reply(status=answer.status_code, headers=head, body=found[:most])

    def _opened(self) -> httpx.Client:
        import httpx

        if self._client is None:
            self._client = httpx.Client(follow_redirects=False)
        return self._client

    def close(self) -> None:
        """Close what is open; may be called twice."""
        if self._client is not None:
            self._client.close()
            self._client = None


_NO_URL, _UNTRUSTED = "the address is no proper URL", "its certificate is not trusted"
_FOR_GOOD = frozenset({_NO_URL, _UNTRUSTED})


def _why(error: Exception) -> str:
    """Return why there was no answer, without the address."""
    import httpx

    if isinstance(error, httpx.ConnectError):
        return _of_a_connection(str(error))
    for kind, words in (
        ((httpx.ConnectTimeout, _OverTime), "no connection in time"),
        (httpx.TimeoutException, "no answer in time"),
        ((httpx.InvalidURL, httpx.UnsupportedProtocol), _NO_URL),
        (httpx.TransportError, f"the connection was cut ({type(error).__name__})"),
        (_TooMuch, f"its answer has more than {error} bytes"),
    ):
        if isinstance(error, kind):
            return words
    return f"no proper HTTP answer ({type(error).__name__})"


def _of_a_connection(said: str) -> str:
    if "CERTIFICATE" in said.upper():
        return _UNTRUSTED
    if "Name or service" in said or "name resolution" in said or "No address" in said:
        return "the name cannot be resolved"
    return "no connection (refused, or no way there)"
