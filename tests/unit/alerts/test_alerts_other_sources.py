"""What buttons, workflows, event orchestration and Alertmanager say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runbook.alerts import SOURCES
from runbook.model.alert import Alert, Reading, Rejected
from unit.alerts import calls
from unit.alerts.calls import NOW, Call
from unit.alerts.world import config

HOOKS = config().hooks


def reading(call: Call) -> Reading:
    hook = HOOKS[call.hook]
    return SOURCES[hook.source].read(call.received(), hook)


def one(call: Call) -> Alert:
    (alert,) = reading(call).alerts
    return alert


def refused(call: Call) -> int:
    with pytest.raises(Rejected) as caught:
        reading(call)
    return caught.value.status


def test_every_source_of_the_table_has_its_own_name() -> None:
    assert {name: source.name for name, source in SOURCES.items()} == {n: n for n in SOURCES}
    assert "grafana" not in SOURCES


# ---- the button ------------------------------------------------------------------------------


def test_a_press_names_its_incident_and_who_pressed() -> None:
    assert one(calls.action()) == Alert(
        source="pagerduty-action",
        hook="button",
        key="pagerduty-action:69a7ced1-6a3b-4bd2-a8e3-9d8c5d1e7f10",
        event="incident.custom",
        at=NOW - 10,
        incident="Q3B15VLMF3ASBD",
        service="PF9KMXH",
        urgency="high",
        by="PXRUEF2",
        title="FATAL: sorry, too many clients already",
    )


def test_a_press_without_a_time_or_an_agent_is_a_press() -> None:
    alert = one(calls.action({"messages": [calls.v2_message(created_on=None, log_entries=None)]}))
    assert (alert.at, alert.by) == (None, None)


def test_several_presses_are_several_alerts() -> None:
    messages = [calls.v2_message(id="a"), calls.v2_message(id="b")]
    keys = [alert.key for alert in reading(calls.action({"messages": messages})).alerts]
    assert keys == ["pagerduty-action:a", "pagerduty-action:b"]


def test_a_press_in_the_shape_of_v3_is_understood() -> None:
    alert = one(calls.action({"event": calls.v3_event(event_type="incident.custom")}))
    assert (alert.source, alert.incident) == ("pagerduty-action", "Q3B15VLMF3ASBD")
    assert alert.key == "pagerduty-action:01GI0KTE33V5QXBVIJDEVJFUNE"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": {}},
        {"messages": ["x"]},
        {"messages": [{}] * 51},
        {"messages": [calls.v2_message(id=None)]},
        {"messages": [calls.v2_message(event=None)]},
        {"messages": [calls.v2_message(created_on="x")]},
        {"event": None},
    ],
)
def test_a_press_of_another_shape_is_malformed(body: Any) -> None:
    assert refused(calls.action(body)) == 400


# ---- workflows and event orchestration -------------------------------------------------------


def test_a_workflow_names_the_incident_and_what_else_it_says_are_labels() -> None:
    body = {
        "incident_id": "Q3B15VLMF3ASBD",
        "database": "shop-db",
        "slots": 97,
        "urgent": True,
        "share": 0.5,
        "nothing": None,
        "more": {"deep": "x"},
        "huge": 10**30,
        "long": "x" * 1001,
        "title": "Too many clients",
    }
    alert = one(calls.workflow(body))
    assert (alert.event, alert.incident, alert.at) == ("workflow", "Q3B15VLMF3ASBD", None)
    assert alert.title == "Too many clients"
    assert alert.labels == {
        "incident_id": "Q3B15VLMF3ASBD",
        "database": "shop-db",
        "slots": "97",
        "urgent": "true",
        "share": "0.5",
        "title": "Too many clients",
    }


def test_event_orchestration_names_the_incident_in_its_metadata() -> None:
    body = {"node": "shop-db", "__pd_metadata": {"incident": {"id": "Q3B15VLMF3ASBD"}}}
    alert = one(calls.workflow(body))
    assert (alert.event, alert.incident) == ("orchestration", "Q3B15VLMF3ASBD")
    assert alert.labels == {"node": "shop-db"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"incident_id": None},
        {"incident_id": "{{incident.id}}"},
        {"incident_id": 5},
        {"__pd_metadata": {}},
        {"__pd_metadata": "x"},
        {"incident_id": "Q3B15VLMF3ASBD", "__pd_metadata": {"incident": {"id": "PGR0VU2"}}},
    ],
)
def test_a_call_that_names_no_one_incident_is_malformed(body: Any) -> None:
    assert refused(calls.workflow(body)) == 400


def test_what_is_resent_has_the_same_key_and_a_later_press_another() -> None:
    pressed = NOW - NOW % 300
    key = one(calls.workflow(at=pressed)).key
    assert one(calls.workflow(at=pressed + 299)).key == key
    later = one(calls.workflow(at=pressed + 300)).key
    assert later != key
    # What stands before the @ is how the rules know what was resent across that border.
    assert later.rpartition("@")[0] == key.rpartition("@")[0]


def test_another_body_or_another_hook_is_another_call() -> None:
    call = calls.workflow()
    other = Call("flow", call.body + b" ", call.headers)
    assert one(other).key != one(call).key
    hook = HOOKS["flow"]
    elsewhere = SOURCES["pagerduty-workflow"].read(replace(call.received(), hook="b"), hook)
    assert elsewhere.alerts[0].key != one(call).key


# ---- Alertmanager ----------------------------------------------------------------------------


def test_each_alert_of_a_group_is_one() -> None:
    second = calls.am_alert(
        status="resolved", endsAt="2026-11-24T02:16:00+00:00", fingerprint="a1", annotations={}
    )
    firing, resolved = reading(calls.alertmanager(calls.am_body(calls.am_alert(), second))).alerts
    assert (firing.event, firing.at, firing.title) == ("firing", NOW - 120, "97 of 97 slots in use")
    assert firing.labels == {"alertname": "PostgresConnectionsHigh", "instance": "shop-db:9187"}
    assert (resolved.event, resolved.at) == ("resolved", NOW - 60)
    assert resolved.title == "PostgresConnectionsHigh"
    assert firing.key != resolved.key


def test_a_resend_is_the_same_event_and_a_new_start_is_another() -> None:
    def key(group: str = "g", **changed: Any) -> str:
        body = calls.am_body(calls.am_alert(**changed), groupKey=group)
        return one(calls.alertmanager(body)).key

    assert key() == key(annotations={"summary": "98 of 97"}, generatorURL="http://other")
    assert len({key(), key("h"), key(fingerprint="a2"), key(startsAt="2026-11-24T02:16:00Z")}) == 4
    assert key() == key(startsAt="2026-11-24T03:15:00.000+01:00")


def test_a_group_of_none_is_a_sign_of_life() -> None:
    body = calls.am_body()
    body["alerts"] = []
    assert reading(calls.alertmanager(body)) == Reading()


@pytest.mark.parametrize(
    "body",
    [
        calls.am_body(version="3"),
        calls.am_body(version=4),
        calls.am_body(groupKey=None),
        calls.am_body(alerts=None),
        calls.am_body(alerts=[{}] * 1001),
        calls.am_body(calls.am_alert(status="pending")),
        calls.am_body(calls.am_alert(status=["firing"])),
        calls.am_body(calls.am_alert(fingerprint="../x")),
        calls.am_body(calls.am_alert(startsAt="now")),
    ],
)
def test_a_group_of_another_shape_is_malformed(body: Any) -> None:
    assert refused(calls.alertmanager(body)) == 400


def test_labels_are_few_and_short() -> None:
    labels = {f"l{number}": "x" for number in range(100)} | {"bad\n": "x", "x" * 129: "x"}
    alert = one(calls.alertmanager(calls.am_body(calls.am_alert(labels=labels))))
    assert list(alert.labels) == [f"l{number}" for number in range(64)]


def test_a_label_with_control_characters_is_no_other_label() -> None:
    labels = {"instance": "shop-\x00db"}
    alert = one(calls.alertmanager(calls.am_body(calls.am_alert(labels=labels))))
    assert alert.labels == {"instance": "shop- db"}
