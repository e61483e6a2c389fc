"""PagerDuty's V3 webhooks: signed with every live secret, one event each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runbook.alerts import contents, letting_in
from runbook.model.alert import Alert, Reading, Received, Rejected
from runbook.model.serve_config import Hook
from runbook.model.source import Source

_HEADER = "X-PagerDuty-Signature"
_PING = "pagey.ping"


def _authenticate(received: Received, _hook: Hook, secrets: Sequence[str]) -> None:
    """The secret's own characters are the key, though they look like base64."""
    given = letting_in.signatures(letting_in.header(received, _HEADER), "v1")
    if not received.body:
        raise Rejected(400, "the body is empty")
    letting_in.check_signature(received.body, given, secrets)


def _read(received: Received, _hook: Hook) -> Reading:
    body = contents.json_object(received.body)
    return read_event(received, body.get("event"), source="pagerduty")


def read_event(received: Received, event: Any, *, source: str) -> Reading:
    """Return what one V3 event says.

    Raises:
        Rejected: 400 when it is none. A time must be there: no other time is signed.
    """
    if not isinstance(event, dict):
        raise Rejected(400, "there is no event")
    name = contents.event_name(event.get("event_type"))
    if name == _PING:
        return Reading()
    data = contents.mapping(event.get("data"))
    about = data if data.get("type") == "incident" else contents.mapping(data.get("incident"))
    alert = Alert(
        source=source,
        hook=received.hook,
        key=f"{source}:{contents.event_id(event.get('id'))}",
        event=name,
        at=contents.moment(event.get("occurred_at")),
        incident=contents.pagerduty_id(about.get("id")),
        service=contents.pagerduty_id(_service(data, about).get("id")),
        priority=contents.short(contents.mapping(about.get("priority")).get("summary")),
        urgency=urgency(about.get("urgency")),
        labels=contents.labels(_custom_fields(data)),
        by=contents.pagerduty_id(contents.mapping(event.get("agent")).get("id")),
        title=contents.title(about.get("title") or about.get("summary") or data.get("summary")),
    )
    return Reading(alerts=(alert,))


def urgency(value: Any) -> str | None:
    """Return PagerDuty's urgency, or None for what is none."""
    return str(value) if value in ("high", "low") else None


def _service(data: Mapping[str, Any], about: Mapping[str, Any]) -> Mapping[str, Any]:
    if data.get("type") == "service":
        return data
    return contents.mapping(about.get("service") or data.get("service"))


def _custom_fields(data: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Custom fields come with their own event; the changed ones have their new values apart."""
    for key in ("custom_fields", "changed_custom_fields"):
        fields = data.get(key)
        for one in fields if isinstance(fields, list) else ():
            given = contents.mapping(one)
            yield given.get("name"), given.get("value")


PAGERDUTY = Source(
    name="pagerduty",
    summary="PagerDuty's V3 webhook subscriptions, signed",
    content_types=("application/json",),
    authenticate=_authenticate,
    read=_read,
)
