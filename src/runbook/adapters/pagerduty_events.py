"""PagerDuty's Events API v2: alerts that are triggered and resolved, and change events."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from runbook.adapters.http_exchange import Exchanges, NoReply, Reply
from runbook.adapters.pagerduty_api import reset
from runbook.model.document import visible
from runbook.model.errors import DoorError
from runbook.model.intake import Told
from runbook.model.inventory import Secret
from runbook.model.serve_config import PagerDuty
from runbook.model.telling import NotTold

_BASES = {"us": "https://events.pagerduty.com", "eu": "https://events.eu.pagerduty.com"}
#: The largest event that PagerDuty takes.
_MOST_BYTES = 512 * 1024


class PagerDutyEvents:
    """One integration's events."""

    def __init__(self, config: PagerDuty, secret: Callable[[Secret], str]) -> None:
        self._config = config
        self._secret = secret
        self._base = (config.events or _BASES[config.region]).rstrip("/")
        self._exchanges = Exchanges()

    def send(self, told: Told, within_s: float) -> str | None:
        """Send a change event; see `Sender`. An attempt without a word is made again."""
        self.change(told.content, within_s)
        return None

    def alert(self, event: Mapping[str, Any], within_s: float) -> str | None:
        """Trigger, acknowledge or resolve an alert; return its dedup key.

        `event`: `event_action`, `dedup_key`, and to trigger, `payload`.

        Raises:
            NotTold: when it was not taken, as far as is known.
            SecretMissing: when the routing key's reference leads nowhere.
        """
        key = self._post("/v2/enqueue", event, within_s).get("dedup_key")
        return str(key) if key is not None else None

    def change(self, content: Mapping[str, Any], within_s: float) -> None:
        """Send a change event: `summary`, `source`, `timestamp`, `custom_details`, `links`.

        Raises:
            NotTold, SecretMissing: see `alert`.
        """
        payload = {
            key: content[key]
            for key in ("summary", "source", "timestamp", "custom_details")
            if content.get(key)
        }
        links = {"links": content["links"]} if content.get("links") else {}
        self._post("/v2/change/enqueue", {"payload": payload, **links}, within_s)

    def close(self) -> None:
        """Close what is open."""
        self._exchanges.close()

    def _post(self, path: str, event: Mapping[str, Any], within_s: float) -> Mapping[str, Any]:
        if self._config.routing_key is None:
            raise DoorError(
                "there is no pagerduty.routing_key in the configuration",
                hint="add an Events API v2 integration to the service, and name its key there",
            )
        routing_key = self._secret(self._config.routing_key).strip()
        body = json.dumps({"routing_key": routing_key, **event}).encode()
        if len(body) > _MOST_BYTES:
            raise NotTold(
                f"an event of {len(body)} bytes is more than PagerDuty takes", again=False
            )
        try:
            reply = self._exchanges.exchange(
                "POST",
                f"{self._base}{path}",
                headers={"Content-Type": "application/json"},
                body=body,
                within_s=within_s,
            )
        except NoReply as error:
            raise NotTold(f"PagerDuty's events: {error.why}", down=True) from None
        return _taken(reply)


def _taken(reply: Reply) -> Mapping[str, Any]:
    try:
        said = json.loads(reply.body)
    except ValueError:
        said = {}
    said = said if isinstance(said, dict) else {}
    if reply.status == 202:
        return said
    if reply.status == 429 or reply.status >= 500:
        raise NotTold(f"PagerDuty's events: HTTP {reply.status}", after_s=reset(reply), down=True)
    errors = said.get("errors")
    words = visible("; ".join(map(str, errors)) if isinstance(errors, list) else "")[:300]
    raise NotTold(
        f"PagerDuty refuses the event ({reply.status})" + (f": {words}" if words else ""),
        hint="look at pagerduty.routing_key: the key of an Events API v2 integration",
        again=False,
    )
