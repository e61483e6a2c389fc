"""Who can be told: one line for each kind of recipient."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from runbook.adapters.pagerduty import PagerDutyIncidents
from runbook.adapters.pagerduty_api import PagerDutyApi
from runbook.adapters.pagerduty_events import PagerDutyEvents
from runbook.adapters.signed_webhook import SignedWebhook
from runbook.adapters.slack_webhook import SlackWebhook
from runbook.model.inventory import Secret
from runbook.model.serve_config import Notify, ServeConfig
from runbook.model.telling import Sender

#: The key of `notify.NAME` that says where a message goes, and what sends it there.
KINDS: Mapping[str, Callable[[Notify, Callable[[Secret], str]], Sender]] = {
    "slack": SlackWebhook,
    "webhook": SignedWebhook,
}


def senders(config: ServeConfig, secret: Callable[[Secret], str]) -> dict[str, Sender]:
    """Return what sends to each recipient of a configuration; nothing is asked or opened yet."""
    found: dict[str, Sender] = {}
    if config.pagerduty is not None:
        found["pagerduty"] = PagerDutyIncidents(PagerDutyApi(config.pagerduty, secret))
        if config.pagerduty.routing_key is not None:
            found["pagerduty-change"] = PagerDutyEvents(config.pagerduty, secret)
    for name, notify in config.notify.items():
        for kind, sender in KINDS.items():
            if getattr(notify, kind) is not None:
                found[name] = sender(notify, secret)
    return found
