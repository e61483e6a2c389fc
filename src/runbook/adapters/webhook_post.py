"""One POST of JSON to an address that is a secret, and what the answer means."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from runbook.adapters.http_exchange import Exchanges, NoReply
from runbook.adapters.pagerduty_api import reset
from runbook.model.document import visible
from runbook.model.inventory import Secret
from runbook.model.telling import NotTold

#: Seconds before the next attempt at what a person has to mend first.
_MENDED_S = 300.0


class WebhookPost:
    """One address; no message says it: who knows it can post there."""

    def __init__(self, name: str, url: Secret, secret: Callable[[Secret], str]) -> None:
        self._name = name
        self._url = url
        self._secret = secret
        self._exchanges = Exchanges()

    def send(
        self, body: bytes | Mapping[str, Any], headers: Mapping[str, str], within_s: float
    ) -> None:
        """Post once.

        Raises:
            NotTold: when it was not taken, as far as is known.
            SecretMissing: when the reference to the address leads nowhere.
        """
        url = self._secret(self._url).strip()
        if not url.startswith(("https://", "http://")):
            raise NotTold(
                f"{self._name}: the address does not begin with https://", after_s=_MENDED_S
            )
        try:
            reply = self._exchanges.exchange(
                "POST",
                url,
                headers={"Content-Type": "application/json", **headers},
                body=body if isinstance(body, bytes) else json.dumps(body).encode(),
                within_s=within_s,
            )
        except NoReply as error:
            raise NotTold(f"{self._name}: {error.why}", down=True, unclear=error.sent) from None
        if 200 <= reply.status < 300:
            return
        words = visible(reply.body[:200].decode("utf-8", errors="replace"))
        why = f"{self._name}: HTTP {reply.status}" + (f": {words}" if words else "")
        if reply.status in {408, 429} or reply.status >= 500:
            raise NotTold(why, after_s=reset(reply), down=True)
        if reply.status in {400, 413, 422}:
            raise NotTold(why, again=False)  # it is the message that is refused
        hint = "make the webhook anew, and put its address where the configuration refers to"
        raise NotTold(why, hint=hint, after_s=_MENDED_S, down=True)

    def close(self) -> None:
        """Close what is open."""
        self._exchanges.close()
