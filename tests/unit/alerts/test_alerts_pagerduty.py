"""PagerDuty's V3 webhooks: who is let in, and what an event says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runbook.alerts import SOURCES
from runbook.model.alert import Alert, Rejected
from runbook.model.serve_config import Hook
from unit.alerts import calls
from unit.alerts.calls import SECRET, Call
from unit.alerts.world import config

HOOK = config().hooks["pd"]


def read(call: Call, *secrets: str, hook: Hook = HOOK) -> tuple[Alert, ...]:
    source, received = SOURCES[hook.source], call.received()
    source.authenticate(received, hook, secrets or (SECRET,))
    return source.read(received, hook).alerts


def one(event: Any) -> Alert:
    (alert,) = read(calls.v3(event))
    return alert


def refused(call: Call, *secrets: str) -> int:
    with pytest.raises(Rejected) as caught:
        read(call, *secrets)
    return caught.value.status


def signed(value: str | None, body: bytes = calls.PUBLIC_BODY) -> Call:
    headers = {} if value is None else {"x-pagerduty-signature": value}
    return Call("pd", body, headers)


# ---- who is let in ---------------------------------------------------------------------------


def test_the_public_vector_is_let_in_and_read() -> None:
    (alert,) = read(signed(calls.PUBLIC_SIGNATURE), calls.PUBLIC_SECRET)
    assert alert == Alert(
        source="pagerduty",
        hook="pd",
        key="pagerduty:01BWDWL3NYY7LUFPZCC28QUCMK",
        event="incident.priority_updated",
        at=1619458587.458,
        incident="PGR0VU2",
        service="PF9KMXH",
        priority="P1",
        urgency="high",
        by="PLH1HKV",
        title="A little bump in the road",
    )


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (None, 401),
        ("", 400),
        ("v1", 400),
        ("=,=", 400),
        ("v1=", 400),
        (",".join(["v1=" + "0" * 64] * 51), 400),
        ("v1=7020c8a7ec668a9b7012bc3dd82e483394b038f4230acc6785efbf2a7d8bcaf5", 403),
        ("v1=\u00e9", 403),
        (calls.PUBLIC_SIGNATURE.upper(), 403),
        (calls.PUBLIC_SIGNATURE.replace("v1", "v2"), 403),
        (calls.PUBLIC_SIGNATURE[:-1], 403),
    ],
)
def test_a_signature_that_is_none_is_refused(value: str | None, status: int) -> None:
    assert refused(signed(value), calls.PUBLIC_SECRET) == status


def test_an_empty_body_is_malformed_whatever_its_signature() -> None:
    assert refused(signed(f"v1={calls.mac(b'')}", b"")) == 400


def test_a_changed_body_is_refused() -> None:
    assert refused(signed(calls.PUBLIC_SIGNATURE, calls.PUBLIC_BODY + b" ")) == 403


@pytest.mark.parametrize(
    "value",
    [
        f"v1={'0' * 64},{calls.PUBLIC_SIGNATURE}",
        f"{calls.PUBLIC_SIGNATURE}, v1={'0' * 64}",
        f"v2=whatever , {calls.PUBLIC_SIGNATURE} ",
        f"v1=short,{calls.PUBLIC_SIGNATURE}",
    ],
)
def test_one_good_signature_among_others_is_enough(value: str) -> None:
    assert read(signed(value), calls.PUBLIC_SECRET)


@pytest.mark.parametrize("secrets", [("old", SECRET), (SECRET, "new")])
def test_while_a_secret_is_rotated_both_hold(secrets: tuple[str, ...]) -> None:
    assert read(calls.v3(), *secrets)


def test_an_empty_secret_lets_nobody_in() -> None:
    assert refused(calls.v3(secret=""), "") == 403


# ---- what it says ----------------------------------------------------------------------------


def test_a_ping_is_neither_alert_nor_error() -> None:
    assert read(calls.v3({"event_type": "pagey.ping", "data": {"type": "ping"}})) == ()


def test_an_event_nobody_knows_yet_is_an_alert_like_any_other() -> None:
    assert one(calls.v3_event(event_type="incident.teleported")).event == "incident.teleported"


def test_a_note_names_its_incident_and_who_wrote_it() -> None:
    data = {"type": "incident_note", "id": "PEMJB6G", "incident": {"id": "Q1", "summary": "x"}}
    event = calls.v3_event(event_type="incident.annotated", agent={"id": "PXRUEF2"})
    event["data"] = {**data, "incident": {"id": "Q3B15VLMF3ASBD", "summary": "Latency"}}
    alert = one(event)
    assert (alert.incident, alert.by, alert.title) == ("Q3B15VLMF3ASBD", "PXRUEF2", "Latency")


def test_custom_fields_are_labels_and_a_changed_one_has_its_new_value() -> None:
    event = calls.v3_event(event_type="incident.custom_field_values.updated")
    event["data"] = {
        "type": "incident_field_values",
        "incident": {"id": "PBAZLIU"},
        "custom_fields": [{"name": "db", "value": "old"}, {"name": "n", "value": 3}, None],
        "changed_custom_fields": [{"name": "db", "value": "shop-db"}, {"name": "l", "value": []}],
    }
    assert one(event).labels == {"db": "shop-db", "n": "3"}


@pytest.mark.parametrize("bad", ["PGR0VU2/../x", "pgr0vu2", "P1\n", "PGR0VU2\n", 7, None, ["P"]])
def test_an_id_that_is_none_is_not_taken(bad: Any) -> None:
    assert one(calls.v3_event(data={"id": bad})).incident is None


def test_a_title_is_one_line_without_control_characters() -> None:
    title = "a\x1b[31mb\u202e\nc\ud800" + "x" * 999
    shown = one(calls.v3_event(data={"title": title})).title
    assert shown.startswith("a [31mb c x")
    assert len(shown) == 300
    assert shown.isprintable()


@pytest.mark.parametrize(
    "changed",
    [
        {"id": None},
        {"id": "x" * 129},
        {"id": "a b"},
        {"event_type": 3},
        {"event_type": "Incident Triggered"},
        {"occurred_at": None},
        {"occurred_at": "yesterday"},
        {"occurred_at": "2026-11-24T02:16:30"},
        {"occurred_at": 1795486620},
    ],
)
def test_an_event_without_what_it_must_have_is_malformed(changed: dict[str, Any]) -> None:
    assert refused(calls.v3(calls.v3_event(**changed))) == 400


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b"{",
        b"[]",
        b"null",
        b" ",
        b'{"event": []}',
        b'{"event": {"event_type": "pagey.ping"}, "event": {}}',
        b'{"event": NaN}',
        b'{"event": 1e999}',
        b'{"event": ' + b"9" * 5000 + b"}",
        b'{"event": ' + b"[" * 100_000,
        b'{"event": ' + b"[" * 70 + b"]" * 70 + b"}",
        b'\xef\xbb\xbf{"event": {"event_type": "pagey.ping"}}',
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_body_that_is_no_json_object_of_theirs_is_malformed(body: bytes) -> None:
    assert refused(calls.v3_raw(body)) == 400


def test_what_is_null_in_data_is_nothing() -> None:
    event = calls.v3_event()
    event["data"] = dict.fromkeys(event["data"], None) | {"type": "incident", "id": "PGR0VU2"}
    bare = one(event)
    assert (bare.service, bare.priority, bare.urgency, bare.title) == (None, None, None, "")


def test_the_header_counts_and_not_its_neighbours() -> None:
    call = calls.v3()
    moved = replace(call, headers={"x-signature": call.headers["x-pagerduty-signature"]})
    assert refused(moved) == 401
