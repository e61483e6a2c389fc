"""A webhook of one's own: JSON, signed, with an id by which a second delivery is recognised."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable

from runbook.adapters.webhook_post import WebhookPost
from runbook.model.intake import Told
from runbook.model.inventory import Secret
from runbook.model.serve_config import Notify

SIGNATURE, EVENT = "X-Runbook-Signature", "X-Runbook-Event"


class SignedWebhook:
    """One address."""

    def __init__(
        self,
        config: Notify,
        secret: Callable[[Secret], str],
        now: Callable[[], float] = time.time,
    ) -> None:
        if config.webhook is None:
            raise ValueError("no webhook")
        self._post = WebhookPost("the webhook", config.webhook, secret)
        self._config = config
        self._secret = secret
        self._now = now

    def send(self, told: Told, within_s: float) -> str | None:
        """Send a message; see `Sender`. One that may have arrived is sent again, by the same id."""
        headers = {EVENT: str(told.content["id"])}
        body = json.dumps(dict(told.content)).encode()
        if self._config.sign_with is not None:
            key = self._secret(self._config.sign_with).strip()
            headers[SIGNATURE] = signature(key, body, int(self._now()))
        self._post.send(body, headers, within_s)
        return None

    def close(self) -> None:
        """Close what is open."""
        self._post.close()


def signature(key: str, body: bytes, at: int) -> str:
    """Return `t=SECONDS,v1=HEX`: HMAC-SHA256 over the seconds, a full stop and the raw body."""
    digest = hmac.new(key.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"
