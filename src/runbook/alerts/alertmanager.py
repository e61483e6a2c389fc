"""Prometheus Alertmanager's webhooks, version 4: a group of alerts, each one for itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from runbook.alerts import contents, letting_in
from runbook.model.alert import Alert, Reading, Received, Rejected
from runbook.model.serve_config import Hook
from runbook.model.source import Source

_NAME = "alertmanager"
#: `max_alerts` of a receiver bounds a group; bodies of the size that is taken hold fewer.
_MOST_ALERTS = 1000
_FINGERPRINT = re.compile(r"[0-9a-f]{1,64}")
#: When something began is told by one key, when it was over by another.
_TIMES = {"firing": "startsAt", "resolved": "endsAt"}


def _authenticate(received: Received, hook: Hook, secrets: Sequence[str]) -> None:
    letting_in.check_secret(received, hook.header, secrets)


def _read(received: Received, _hook: Hook) -> Reading:
    body = contents.json_object(received.body)
    if body.get("version") != "4":
        raise Rejected(400, "it is not version 4 of Alertmanager's webhook")
    group = body.get("groupKey")
    if not isinstance(group, str):
        raise Rejected(400, "there is no groupKey")
    alerts = contents.objects(body.get("alerts"), _MOST_ALERTS, "alerts")
    return Reading(alerts=tuple(_alert(received, group, one) for one in alerts))


def _alert(received: Received, group: str, alert: Mapping[str, Any]) -> Alert:
    status = alert.get("status")
    if not isinstance(status, str) or status not in _TIMES:
        raise Rejected(400, "an alert is neither firing nor resolved")
    labels = contents.labels(contents.mapping(alert.get("labels")).items())
    annotations = contents.mapping(alert.get("annotations"))
    return Alert(
        source=_NAME,
        hook=received.hook,
        key=_key(received.hook, group, status, alert),
        event=status,
        at=contents.moment(alert.get(_TIMES[status])),
        labels=labels,
        title=contents.title(annotations.get("summary") or labels.get("alertname")),
    )


def _key(hook: str, group: str, status: str, alert: Mapping[str, Any]) -> str:
    """Alertmanager resends what goes on firing: the same alert, since the same moment."""
    fingerprint = alert.get("fingerprint")
    if not isinstance(fingerprint, str) or not _FINGERPRINT.fullmatch(fingerprint):
        raise Rejected(400, "an alert has no fingerprint")
    began = contents.moment(alert.get("startsAt"))
    return f"{_NAME}:{contents.digest(hook, group, fingerprint, repr(began), status)}"


ALERTMANAGER = Source(
    name=_NAME,
    summary="Prometheus Alertmanager's webhook receiver, with a bearer token or a password",
    content_types=("application/json",),
    authenticate=_authenticate,
    read=_read,
)
