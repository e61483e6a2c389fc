"""Calls as the sources make them, signed as they sign: for tests, and for the fuzzer to spoil.

`recorded/pagerduty-priority-updated.json` is the body of the public test of PagerDuty's own client
for Go (github.com/PagerDuty/go-pagerduty, webhookv3, Apache-2.0), byte by byte, with its secret and
its signature below; Slack's command is the example of Slack's own documentation of signatures.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from runbook.model.alert import Received

#: 2026-11-24 02:17:00 UTC, a night to remember.
NOW = 1_795_486_620.0
SECRET = "a-secret-of-the-tests"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

PUBLIC_BODY = (Path(__file__).parent / "recorded" / "pagerduty-priority-updated.json").read_bytes()
PUBLIC_SECRET = "lDQHScfUeXUKaQRNF+8XIiDKZ7XX3itBAYzwU0TARw8lJqRnkKl2iB1anSb0Z+IK"
PUBLIC_SIGNATURE = "v1=0c0b9495b893a39e70d1fea2fe11fbe0a825f88b9f67846f6cc07dd2bc5476cd"

SLACK_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
SLACK_AT = 1_531_420_618
SLACK_SIGNATURE = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
    b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
    b"&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554"
    b"%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121"
    b".803a0bc887a14d10d2c447fce8b6703c"
)


@dataclass(frozen=True)
class Call:
    """One request to `POST /hooks/HOOK`."""

    hook: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    at: float = NOW

    def received(self) -> Received:
        return Received(hook=self.hook, headers=self.headers, body=self.body, at=self.at)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def mac(signed: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


# ---- PagerDuty -------------------------------------------------------------------------------


def v3_event(**changed: Any) -> dict[str, Any]:
    """An incident that was triggered; `data` is changed by what it holds, the rest replaced."""
    data = {
        "id": "Q3B15VLMF3ASBD",
        "type": "incident",
        "title": "FATAL: sorry, too many clients already",
        "status": "triggered",
        "service": {"id": "PF9KMXH", "type": "service_reference", "summary": "shop database"},
        "priority": {"id": "PSO75BM", "summary": "P1"},
        "urgency": "high",
        **changed.pop("data", {}),
    }
    return {
        "id": "01GI0KTE33V5QXBVIJDEVJFUNE",
        "event_type": "incident.triggered",
        "resource_type": "incident",
        "occurred_at": "2026-11-24T02:16:30.674Z",
        "agent": None,
        "client": None,
        "data": data,
        **changed,
    }


def v3(event: Any = None, *, hook: str = "pd", secret: str = SECRET, at: float = NOW) -> Call:
    return v3_raw(as_json({"event": v3_event() if event is None else event}), hook, secret, at)


def v3_raw(body: bytes, hook: str = "pd", secret: str = SECRET, at: float = NOW) -> Call:
    headers = {"content-type": JSON, "x-pagerduty-signature": f"v1={mac(body, secret)}"}
    return Call(hook, body, headers, at)


def v2_message(**changed: Any) -> dict[str, Any]:
    return {
        "id": "69a7ced1-6a3b-4bd2-a8e3-9d8c5d1e7f10",
        "event": "incident.custom",
        "created_on": "2026-11-24T02:16:50Z",
        "log_entries": [
            {"type": "custom_log_entry", "agent": {"id": "PXRUEF2", "type": "user_reference"}}
        ],
        "incident": {
            "id": "Q3B15VLMF3ASBD",
            "title": "FATAL: sorry, too many clients already",
            "urgency": "high",
            "service": {"id": "PF9KMXH"},
            "priority": None,
        },
        **changed,
    }


def action(body: Any = None) -> Call:
    said = {"messages": [v2_message()]} if body is None else body
    return Call("button", as_json(said), {"content-type": JSON, "x-runbook-secret": SECRET})


def workflow(body: Any = None, *, at: float = NOW) -> Call:
    said = {"incident_id": "Q3B15VLMF3ASBD", "database": "shop-db"} if body is None else body
    headers = {"content-type": JSON, "authorization": f"Bearer {SECRET}"}
    return Call("flow", as_json(said), headers, at)


# ---- others ----------------------------------------------------------------------------------


def am_alert(**changed: Any) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": {"alertname": "PostgresConnectionsHigh", "instance": "shop-db:9187"},
        "annotations": {"summary": "97 of 97 slots in use"},
        "startsAt": "2026-11-24T02:15:00.000Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph",
        "fingerprint": "b2ca4a2c0e3a1f5d",
        **changed,
    }


def am_body(*alerts: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {
        "version": "4",
        "groupKey": '{}:{alertname="PostgresConnectionsHigh"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "runbook",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": list(alerts) or [am_alert()],
        **changed,
    }


def alertmanager(body: Any = None, *, basic: bool = False) -> Call:
    shown = f"Bearer {SECRET}"
    if basic:
        shown = f"Basic {base64.b64encode(f'runbook:{SECRET}'.encode()).decode()}"
    said = am_body() if body is None else body
    return Call("am", as_json(said), {"content-type": JSON, "authorization": shown})


def slack_raw(body: bytes, *, signed_at: int = int(NOW), at: float = NOW) -> Call:
    headers = {
        "content-type": FORM,
        "x-slack-request-timestamp": str(signed_at),
        "x-slack-signature": f"v0={mac(b'v0:%d:' % signed_at + body)}",
    }
    return Call("chat", body, headers, at)


def slash(text: str = "diagnose shop-db", **changed: str) -> Call:
    fields = {
        "command": "/runbook",
        "text": text,
        "user_id": "U2CERLKJA",
        "channel_id": "C061EG9SL",
        "trigger_id": "398738663015.47445629121.803a0bc8",
        **changed,
    }
    return slack_raw(urlencode(fields).encode())


def press(action_id: str = "runbook-approve", **changed: Any) -> Call:
    button = {
        "action_id": action_id,
        "type": "button",
        "value": "20261124-021700-ab12 plan 0a1b2c3d",
    }
    payload = {
        "type": "block_actions",
        "user": {"id": "U2CERLKJA", "username": "roadrunner"},
        "actions": [button],
        **changed,
    }
    return slack_raw(urlencode({"payload": json.dumps(payload)}).encode())
