"""An incident of the stand-in, and what each request does to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Reply = tuple[int, dict[str, Any]]


@dataclass
class Incident:
    """One incident with its notes, alerts and fields."""

    id: str
    status: str = "triggered"
    service: str = "PSERVICE1"
    title: str = "too many clients already"
    urgency: str = "high"
    priority: str | None = None
    notes: dict[str, str] = field(default_factory=dict)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)
    updates: list[str] = field(default_factory=list)
    resolution: str = ""


def _get(incident: Incident, *_: Any) -> Reply:
    return 200, {"incident": _as_json(incident)}


def _put(incident: Incident, _rest: list[str], body: Any, _new_id: Any) -> Reply:
    return _put_status(incident, body["incident"])


def _alerts(incident: Incident, *_: Any) -> Reply:
    return 200, {"alerts": incident.alerts, "more": False}


def _notes(incident: Incident, *_: Any) -> Reply:
    notes = [{"id": key, "content": text} for key, text in incident.notes.items()]
    return 200, {"notes": notes}


def _post_note(incident: Incident, _rest: Any, body: Any, new_id: Callable[[str], str]) -> Reply:
    note = new_id("N")
    incident.notes[note] = body["note"]["content"]
    return 200, {"note": {"id": note, "content": incident.notes[note]}}


def _put_note(incident: Incident, rest: list[str], body: Any, _new_id: Any) -> Reply:
    if rest[1] not in incident.notes:
        return 404, error(2100, "Not Found")
    incident.notes[rest[1]] = body["note"]["content"]
    return 200, {"note": {"id": rest[1]}}


def _post_update(incident: Incident, _rest: Any, body: Any, _new_id: Any) -> Reply:
    incident.updates.append(body["message"])
    return 200, {"status_update": {"message": body["message"]}}


def _fields(incident: Incident, *_: Any) -> Reply:
    fields = [{"name": name, "value": value} for name, value in incident.fields.items()]
    return 200, {"custom_fields": fields}


def _put_fields(incident: Incident, _rest: Any, body: Any, _new_id: Any) -> Reply:
    incident.fields |= {each["name"]: each["value"] for each in body["custom_fields"]}
    return 201, {"custom_fields": body["custom_fields"]}


#: `METHOD what` -> what it does; what is after the incident's id in the path, and the body.
OBEYED: Mapping[str, Callable[[Incident, list[str], Any, Callable[[str], str]], Reply]] = {
    "GET": _get,
    "PUT": _put,
    "GET alerts": _alerts,
    "GET notes": _notes,
    "POST notes": _post_note,
    "PUT notes": _put_note,
    "POST status_updates": _post_update,
    "GET custom_fields": _fields,
    "PUT custom_fields": _put_fields,
}


def _put_status(incident: Incident, wanted: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    if incident.status == "resolved":
        return 400, error(1001, "Incident Already Resolved")
    if incident.status == "acknowledged" and wanted["status"] == "acknowledged":
        return 400, error(1002, "Incident Already Acknowledged")
    incident.status = wanted["status"]
    incident.resolution = wanted.get("resolution", "")
    return 200, {"incident": _as_json(incident)}


def _as_json(incident: Incident) -> dict[str, Any]:
    priority = {"summary": incident.priority} if incident.priority else None
    return {
        "id": incident.id,
        "type": "incident",
        "status": incident.status,
        "title": incident.title,
        "urgency": incident.urgency,
        "priority": priority,
        "service": {"id": incident.service, "type": "service_reference"},
    }


def error(code: int, why: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": "Invalid Input Provided", "errors": [why]}}
