"""PagerDuty's incident as it stands now, with the details of its alerts: what rules are held to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runbook.adapters.pagerduty import incident_id
from runbook.adapters.pagerduty_api import PagerDutyApi, refusal, said
from runbook.model.errors import DoorError
from runbook.model.intake import IncidentNow

#: Seconds for all requests of one reading.
_WITHIN_S = 10.0
#: Alerts that are looked at, labels that are kept, and characters of one.
_ALERTS, _LABELS, _LABEL = 100, 200, 1_000
_STATUSES = {"triggered", "acknowledged", "resolved"}


class PagerDutyReader:
    """Reads incidents; see `runbook.model.intake.IncidentReader`."""

    def __init__(self, api: PagerDutyApi) -> None:
        self._api = api

    def incident(self, incident: str) -> IncidentNow:
        """Return an incident as it stands, with what its alerts and custom fields say.

        A label that two open alerts say differently is left out: nobody knows which is meant.

        Raises:
            DoorError: when PagerDuty does not say.
        """
        path = f"/incidents/{incident_id(incident)}"
        found = self._get(path, "incident", dict)
        status = str(found.get("status"))
        if status not in _STATUSES:
            raise DoorError(f"PagerDuty says that incident {incident} is {status[:40]!r}")
        alerts = self._get(f"{path}/alerts?limit={_ALERTS}", "alerts", list)
        return IncidentNow(
            id=incident,
            status=status,  # type: ignore[arg-type]
            service=_text(found.get("service"), "id"),
            priority=_text(found.get("priority"), "summary"),
            urgency=_text(found, "urgency"),
            title=_text(found, "title") or "",
            labels={**_labels(alerts), **self._fields(path)},
        )

    def _fields(self, path: str) -> Mapping[str, str]:
        """Return custom fields; an account that has none has no such address either."""
        reply = self._api.ask("GET", f"{path}/custom_fields/values", within_s=_WITHIN_S)
        if reply.status in {402, 403, 404}:
            return {}
        if reply.status != 200:
            raise refusal(reply, "its custom fields")
        fields = said(reply).get("custom_fields")
        pairs = [(each.get("name"), each.get("value")) for each in _objects(fields)]
        return {str(name): text for name, value in pairs if (text := _plain(value)) and name}

    def _get(self, path: str, key: str, kind: type) -> Any:
        reply = self._api.ask("GET", path, within_s=_WITHIN_S)
        found = said(reply).get(key)
        if reply.status != 200 or not isinstance(found, kind):
            raise refusal(reply, "the incident")
        return found


def _labels(alerts: Any) -> dict[str, str]:
    all_ = list(_objects(alerts))
    open_ = [alert for alert in all_ if alert.get("status") != "resolved"] or all_
    found: dict[str, str | None] = {}
    for alert in open_:
        for name, value in _details(alert):
            found[name] = value if found.get(name, value) == value else None
    known = [(name, value) for name, value in found.items() if value is not None]
    return dict(known[:_LABELS])


def _details(alert: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what an alert says; of what is nested, one level: `labels.instance`."""
    for name in ("alert_key", "severity"):
        if text := _plain(alert.get(name)):
            yield name, text
    body = alert.get("body")
    details = body.get("details") if isinstance(body, dict) else None
    for name, value in (details if isinstance(details, dict) else {}).items():
        if text := _plain(value):
            yield name, text
        for inner, deeper in (value if isinstance(value, dict) else {}).items():
            if text := _plain(deeper):
                yield f"{name}.{inner}", text


def _plain(value: Any) -> str:
    """Return plain text and numbers; '' for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value)[:_LABEL]


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(value: Any, key: str) -> str | None:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else None
