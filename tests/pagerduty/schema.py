"""What runbook may ask of PagerDuty, as an OpenAPI document of our own: no more than we use."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from openapi_core import OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.testing import MockRequest

_TEXT = {"type": "string", "minLength": 1}
_ANY = {"200": {"description": "well"}}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


_INCIDENT = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Z0-9]{7,14}$"},
}
_NOTE_ID = {"name": "note", "in": "path", "required": True, "schema": _TEXT}
#: Required wherever something is written: whose name it bears.
_FROM = {
    "name": "From",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "pattern": r"^[^@\s]+@[^@\s]+$"},
}
_LIMIT = {"name": "limit", "in": "query", "schema": {"type": "integer", "maximum": 100}}
_NOTE = _body(
    _object(["note"], note=_object(["content"], content={**_TEXT, "maxLength": 65535})),
)
_STATUS = _body(
    _object(
        ["incident"],
        incident=_object(
            ["type", "status"],
            type={"type": "string", "enum": ["incident_reference"]},
            status={"type": "string", "enum": ["triggered", "acknowledged", "resolved"]},
            resolution=_TEXT,
        ),
    )
)
_FIELDS = _body(
    _object(
        ["custom_fields"],
        custom_fields={
            "type": "array",
            "minItems": 1,
            "items": _object(["name", "value"], name=_TEXT, value=_TEXT),
        },
    )
)
_LINKS = {
    "type": "array",
    "items": _object(["href"], href={"type": "string", "pattern": "^https?://"}, text=_TEXT),
}
_KEY = {"type": "string", "minLength": 32, "maxLength": 32}
_DEDUP = {"type": "string", "minLength": 1, "maxLength": 255}
_PAYLOAD = _object(
    ["summary", "source", "severity"],
    summary={**_TEXT, "maxLength": 1024},
    source=_TEXT,
    severity={"type": "string", "enum": ["critical", "error", "warning", "info"]},
    timestamp=_TEXT,
    component=_TEXT,
    group=_TEXT,
    **{"class": _TEXT},
    custom_details={"type": "object"},
)


def _event(action: str, required: list[str]) -> dict[str, Any]:
    return _object(
        ["routing_key", "event_action", *required],
        routing_key=_KEY,
        event_action={"type": "string", "enum": [action]},
        dedup_key=_DEDUP,
        payload=_PAYLOAD,
        links=_LINKS,
        client=_TEXT,
        client_url=_TEXT,
    )


_ALERT = _body(
    {
        "oneOf": [
            _event("trigger", ["payload"]),
            _event("acknowledge", ["dedup_key"]),
            _event("resolve", ["dedup_key"]),
        ]
    }
)
_CHANGE = _body(
    _object(
        ["routing_key", "payload"],
        routing_key=_KEY,
        payload=_object(
            ["summary"],
            summary={**_TEXT, "maxLength": 1024},
            source=_TEXT,
            timestamp=_TEXT,
            custom_details={"type": "object"},
        ),
        links=_LINKS,
    )
)


def _get(*parameters: Any) -> dict[str, Any]:
    return {"parameters": [*parameters], "responses": _ANY}


def _write(body: dict[str, Any], *parameters: Any) -> dict[str, Any]:
    return {"parameters": [_FROM, *parameters], "requestBody": body, "responses": _ANY}


def _public(body: dict[str, Any]) -> dict[str, Any]:
    """The Events API knows whom it hears from by the routing key in the body."""
    return {"requestBody": body, "responses": _ANY, "security": []}


DOCUMENT: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "what runbook asks of PagerDuty", "version": "1"},
    "servers": [{"url": "/"}],
    "security": [{"token": []}],
    "components": {
        "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "Authorization"}}
    },
    "paths": {
        "/incidents/{id}": {"get": _get(_INCIDENT), "put": _write(_STATUS, _INCIDENT)},
        "/incidents/{id}/alerts": {"get": _get(_INCIDENT, _LIMIT)},
        "/incidents/{id}/notes": {"get": _get(_INCIDENT), "post": _write(_NOTE, _INCIDENT)},
        "/incidents/{id}/notes/{note}": {"put": _write(_NOTE, _INCIDENT, _NOTE_ID)},
        "/incidents/{id}/status_updates": {
            "post": _write(_body(_object(["message"], message=_TEXT)), _INCIDENT)
        },
        "/incidents/{id}/custom_fields/values": {
            "get": _get(_INCIDENT),
            "put": _write(_FIELDS, _INCIDENT),
        },
        "/v2/enqueue": {"post": _public(_ALERT)},
        "/v2/change/enqueue": {"post": _public(_CHANGE)},
    },
}


@lru_cache(maxsize=1)
def _openapi() -> OpenAPI:
    return OpenAPI.from_dict(DOCUMENT)


def complaint(method: str, path: str, query: dict[str, Any], headers: Any, body: bytes) -> str:
    """Return what is wrong with a request; '' when nothing is."""
    if path.startswith("/incidents"):
        accept = headers.get("Accept", "")
        if "application/vnd.pagerduty+json;version=2" not in accept:
            return f"Accept is {accept!r}"
    request = MockRequest(
        "http://127.0.0.1",
        method.lower(),
        path,
        args=query,
        headers=dict(headers),
        data=body or None,
        content_type=headers.get("Content-Type", ""),
    )
    try:
        _openapi().validate_request(request)
    except OpenAPIError as error:
        cause = error.__cause__
        return f"{type(error).__name__}: {error}" + (f": {cause}" if cause else "")
    return ""
