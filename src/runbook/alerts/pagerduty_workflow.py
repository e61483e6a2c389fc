"""PagerDuty's incident workflows and event orchestration: calls that bear a token, and no id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runbook.alerts import contents, letting_in
from runbook.alerts.pace import SAME_WITHIN_S
from runbook.model.alert import Alert, Reading, Received, Rejected
from runbook.model.serve_config import Hook
from runbook.model.source import Source

_NAME = "pagerduty-workflow"
#: What event orchestration adds to the body that its rule makes.
_METADATA = "__pd_metadata"


def _authenticate(received: Received, hook: Hook, secrets: Sequence[str]) -> None:
    letting_in.check_secret(received, hook.header, secrets)


def _read(received: Received, _hook: Hook) -> Reading:
    body = contents.json_object(received.body)
    labels = contents.labels(body.items())
    alert = Alert(
        source=_NAME,
        hook=received.hook,
        key=_key(received),
        event="orchestration" if _METADATA in body else "workflow",
        incident=_incident(body),
        labels=labels,
        title=contents.title(body.get("title")),
    )
    return Reading(alerts=(alert,))


def _incident(body: Mapping[str, Any]) -> str:
    """Return the one incident that the body names.

    Raises:
        Rejected: 400 when it names none, or two.
    """
    metadata = contents.mapping(contents.mapping(body.get(_METADATA)).get("incident"))
    named = [one for one in (body.get("incident_id"), metadata.get("id")) if one is not None]
    found = contents.pagerduty_id(named[0]) if named else None
    if found is None:
        raise Rejected(400, "there is no incident_id")
    if any(one != found for one in named):
        raise Rejected(400, "incident_id and __pd_metadata name two incidents")
    return found


def _key(received: Received) -> str:
    """What makes it the same call: its hook and its bytes, within five minutes.

    Such a call bears neither an id nor a time. Resent, it has the same bytes at once or within a
    minute or two: it must run once. Pressed again later it has the same bytes as well, and must run
    again. What is resent across a full five minutes has another key; `rules.judge` sees by what is
    before the `@` that it is the same.
    """
    same = contents.digest(received.hook, received.body)
    return f"{_NAME}:{same}@{int(received.at // SAME_WITHIN_S)}"


PAGERDUTY_WORKFLOW = Source(
    name=_NAME,
    summary="PagerDuty's incident workflows and event orchestration, with a bearer token",
    content_types=("application/json",),
    authenticate=_authenticate,
    read=_read,
)
