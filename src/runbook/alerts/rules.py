"""From an alert to the run that a rule wants, or to why there is none. No rule, no run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runbook.alerts import hours, pace
from runbook.alerts.taking import NotTaken, take
from runbook.model.alert import Alert
from runbook.model.alert_events import OURS, OVER
from runbook.model.document import shorten
from runbook.model.fleet import Fleet
from runbook.model.intake import Entry, IncidentNow
from runbook.model.inventory import Scalar
from runbook.model.serve_config import FromAlert, OneOrMore, Rule, ServeConfig, tell_as_data
from runbook.model.units import format_duration

#: How far another clock may be ahead of ours.
CLOCK_SKEW_S = 300.0
#: Rules that are named to explain why none holds.
_NEAR = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A run that a rule wants: every name in it is the configuration's or the inventory's."""

    rule: str
    #: As the rule writes it: a shipped playbook's name, or a path from the configuration file.
    playbook: str
    target: str | None
    params: Mapping[str, Any]
    rehearsal: bool
    #: PagerDuty's id of the incident that it is for, or None.
    incident: str | None
    #: As `model.ports.Request` has them.
    confirmed_by: str = ""
    approvers: tuple[str, ...] = ()
    answer_within_s: float | None = None
    tell: Mapping[str, Any] = field(default_factory=dict)
    #: What could not be made sure of, for people.
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Ignored:
    """No run, and why, for people."""

    why: str
    #: Whether the rule wants a run, and what on cannot be known: that is nobody's wish.
    unknown: bool = False


def rule_for(alert: Alert, config: ServeConfig, incident: IncidentNow | None = None) -> Rule | None:
    """Return the first rule that holds for an alert, or None.

    With the incident as it stands now, its service, priority, urgency and labels count as well.
    """
    known = with_incident(alert, incident)
    return next((rule for rule in config.rules if _holds(rule, known)), None)


def why_none(alert: Alert, config: ServeConfig, incident: IncidentNow | None = None) -> str:
    """Return why no rule holds for an alert, for people: what each that might have held misses."""
    known = with_incident(alert, incident)
    near = [(rule, _misses(rule, known)) for rule in config.rules if _is(rule.hook, known.hook)]
    if not near:
        return f"no rule: none is for hook {alert.hook}"
    near.sort(key=lambda each: len(each[1]))
    said = [f"{rule.name} wants {' and '.join(misses)}" for rule, misses in near[:_NEAR]]
    more = f"; and {len(near) - _NEAR} more" if len(near) > _NEAR else ""
    return f"no rule: {'; '.join(said)}{more}"


def worth_reading(alert: Alert, config: ServeConfig) -> bool:
    """Whether any rule may hold once the alert's incident is read: else nobody need be asked."""
    return any(_calls(rule, alert) for rule in config.rules)


def with_incident(alert: Alert, incident: IncidentNow | None) -> Alert:
    """Return an alert with what its incident says by now.

    What the incident is wins over what it was when the alert was sent; of labels the alert's win.
    """
    if incident is None:
        return alert
    return replace(
        alert,
        service=incident.service or alert.service,
        priority=incident.priority,
        urgency=incident.urgency,
        labels={**incident.labels, **alert.labels},
        title=alert.title or incident.title,
    )


def judge(
    alert: Alert,
    rule: Rule,
    incident: IncidentNow | None,
    *,
    fleet: Fleet,
    recent: Sequence[Entry],
    now: float,
    config: ServeConfig,
    received_at: float | None = None,
) -> Wanted | Ignored:
    """Return the run that a rule wants for an alert, or why there is none.

    `incident` is the alert's as it stands now, None where there is none or PagerDuty did not say.
    `recent` are the events of the last `pace.look_back_s` that led to runs; `now` and
    `received_at` are seconds since the epoch, and an alert that has no time happened when it was
    received.
    """
    known = with_incident(alert, incident)
    came = now if received_at is None else received_at
    why = (
        _out_of_time(known, rule, came, now)
        or _own(known, config)
        or _moved_on(alert, known, rule, incident)
        or _again(alert, came, recent)
    )
    if why is not None:
        return Ignored(why=why)
    try:
        target = _target(rule, known, fleet)
        params = {name: _param(value, known, fleet) for name, value in rule.params.items()}
    except NotTaken as error:
        return Ignored(why=str(error), unknown=True)
    held = pace.held_back(rule, target, recent, now, config)
    if held is not None:
        return Ignored(why=held)
    return _wanted(known, rule, incident, target, params)


# ---- whether a rule holds --------------------------------------------------------------------


def _holds(rule: Rule, alert: Alert) -> bool:
    return _calls(rule, alert) and all(_is(value, given) for _, value, given in _asks(rule, alert))


def _asks(rule: Rule, alert: Alert) -> Iterator[tuple[str, OneOrMore | None, str | None]]:
    """Yield what a rule asks of an incident: what, which it must be, and which it is."""
    when = rule.when
    yield "service", when.service, alert.service
    yield "priority", when.priority, alert.priority
    yield "urgency", when.urgency, alert.urgency
    for name, value in when.labels.items():
        yield f"label {name}", value, alert.labels.get(name)


