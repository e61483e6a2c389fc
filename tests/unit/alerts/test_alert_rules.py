"""Which alert leads to which run, and why another one leads to none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runbook.alerts.rules import Ignored, Wanted, judge, rule_for, why_none, worth_reading
from runbook.model.alert import Alert
from runbook.model.intake import Entry, IncidentNow
from unit.alerts.calls import NOW
from unit.alerts.world import FLEET, config, entry, incident, rule

ALERT = Alert(
    source="pagerduty",
    hook="pd",
    key="pagerduty:1",
    event="incident.triggered",
    at=NOW - 30,
    incident="Q3B15VLMF3ASBD",
    service="PF9KMXH",
    priority="P1",
    urgency="high",
    labels={"database": "shop-db"},
    by="PXRUEF2",
)
DIAGNOSE = "hook: pd, when: {event: incident.triggered}, run: diagnose-saturation, target: shop-db"


def judged(
    text: str = DIAGNOSE,
    alert: Alert = ALERT,
    *,
    rest: str = "",
    now: IncidentNow | None = None,
    recent: tuple[Entry, ...] = (),
    **changed: Any,
) -> Wanted | Ignored:
    made, whole = rule(text, rest)
    return judge(
        alert,
        made,
        now or incident(),
        fleet=FLEET,
        recent=recent,
        **{"now": NOW, "config": whole, **changed},
    )


def why(*args: Any, **named: Any) -> str:
    outcome = judged(*args, **named)
    assert isinstance(outcome, Ignored)
    return outcome.why


def wanted(*args: Any, **named: Any) -> Wanted:
    outcome = judged(*args, **named)
    assert isinstance(outcome, Wanted), outcome
    return outcome


# ---- which rule ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("{}", True),
        ("{event: incident.triggered}", True),
        ("{event: [incident.reopened, incident.triggered]}", True),
        ("{event: incident.trigger}", False),
        ("{service: PF9KMXH}", True),
        ("{service: [PAAAAAA, PBBBBBB]}", False),
        ("{priority: P1}", True),
        ("{priority: [P2, P3]}", False),
        ("{urgency: low}", False),
        ("{by: PXRUEF2}", True),
        ("{by: PXRUEF3}", False),
        ("{labels: {database: shop-db}}", True),
        ("{labels: {database: [other-db, shop-db]}}", True),
        ("{labels: {database: shop}}", False),
        ("{labels: {cluster: shop-db}}", False),
    ],
)
def test_all_that_a_rule_asks_must_hold(when: str, holds: bool) -> None:
    made, whole = rule(f"hook: pd, when: {when}, run: x")
    assert rule_for(ALERT, whole) == (made if holds else None)


def test_the_first_rule_that_holds_is_taken() -> None:
    whole = config(
        "  - {name: a, hook: am, run: x}\n"
        "  - {name: b, hook: [am, pd], when: {priority: P1}, run: yy}\n"
        "  - {name: c, hook: pd, run: z}\n"
    )
    found = rule_for(ALERT, whole)
    assert found is not None
    assert found.name == "b"


def test_without_a_rule_there_is_none() -> None:
    assert rule_for(ALERT, config()) is None
    assert not worth_reading(ALERT, config())


@pytest.mark.parametrize(
    ("text", "held"),
    [("hook: am, run: x", False), ("hook: am, when: {event: resolved}, run: x", True)],
)
def test_what_is_over_needs_a_rule_that_names_it(text: str, held: bool) -> None:
    over = replace(ALERT, source="alertmanager", hook="am", event="resolved", incident=None)
    assert (rule_for(over, rule(text)[1]) is not None) is held


def test_what_an_alert_leaves_open_its_incident_may_say() -> None:
    bare = replace(ALERT, hook="flow", service=None, priority=None, urgency=None, labels={})
    made, whole = rule("hook: flow, when: {service: PF9KMXH, priority: P1}, run: x")
    assert rule_for(bare, whole) is None
    assert worth_reading(bare, whole)
    assert rule_for(bare, whole, incident()) == made


# ---- what is wanted --------------------------------------------------------------------------


def test_a_rehearsal_asks_nobody() -> None:
    found = wanted()
    assert (found.playbook, found.target, found.rehearsal) == (
        "diagnose-saturation",
        "shop-db",
        True,
    )
    assert (found.confirmed_by, found.approvers, found.answer_within_s) == ("", (), None)
    assert (found.rule, found.incident, found.remarks) == ("r", "Q3B15VLMF3ASBD", ())
    assert found.tell["incident"] == "Q3B15VLMF3ASBD"


def test_a_real_run_asks_who_may_answer() -> None:
    found = wanted(f"{DIAGNOSE}, mode: real, approval: {{by: [kim], within: 10m}}")
    assert (found.rehearsal, found.approvers, found.answer_within_s) == (False, ("kim",), 600.0)
    assert found.confirmed_by == ""


def test_a_real_run_that_asks_nobody_says_which_rule_said_yes() -> None:
    found = wanted(f"{DIAGNOSE}, mode: real, approval: none")
    assert found.confirmed_by == "rule r (approval: none)"
    assert (found.approvers, found.answer_within_s) == ((), None)


def test_an_incident_that_was_not_looked_up_is_remarked_upon() -> None:
    made, whole = rule(DIAGNOSE)
    found = judge(ALERT, made, None, fleet=FLEET, recent=(), now=NOW, config=whole)
    assert isinstance(found, Wanted)
    assert found.remarks == ("whether the incident is still open was not looked up",)


# ---- age and hours ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ago", "said"),
    [
        (899, None),
        (901, "it is 15m 01s old; rule r acts on nothing older than 15m 00s"),
        (-299, None),
        (-301, "it comes from the future, by 5m 01s: whose clock is wrong?"),
    ],
)
def test_only_what_has_just_happened_is_acted_upon(ago: float, said: str | None) -> None:
    outcome = judged(alert=replace(ALERT, at=NOW - ago))
    assert (outcome.why if isinstance(outcome, Ignored) else None) == said


def test_what_has_no_time_happened_when_it_was_received() -> None:
    timeless = replace(ALERT, at=None)
    assert wanted(alert=timeless)
    assert "old" in why(alert=timeless, received_at=NOW - 1000)


def test_outside_its_hours_a_rule_holds_for_nothing() -> None:
    # NOW is a Tuesday, 02:17 UTC.
    assert wanted(f"{DIAGNOSE}, hours: {{from: '22:00', to: '06:00', days: [mon]}}")
    said = why(f"{DIAGNOSE}, hours: {{from: '08:00', to: '18:00', days: [mon, tue]}}")
    assert said == "rule r holds from 08:00 to 18:00 on mon, tue (UTC)"


# ---- our own doing ---------------------------------------------------------------------------

OURS = 'pagerduty: {token: {env: T}, from: "a@b.c", user: PME0000}'
NAMELESS = 'pagerduty: {token: {env: T}, from: "a@b.c"}'
ANY = "hook: pd, run: diagnose-saturation, target: shop-db"


@pytest.mark.parametrize(
    "event", ["incident.annotated", "incident.acknowledged", "incident.escalated"]
)
def test_what_we_did_ourselves_comes_to_nothing(event: str) -> None:
    own = replace(ALERT, event=event, by="PME0000")
    assert why(ANY, own, rest=OURS) == "it is our own doing"
    assert wanted(ANY, replace(own, by="PXRUEF2"), rest=OURS)


@pytest.mark.parametrize(("rest", "by"), [(NAMELESS, "PXRUEF2"), (OURS, None)])
def test_what_may_be_our_own_doing_comes_to_nothing(rest: str, by: str | None) -> None:
    note = replace(ALERT, event="incident.annotated", by=by)
    assert "may be our own doing" in why(ANY, note, rest=rest)
    assert wanted(ANY, replace(ALERT, by=by), rest=rest)


# ---- the incident as it stands ---------------------------------------------------------------


def test_an_incident_that_is_resolved_is_left_alone() -> None:
    assert why(now=incident(status="resolved")) == "incident Q3B15VLMF3ASBD is resolved by now"
    assert wanted(now=incident(status="acknowledged"))


def test_an_incident_that_has_moved_on_is_left_alone() -> None:
    text = DIAGNOSE.replace("{event", "{service: PF9KMXH, event")
    assert "has changed" in why(text, now=incident(service="PAAAAAA"))
    assert wanted(text, now=incident(service=None))


def test_an_event_of_an_incident_must_name_it() -> None:
    assert why(alert=replace(ALERT, incident=None)) == "it names no incident"


# ---- targets and parameters ------------------------------------------------------------------

FROM = "hook: pd, run: diagnose-saturation, target: {label: instance, pattern: '([a-z-]+):[0-9]+'}"


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ("shop-db:9187", "shop-db"),
        ("shop-db:9187\n", None),
        ("x shop-db:9187", None),
        ("shop-db", None),
        ("web-1:22", None),
        ("shop-d:1", None),
        ("a" * 300 + ":1", None),
    ],
)
def test_a_target_is_a_name_of_the_inventory_or_none(value: str, target: str | None) -> None:
    outcome = judged(FROM, replace(ALERT, labels={"instance": value}))
    assert (outcome.target if isinstance(outcome, Wanted) else None) == target


def test_a_label_that_is_missing_is_named() -> None:
    assert why(FROM) == "the alert has no label 'instance'"


def test_an_incidents_labels_help_and_the_alerts_own_win() -> None:
    now = incident(labels={"instance": "other-db:1"})
    assert wanted(FROM, now=now).target == "other-db"
    assert (
        wanted(FROM, replace(ALERT, labels={"instance": "shop-db:1"}), now=now).target == "shop-db"
    )


def test_parameters_are_fixed_or_names_of_the_inventory() -> None:
    text = f"{DIAGNOSE}, params: {{max: 5, host: {{label: h, of: host}}}}"
    assert wanted(text, replace(ALERT, labels={"h": "web-2"})).params == {"max": 5, "host": "web-2"}
    assert "no host named 'web-9'" in why(text, replace(ALERT, labels={"h": "web-9"}))


# ---- how often -------------------------------------------------------------------------------


def ran(ago: float, target: str | None = "shop-db", by: str = "r") -> Entry:
    return entry(ALERT, ago, rule=by, target=target)


@pytest.mark.parametrize(
    ("before", "held"),
    [
        (ran(599), True),
        (ran(601), False),
        (ran(-20), True),
        (ran(5, target="other-db"), False),
        (ran(5, by="another"), False),
    ],
)
def test_a_rule_cools_down_on_each_target(before: Entry, held: bool) -> None:
    outcome = judged(recent=(before,))
    assert isinstance(outcome, Ignored) is held


def test_a_clock_that_was_far_ahead_holds_nothing_back_for_ever() -> None:
    """A run that it has dated into next year is none of the last minutes."""
    assert isinstance(judged(recent=(ran(-86_400.0 * 365),)), Wanted)


def test_a_rule_cools_down_from_when_its_run_began() -> None:
    """The event may have waited for long."""
    late = replace(ran(840), ran_at=NOW - 5)
    assert why(recent=(late,)).endswith("9m 55s to go")


def test_what_is_left_of_a_cool_down_is_said() -> None:
    expected = "cooling down: diagnose-saturation ran on shop-db a moment ago; 5m 00s to go"
    assert why(recent=(ran(300),)) == expected


def test_a_playbook_cools_down_whichever_rule_ran_it() -> None:
    whole = config(f"  - {{name: r, {DIAGNOSE}}}\n  - {{name: s, {DIAGNOSE}}}\n")
    outcome = judge(
        ALERT, whole.rules[0], None, fleet=FLEET, recent=(ran(5, by="s"),), now=NOW, config=whole
    )
    assert isinstance(outcome, Ignored)


def test_a_target_has_so_many_runs_whichever_rule_wants_them() -> None:
    text = f"{DIAGNOSE}, cooldown: 0, rate: {{most: 2, per: 1h}}"
    assert wanted(text, recent=(ran(10), ran(3601)))
    assert why(text, recent=(ran(10), ran(20, by="another"))) == (
        "shop-db has had 2 runs in 1h 00m; 2 are allowed"
    )


def test_all_rules_together_have_a_rate() -> None:
    rest = "limits: {runs: {most: 1, per: 1m}}"
    assert wanted(rest=rest, recent=(ran(61, "other-db"),))
    assert "all rules together" in why(rest=rest, recent=(ran(59, "other-db"),))


def test_a_call_without_an_id_that_comes_twice_is_one_call() -> None:
    call = replace(ALERT, source="pagerduty-workflow", hook="flow", at=None, key="w:abc@10")
    text = "hook: flow, run: diagnose-saturation, target: shop-db, cooldown: 0"
    before = entry(replace(call, key="w:abc@9"), 100, rule="r", target="shop-db")
    assert why(text, call, recent=(before,)) == "the same call came a moment ago"
    assert wanted(text, call, recent=(replace(before, received_at=NOW - 301),))
    assert wanted(text, replace(call, key="w:abd@10"), recent=(before,))


# ---- why no rule -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "changed", "why"),
    [
        (DIAGNOSE, {"hook": "am"}, "no rule: none is for hook am"),
        (
            "hook: pd, when: {priority: [P1, P2], labels: {team: shop}}, run: x, target: shop-db",
            {"priority": "P3"},
            "wants priority P1 or P2, not P3 and label team shop, not none",
        ),
        (DIAGNOSE, {"event": "incident.reopened"}, "event incident.triggered, not incident.reo"),
        (
            "hook: pd, run: diagnose-saturation, target: shop-db",
            {"event": "incident.resolved"},
            "wants no incident.resolved: it names no event",
        ),
    ],
)
def test_why_no_rule_holds(text: str, changed: dict[str, Any], why: str) -> None:
    made, whole = rule(text)
    alert = replace(ALERT, **changed)
    assert rule_for(alert, whole) is None
    said = why_none(alert, whole)
    assert why in said
    assert made.name in said or "hook" in said
