"""PagerDuty's REST API v2, one request at a time: its headers, its limits, what its answers mean.

Retries are bounded by a deadline and by number, and wait as long as `ratelimit-reset` says. A POST
that may have arrived is never sent again from here: whoever asked has to look whether it did.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from runbook.adapters.http_exchange import Exchanges, NoReply, Reply
from runbook.model.document import visible
from runbook.model.inventory import Secret
from runbook.model.serve_config import PagerDuty
from runbook.model.telling import NotTold

_BASES = {"us": "https://api.pagerduty.com", "eu": "https://api.eu.pagerduty.com"}
#: Requests for one thing, in all; seconds before the next where nothing says how long.
_TIMES, _PAUSE_S = 3, 1.0
#: Bytes of an answer: an incident may have 2,000 notes of 4,000 characters each.
_MOST = 16 * 1024 * 1024
#: Seconds before the next attempt at what a person has to mend first.
_MENDED_S = 300.0


class PagerDutyApi:
    """Requests to one account."""

    def __init__(self, config: PagerDuty, secret: Callable[[Secret], str]) -> None:
        """Prepare; `secret` follows a reference each time, so that a token may be rotated."""
        self._config = config
        self._secret = secret
        self._base = (config.api or _BASES[config.region]).rstrip("/")
        self._exchanges = Exchanges()

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, within_s: float
    ) -> Reply:
        """Send a request until there is an answer; one that is no success is returned as well.

        Raises:
            NotTold: when there is none in time, or too many requests were sent.
            SecretMissing: when the token's reference leads nowhere.
        """
        until = time.monotonic() + within_s
        for number in range(1, _TIMES + 1):
            left = max(until - time.monotonic(), 0.1)
            found = self._once(method, path, body, left)
            if isinstance(found, Reply):
                return found
            if number == _TIMES or time.monotonic() + found.after_s >= until:
                raise found
            time.sleep(found.after_s)
        raise AssertionError("the last attempt returns or raises")

    def _once(
        self, method: str, path: str, body: Mapping[str, Any] | None, within_s: float
    ) -> Reply | NotTold:
        """Send a request once; return the answer, or why and after how long to send it again."""
        try:
            reply = self._exchanges.exchange(
                method,
                f"{self._base}{path}",
                headers=self._headers(),
                body=None if body is None else json.dumps(body).encode(),
                within_s=within_s,
                most=_MOST,
            )
        except NoReply as error:
            failed = NotTold(
                f"PagerDuty: {error.why}",
                hint=_UNREACHED,
                after_s=_PAUSE_S,
                down=True,
                unclear=error.sent and method == "POST",
            )
            if failed.unclear:
                raise failed from None
            return failed
        if reply.status == 429:
            return NotTold("PagerDuty: too many requests", after_s=reset(reply), down=True)
        if reply.status >= 500 and method != "POST":
            return NotTold(f"PagerDuty: HTTP {reply.status}", after_s=_PAUSE_S, down=True)
        return reply

    def _headers(self) -> dict[str, str]:
        return {
            "Authorization": f"Token token={self._secret(self._config.token).strip()}",
            "Accept": "application/vnd.pagerduty+json;version=2",
            "Content-Type": "application/json",
            "From": self._config.sender,
        }

    def close(self) -> None:
        """Close what is open."""
        self._exchanges.close()


_UNREACHED = "nothing stops for it: it is tried again. A proxy is taken from HTTPS_PROXY"


def reset(reply: Reply) -> float:
    """Return after how many seconds PagerDuty takes requests again; it does not always say."""
    for name in ("ratelimit-reset", "retry-after"):
        said = reply.headers.get(name, "")
        if said.isascii() and said.isdecimal() and len(said) < 6:
            return float(said) or _PAUSE_S
    return _PAUSE_S


def said(reply: Reply) -> Mapping[str, Any]:
    """Return an answer's object; an empty one where it is none."""
    try:
        found = json.loads(reply.body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def codes(reply: Reply) -> set[int]:
    """Return the error's own number, as in `{"error": {"code": 1001}}`."""
    error = said(reply).get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return {code} if isinstance(code, int) else set()


def refusal(reply: Reply, what: str) -> NotTold:
    """Return what an answer that is no success means, and what a person can do about it."""
    words = _words(reply)
    match reply.status:
        case 401:
            hint = "look at pagerduty.token; an account in the EU also needs region: eu"
            return NotTold(
                f"PagerDuty refuses the token (401){words}",
                hint=hint,
                after_s=_MENDED_S,
                down=True,
            )
        case 403:
            hint = f"the token's user or scopes may not do this: {what}"
            return NotTold(f"PagerDuty forbids it (403){words}", hint=hint, after_s=_MENDED_S)
        case 404:
            hint = "the id is wrong, or of another account than pagerduty.token's (or region)"
            return NotTold(f"PagerDuty does not know it: {what} (404)", hint=hint, again=False)
        case 400 if "from" in words.lower() or "requester" in words.lower():
            hint = "pagerduty.from must be the e-mail address of a user of the account"
            return NotTold(
                f"PagerDuty does not know the sender (400){words}", hint=hint, after_s=_MENDED_S
            )
        case status if 400 <= status < 500:
            return NotTold(f"PagerDuty refuses it: {what} ({status}){words}", again=False)
        case status:
            return NotTold(f"PagerDuty: HTTP {status}{words}", down=True, unclear=True)


def _words(reply: Reply) -> str:
    error = said(reply).get("error")
    if not isinstance(error, dict):
        return ""
    more = error.get("errors")
    parts = [str(error.get("message", "")), *(map(str, more) if isinstance(more, list) else ())]
    words = visible("; ".join(part for part in parts if part))[:300]
    return f": {words}" if words else ""