def _misses(rule: Rule, alert: Alert) -> list[str]:
    """Return in words what keeps a rule of this hook from holding."""
    if alert.event in OVER and rule.when.event is None:
        return [f"no {alert.event}: it names no event"]
    calls = (("event", rule.when.event, alert.event), ("by", rule.when.by, alert.by))
    return [
        f"{what} {_or(wanted)}, not {'none' if given is None else shorten(given)}"
        for what, wanted, given in (*calls, *_asks(rule, alert))
        if not _is(wanted, given)
    ]


def _or(wanted: OneOrMore | None) -> str:
    return " or ".join((wanted,) if isinstance(wanted, str) else wanted or ())


def _calls(rule: Rule, alert: Alert) -> bool:
    """Whether the rule is for such a call: what no look at the incident will change."""
    when = rule.when
    if not _is(rule.hook, alert.hook) or (alert.event in OVER and when.event is None):
        return False
    return _is(when.event, alert.event) and _is(when.by, alert.by)


def _is(wanted: OneOrMore | None, given: str | None) -> bool:
    if wanted is None:
        return True
    return given is not None and given in ((wanted,) if isinstance(wanted, str) else wanted)


# ---- why not ---------------------------------------------------------------------------------


def _out_of_time(alert: Alert, rule: Rule, came: float, now: float) -> str | None:
    age = now - (came if alert.at is None else alert.at)
    if age > rule.max_age:
        return (
            f"it is {format_duration(age)} old; rule {rule.name} acts on nothing older than"
            f" {format_duration(rule.max_age)}"
        )
    if age < -CLOCK_SKEW_S:
        return f"it comes from the future, by {format_duration(-age)}: whose clock is wrong?"
    if rule.hours is not None and not hours.within(rule.hours, now):
        return f"rule {rule.name} holds from {hours.said(rule.hours)}"
    return None


def _own(alert: Alert, config: ServeConfig) -> str | None:
    """Our own notes come back as events: they must not begin a run that writes a note."""
    if config.pagerduty is None or not alert.source.startswith("pagerduty"):
        return None
    user = config.pagerduty.user
    if user is not None and alert.by == user:
        return "it is our own doing"
    if alert.event in OURS and (user is None or alert.by is None):
        return (
            f"{alert.event} may be our own doing, and nobody can tell: say `user` under"
            " `pagerduty`, and who else may cause it under `when`"
        )
    return None


def _moved_on(alert: Alert, known: Alert, rule: Rule, incident: IncidentNow | None) -> str | None:
    """Why the incident, as it stands now, is none for this rule."""
    if alert.incident is None and _must_name_incident(alert):
        return "it names no incident"
    if incident is None:
        return None
    if incident.status == "resolved" and alert.event not in OVER:
        return f"incident {incident.id} is resolved by now"
    if not _holds(rule, known):
        return f"incident {incident.id} has changed: rule {rule.name} does not hold any more"
    return None


def _must_name_incident(alert: Alert) -> bool:
    if alert.source == "pagerduty":
        return alert.event.startswith("incident.")
    return alert.source in {"pagerduty-action", "pagerduty-workflow"}


def _again(alert: Alert, came: float, recent: Sequence[Entry]) -> str | None:
    """A call without a time or an id that is the same as one a moment ago is that one, resent."""
    stem, mark, _ = alert.key.rpartition("@")
    if not mark:
        return None
    for one in recent:
        near = abs(came - one.received_at) < pace.SAME_WITHIN_S
        if near and one.alert.key.rpartition("@")[0] == stem:
            return "the same call came a moment ago"
    return None


# ---- what is wanted --------------------------------------------------------------------------


def _target(rule: Rule, alert: Alert, fleet: Fleet) -> str | None:
    if isinstance(rule.target, FromAlert):
        return take(rule.target, alert.labels, fleet)
    return rule.target


def _param(value: Scalar | list[Scalar] | FromAlert, alert: Alert, fleet: Fleet) -> Any:
    return take(value, alert.labels, fleet) if isinstance(value, FromAlert) else value


def _wanted(
    alert: Alert,
    rule: Rule,
    incident: IncidentNow | None,
    target: str | None,
    params: Mapping[str, Any],
) -> Wanted:
    asked = rule.approval if rule.mode == "real" and rule.approval != "none" else None
    unattended = rule.mode == "real" and asked is None
    unread = alert.incident is not None and incident is None
    return Wanted(
        rule=rule.name,
        playbook=rule.run,
        target=target,
        params=params,
        rehearsal=rule.mode == "rehearse",
        incident=alert.incident,
        confirmed_by=f"rule {rule.name} (approval: none)" if unattended else "",
        approvers=asked.by if asked else (),
        answer_within_s=asked.within if asked else None,
        tell=tell_as_data(rule.tell, alert.incident),
        remarks=("whether the incident is still open was not looked up",) if unread else (),
    )
