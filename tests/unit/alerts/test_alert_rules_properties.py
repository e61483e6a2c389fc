"""What holds for every alert there could be: no rule, no run; and no name but our own."""

from __future__ import annotations

from dataclasses import asdict
from random import Random
from typing import Any

from hypothesis import find, given, settings
from hypothesis import strategies as st

from runbook.alerts.rules import Wanted, judge, rule_for, with_incident, worth_reading
from runbook.model.alert import Alert
from runbook.model.intake import IncidentNow
from runbook.model.serve_config import FromAlert, ServeConfig
from unit.alerts.calls import NOW
from unit.alerts.world import FLEET, config

IDS = ("PF9KMXH", "PAAAAAA", None)
EVENTS = ("incident.triggered", "incident.annotated", "incident.resolved", "firing", "resolved")
PRIORITIES = ("P1", "P2", None)
NAMES = ("shop-db", "other-db", "web-1", "shop", "shop-db\n", "Shop-db", "no-db", "")
TEXT = st.one_of(st.sampled_from(NAMES), st.text(max_size=20))
LABELS = st.fixed_dictionaries({"a": st.sampled_from(NAMES)}, optional={"b": TEXT, "c": TEXT})

ALERTS = st.builds(
    Alert,
    source=st.sampled_from(("alertmanager", "pagerduty", "pagerduty-action", "pagerduty-workflow")),
    hook=st.sampled_from(("pd", "am")),
    key=st.sampled_from(("k", "k@1", "k@2")),
    event=st.sampled_from(EVENTS),
    at=st.one_of(st.none(), st.just(NOW - 10), st.floats(NOW - 1200, NOW + 400)),
    incident=st.sampled_from(("PGR0VU2", "PGR0VU2", None)),
    service=st.sampled_from(IDS),
    priority=st.sampled_from(PRIORITIES),
    urgency=st.sampled_from(("high", "low", None)),
    labels=LABELS,
    by=st.sampled_from(("PXRUEF2", None, "PXRUEF3", "PME0000")),
    title=st.text(max_size=20),
)
INCIDENTS = st.one_of(
    st.none(),
    st.builds(
        IncidentNow,
        id=st.just("PGR0VU2"),
        status=st.sampled_from(("triggered", "acknowledged", "resolved")),
        service=st.sampled_from(IDS),
        priority=st.sampled_from(PRIORITIES),
        urgency=st.sampled_from(("high", "low")),
        title=st.text(max_size=20),
        labels=LABELS,
    ),
)
TAKEN = st.fixed_dictionaries(
    {"label": st.sampled_from(("a", "b")), "of": st.sampled_from(("database", "service", "host"))},
    optional={"pattern": st.sampled_from(("(.*)", "([a-z-]+)(?:\n)?", "x(.)", "(shop)-db"))},
)


def _some(values: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    return st.sampled_from([value for value in values if value is not None])


WHEN = st.fixed_dictionaries(
    {},
    optional={
        "event": st.lists(_some(EVENTS), min_size=1, max_size=3),
        "service": _some(IDS),
        "priority": _some(PRIORITIES),
        "labels": st.dictionaries(st.sampled_from(("a", "b")), _some(NAMES[:3]), max_size=2),
    },
)
RULES = st.fixed_dictionaries(
    {
        "hook": st.sampled_from((["pd", "am"], "pd", "am")),
        "run": st.sampled_from(("diagnose-saturation", "terminate-idle")),
        "mode": st.sampled_from(("rehearse", "real")),
        "approval": st.sampled_from(("none", {"by": ["kim"], "within": "10m"})),
        "target": st.one_of(TAKEN, st.just("fixed-db"), st.none()),
    },
    optional={
        "when": WHEN,
        "params": st.dictionaries(st.sampled_from(("p", "q")), st.one_of(st.just(7), TAKEN)),
    },
)
OWN = {"token": {"env": "T"}, "from": "a@b.c", "user": "PME0000"}


@st.composite
def configs(draw: st.DrawFn) -> ServeConfig:
    rules = draw(st.lists(RULES, min_size=1, max_size=4))
    named = [{"name": f"r{number}", **rule} for number, rule in enumerate(rules)]
    base = config().model_dump(by_alias=True)
    return ServeConfig.model_validate({**base, "rules": named, "pagerduty": OWN})


def judged(alert: Alert, whole: ServeConfig, incident: IncidentNow | None) -> object:
    rule = rule_for(alert, whole, incident)
    if rule is None:
        return None
    return judge(alert, rule, incident, fleet=FLEET, recent=(), now=NOW, config=whole)


@given(ALERTS, INCIDENTS)
def test_no_rule_no_run(alert: Alert, incident: IncidentNow | None) -> None:
    assert judged(alert, config(), incident) is None


def test_there_are_runs_among_them_with_a_target_that_an_alert_gave() -> None:
    def has_one(case: tuple[Alert, ServeConfig, IncidentNow | None]) -> bool:
        alert, whole, incident = case
        found = judged(alert, whole, incident)
        return isinstance(found, Wanted) and any(
            rule.name == found.rule and isinstance(rule.target, FromAlert) for rule in whole.rules
        )

    cases = st.tuples(ALERTS, configs(), INCIDENTS)
    assert find(cases, has_one, settings=settings(max_examples=2000), random=Random(6))


@given(ALERTS, configs(), INCIDENTS)
def test_every_name_of_a_run_is_ours(
    alert: Alert, whole: ServeConfig, incident: IncidentNow | None
) -> None:
    found = judged(alert, whole, incident)
    if not isinstance(found, Wanted):
        return
    rule = next(one for one in whole.rules if one.name == found.rule)
    inventory = FLEET.inventory
    ours = {*inventory.databases, *inventory.services, *inventory.hosts, "fixed-db", None, 7}
    assert found.playbook == rule.run
    assert {found.target, *found.params.values()} <= ours
    assert found.params.keys() == rule.params.keys()
    assert found.rehearsal is (rule.mode == "rehearse")
    assert found.incident == alert.incident
    assert bool(found.confirmed_by) is (rule.mode == "real" and rule.approval == "none")
    assert found.tell == {**rule.tell.model_dump(mode="json"), "incident": alert.incident}


@given(ALERTS, configs(), INCIDENTS)
def test_what_leads_to_a_run_is_young_open_and_not_our_own(
    alert: Alert, whole: ServeConfig, incident: IncidentNow | None
) -> None:
    if not isinstance(judged(alert, whole, incident), Wanted):
        return
    assert alert.at is None or NOW - 900 <= alert.at <= NOW + 300
    assert alert.by != "PME0000" or alert.source == "alertmanager"
    named_over = alert.event in {"resolved", "incident.resolved"}
    assert incident is None or incident.status != "resolved" or named_over


@given(ALERTS, configs(), INCIDENTS)
def test_a_rule_that_holds_once_the_incident_is_read_was_worth_reading_it(
    alert: Alert, whole: ServeConfig, incident: IncidentNow | None
) -> None:
    if rule_for(alert, whole, incident) is not None:
        assert worth_reading(alert, whole)


@given(ALERTS, INCIDENTS)
def test_what_an_incident_adds_changes_nothing_that_was_signed(
    alert: Alert, incident: IncidentNow | None
) -> None:
    known = asdict(with_incident(alert, incident))
    may_differ = {"service", "priority", "urgency", "labels", "title"}
    assert {k: v for k, v in known.items() if k not in may_differ} == {
        k: v for k, v in asdict(alert).items() if k not in may_differ
    }
    assert alert.labels.items() <= known["labels"].items()
