"""PagerDuty by its stand-in: what is read, what answers mean, what is never part of an address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pagerduty.stand_in import ROUTING_KEY, SENDER, TOKEN, PagerDutyStandIn
from runbook.adapters.pagerduty_api import PagerDutyApi
from runbook.adapters.pagerduty_events import PagerDutyEvents
from runbook.adapters.pagerduty_incident import PagerDutyReader
from runbook.model.errors import DoorError
from runbook.model.inventory import Secret
from runbook.model.serve_config import PagerDuty
from runbook.model.telling import NotTold


@pytest.fixture
def pagerduty() -> Iterator[PagerDutyStandIn]:
    with PagerDutyStandIn() as stand_in:
        yield stand_in


_SECRETS = {"TOKEN": TOKEN, "KEY": ROUTING_KEY}


def config(url: str | None, **more: Any) -> PagerDuty:
    values = {"token": {"env": "TOKEN"}, "from": SENDER, "api": url, "events": url}
    return PagerDuty.model_validate({**values, "routing_key": {"env": "KEY"}, **more})


def secret(reference: Secret) -> str:
    return _SECRETS[str(reference.env)]


def reader(pagerduty: PagerDutyStandIn) -> PagerDutyReader:
    return PagerDutyReader(PagerDutyApi(config(pagerduty.url), secret))


def test_an_incident_is_read_with_the_details_of_its_alerts(pagerduty: PagerDutyStandIn) -> None:
    details = {"database": "drill-db", "used": 25, "labels": {"instance": "db:5432"}, "list": [1]}
    made = pagerduty.add_incident("PINCIDENT1", details=details, priority="P1")
    made.fields["team"] = "shop"
    now = reader(pagerduty).incident("PINCIDENT1")
    assert (now.status, now.service, now.priority, now.urgency) == (
        *("triggered", "PSERVICE1", "P1", "high"),
    )
    assert now.labels == {
        "database": "drill-db",
        "used": "25",
        "labels.instance": "db:5432",
        "team": "shop",
        "alert_key": "prod-db-01/slots",
        "severity": "critical",
    }
    assert pagerduty.complaints == []


def test_what_two_alerts_say_differently_is_no_label(pagerduty: PagerDutyStandIn) -> None:
    made = pagerduty.add_incident(details={"database": "a", "team": "x"})
    pagerduty.add_alert(made, {"database": "b", "team": "x"})
    pagerduty.add_alert(made, {"team": "y"}, status="resolved")
    labels = reader(pagerduty).incident("PINCIDENT1").labels
    assert ("database" in labels, labels["team"]) == (False, "x")


@pytest.mark.parametrize("details", [None, "text", [1], {"a": {"b": {"c": 1}}}])
def test_details_of_any_form_are_no_trouble(pagerduty: PagerDutyStandIn, details: Any) -> None:
    pagerduty.add_alert(pagerduty.add_incident(), details)
    assert set(reader(pagerduty).incident("PINCIDENT1").labels) == {"alert_key", "severity"}


def test_an_account_without_custom_fields_has_none(pagerduty: PagerDutyStandIn) -> None:
    pagerduty.add_incident()
    pagerduty.fail(status=402, on="GET .*/values")
    assert reader(pagerduty).incident("PINCIDENT1").labels == {}


ANSWERS = [
    (401, "refuses the token", "pagerduty.token"),
    (403, "forbids it", "scopes"),
    (404, "does not know it", "another account"),
    (418, "refuses it", ""),
]


@pytest.mark.parametrize(("status", "words", "hint"), ANSWERS)
def test_what_an_answer_means_and_what_to_do(
    pagerduty: PagerDutyStandIn, status: int, words: str, hint: str
) -> None:
    pagerduty.add_incident()
    pagerduty.fail(status=status)
    with pytest.raises(DoorError) as caught:
        reader(pagerduty).incident("PINCIDENT1")
    assert words in caught.value.message
    assert hint in (caught.value.hint or "")
    assert TOKEN not in f"{caught.value!r} {caught.value.hint} {caught.value.__cause__!r}"


def test_reading_is_tried_three_times_and_no_more(pagerduty: PagerDutyStandIn) -> None:
    pagerduty.add_incident()
    pagerduty.fail(status=500, times=9)
    with pytest.raises(NotTold, match="HTTP 500"):
        reader(pagerduty).incident("PINCIDENT1")
    assert len(pagerduty.requests) == 3


def test_a_redirect_is_not_followed(pagerduty: PagerDutyStandIn) -> None:
    pagerduty.add_incident()
    pagerduty.fail(status=302, headers={"Location": f"{pagerduty.url}/elsewhere"})
    with pytest.raises(DoorError):
        reader(pagerduty).incident("PINCIDENT1")
    assert len(pagerduty.requests) == 1


@pytest.mark.parametrize("incident", ["", "../x", "PINCIDENT1/notes", "P?a=b", "pincident1"])
def test_what_is_no_id_is_never_part_of_an_address(
    pagerduty: PagerDutyStandIn, incident: str
) -> None:
    with pytest.raises(DoorError, match="is no PagerDuty incident's id"):
        reader(pagerduty).incident(incident)
    assert pagerduty.requests == []


def events(pagerduty: PagerDutyStandIn) -> PagerDutyEvents:
    return PagerDutyEvents(config(pagerduty.url), secret)


PAYLOAD = {"summary": "full", "source": "db", "severity": "critical"}


def test_an_alert_is_triggered_once_for_a_key_and_resolved(pagerduty: PagerDutyStandIn) -> None:
    event = {"event_action": "trigger", "dedup_key": "db", "payload": PAYLOAD}
    assert [events(pagerduty).alert(event, 5) for _ in range(2)] == ["db", "db"]
    events(pagerduty).alert({"event_action": "resolve", "dedup_key": "db"}, 5)
    assert [each["event_action"] for each in pagerduty.alerts["db"]] == [
        *("trigger", "trigger", "resolve"),
    ]
    assert pagerduty.complaints == []


@pytest.mark.parametrize(("status", "again"), [(400, False), (429, True), (500, True)])
def test_an_event_that_is_refused_is_not_sent_again_and_one_that_comes_too_soon_is(
    pagerduty: PagerDutyStandIn, status: int, again: bool
) -> None:
    pagerduty.fail(status=status, body={"errors": ["routing key"]}, headers={"retry-after": "7"})
    with pytest.raises(NotTold) as caught:
        events(pagerduty).change({"summary": "x"}, 5)
    assert (caught.value.again, caught.value.after_s) == (again, 7.0 if again else 0.0)
    assert ROUTING_KEY not in caught.value.message


def test_the_region_is_in_the_address_and_nothing_else() -> None:
    for region, host in (("us", "api.pagerduty.com"), ("eu", "api.eu.pagerduty.com")):
        made = PagerDutyApi(config(None, region=region), secret)
        assert made._base == f"https://{host}"
        sent = PagerDutyEvents(config(None, region=region), secret)
        assert sent._base == f"https://{host.replace('api', 'events')}"
