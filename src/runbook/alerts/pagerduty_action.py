"""PagerDuty's Custom Incident Actions: a button on the incident, in the older V2 envelope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runbook.alerts import contents, letting_in
from runbook.alerts.pagerduty import read_event, urgency
from runbook.model.alert import Alert, Reading, Received
from runbook.model.serve_config import Hook
from runbook.model.source import Source

#: The custom header to enter at the action, unless the hook names another one.
HEADER = "X-Runbook-Secret"
_NAME = "pagerduty-action"
#: One press is one message; PagerDuty's envelope may hold several.
_MOST_MESSAGES = 50
_PRESS = "custom_log_entry"


def _authenticate(received: Received, hook: Hook, secrets: Sequence[str]) -> None:
    """Nothing says that these calls are signed: the secret is in a custom header."""
    letting_in.check_secret(received, hook.header or HEADER, secrets)


def _read(received: Received, _hook: Hook) -> Reading:
    body = contents.json_object(received.body)
    if "event" in body and "messages" not in body:
        # V2 is past its end of support; what follows it has V3's shape.
        return read_event(received, body["event"], source=_NAME)
    messages = contents.objects(body.get("messages"), _MOST_MESSAGES, "messages")
    return Reading(alerts=tuple(_alert(received, one) for one in messages))


def _alert(received: Received, message: Mapping[str, Any]) -> Alert:
    incident = contents.mapping(message.get("incident"))
    created = message.get("created_on")
    return Alert(
        source=_NAME,
        hook=received.hook,
        key=f"{_NAME}:{contents.event_id(message.get('id'))}",
        event=contents.event_name(message.get("event")),
        at=None if created is None else contents.moment(created),
        incident=contents.pagerduty_id(incident.get("id")),
        service=contents.pagerduty_id(contents.mapping(incident.get("service")).get("id")),
        priority=contents.short(contents.mapping(incident.get("priority")).get("summary")),
        urgency=urgency(incident.get("urgency")),
        by=_presser(message.get("log_entries")),
        title=contents.title(incident.get("title") or incident.get("summary")),
    )


def _presser(entries: Any) -> str | None:
    """Who pressed the button: the agent of the press' own log entry."""
    for one in entries if isinstance(entries, list) else ():
        entry = contents.mapping(one)
        if entry.get("type") == _PRESS:
            return contents.pagerduty_id(contents.mapping(entry.get("agent")).get("id"))
    return None


PAGERDUTY_ACTION = Source(
    name=_NAME,
    summary="PagerDuty's Custom Incident Actions, with a secret in a header",
    content_types=("application/json",),
    authenticate=_authenticate,
    read=_read,
)
