"""One POST, to tell somebody something, by the standard library.

Webhooks are mostly on the internet, and bastions mostly behind a proxy: HTTPS_PROXY and its like
hold here, unlike for health gates. Redirects are not followed: a message is sent where the
playbook says, or nowhere. The deadline covers everything, so the exchange runs in a thread of its
own that is left behind when it is over time.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from runbook.adapters.secrets import resolve
from runbook.model.effects import HttpPost, HttpReply
from runbook.model.errors import ChangeInRehearsal

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes of the answer that are read: what a service complains about fits in its first lines.
BODY_BYTES = 8 * 1024


class HttpPostDoor:
    """Performs HttpPost; refuses it in a rehearsal."""

    def __init__(self, *, rehearsal: bool) -> None:
        self._rehearsal = rehearsal

    def perform(self, effect: Any) -> HttpReply:
        """Post once, and say how it went.

        Raises:
            SecretMissing: when the reference to the address leads nowhere.
            ChangeInRehearsal: in a rehearsal.
        """
        if not isinstance(effect, HttpPost):
            raise TypeError(f"HttpPostDoor does not perform {type(effect).__name__}")
        if self._rehearsal:
            raise ChangeInRehearsal(
                f"this is a rehearsal, and it was asked to change something: {effect.sentence()}",
                hint="nobody was told; this is a defect of the step: report it",
            )
        url = effect.url if isinstance(effect.url, str) else resolve(effect.url)
        return _within(effect.timeout_s, lambda started: _post(url.strip(), effect, started))

    def close(self) -> None:
        """Nothing is kept open between requests."""


def _within(seconds: float, work: Callable[[float], HttpReply]) -> HttpReply:
    started = time.monotonic()
    replies: list[HttpReply] = []
    worker = threading.Thread(
        target=lambda: replies.append(work(started)), name="http-post", daemon=True
    )
    worker.start()
    worker.join(seconds)
    return replies[0] if replies else _failed(f"no answer within {seconds:g}s", started)


def _post(url: str, effect: HttpPost, started: float) -> HttpReply:
    """Exchange one request; no error says the address, which is a secret."""
    import http.client
    import urllib.error

    if not url.startswith(("http://", "https://")):
        return _failed("the address does not begin with http:// or https://", started, asked=False)
    try:
        with _exchange(url, effect) as response:
            return _reply(response.status, response, started)
    except urllib.error.HTTPError as error:
        with error:
            return _reply(error.code, error, started)
    except (OSError, http.client.HTTPException, ValueError) as error:
        why, asked = _why(error)
        return _failed(why, started, asked=asked)


def _exchange(url: str, effect: HttpPost) -> Any:
    import urllib.request

    request = urllib.request.Request(  # noqa: S310 - its scheme was looked at
        url,
        data=effect.body.encode("utf-8", errors="replace"),
        headers={"Content-Type": effect.content_type, "User-Agent": "runbook"},
        method="POST",
    )
    return _opener().open(request, timeout=effect.timeout_s)


def _opener() -> Any:
    import urllib.request

    class _Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
            """No redirect: the answer itself, a 3xx, comes back as an HTTPError."""

    return urllib.request.build_opener(_Stay)


def _why(error: Exception) -> tuple[str, bool]:
    """Return why there was no answer, and whether another attempt may fare better."""
    import http.client
    import socket
    import ssl

    reason = getattr(error, "reason", error)  # urllib wraps what the socket said
    match reason:
        case socket.gaierror():
            return "the name cannot be resolved", True
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {reason.verify_message}", False
        case TimeoutError():
            return "no answer in time", True
        case OSError():
            return reason.strerror or type(reason).__name__, True
        case http.client.HTTPException() if not isinstance(reason, http.client.InvalidURL):
            return f"no proper HTTP answer ({type(reason).__name__})", True
    return "the address is no proper URL", False


def _reply(status: int, response: Any, started: float) -> HttpReply:
    body = response.read(BODY_BYTES).decode("utf-8", errors="replace")
    return HttpReply(status=status, body=body, error="", seconds=time.monotonic() - started)


def _failed(why: str, started: float, *, asked: bool = True) -> HttpReply:
    seconds = time.monotonic() - started
    return HttpReply(status=0, body="", error=why, seconds=seconds, asked=asked)
