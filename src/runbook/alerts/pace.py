"""How often a rule may lead to a run: cool-down, rate of a target, rate of all rules together."""

from __future__ import annotations

from collections.abc import Sequence

from runbook.model.intake import Entry
from runbook.model.serve_config import Rate, Rule, ServeConfig
from runbook.model.units import format_duration

#: A call that says nothing of when it happened has the time in its key, coarsely: two of the same
#: within this long are one, on either side of a full five minutes.
SAME_WITHIN_S = 300.0


def look_back_s(config: ServeConfig) -> float:
    """Return for how long the runs before now count: what `Inbox.ran_since` is to be asked for."""
    spans = [span for rule in config.rules for span in (rule.cooldown, rule.rate.per)]
    return max([config.limits.runs.per, SAME_WITHIN_S, *spans])


def held_back(
    rule: Rule, target: str | None, recent: Sequence[Entry], now: float, config: ServeConfig
) -> str | None:
    """Return why there is no run now, or None. `recent` are the events that led to runs."""
    same = [one for one in recent if one.target == target]
    playbooks = {each.name: each.run for each in config.rules}
    own = [
        one
        for one in same
        if one.rule == rule.name or playbooks.get(one.rule or "", "") == rule.run
    ]
    # A playbook without a target has a rate of its own; a target has one, whatever runs on it.
    on_target = own if target is None else same
    return (
        _cooling(rule, target, own, now)
        or _too_many(rule.rate, on_target, now, f"{_on(target)} has had")
        or _too_many(config.limits.runs, recent, now, "all rules together have had")
    )


def _cooling(rule: Rule, target: str | None, own: Sequence[Entry], now: float) -> str | None:
    newest = max(map(_began, _within(rule.cooldown, own, now)), default=None)
    if newest is None:
        return None
    left = format_duration(min(rule.cooldown, newest + rule.cooldown - now))
    return f"cooling down: {rule.run} ran on {_on(target)} a moment ago; {left} to go"


def _too_many(rate: Rate, runs: Sequence[Entry], now: float, who: str) -> str | None:
    counted = len(_within(rate.per, runs, now))
    if counted < rate.most:
        return None
    return f"{who} {counted} runs in {format_duration(rate.per)}; {rate.most} are allowed"


def _within(span: float, runs: Sequence[Entry], now: float) -> list[Entry]:
    """Return the runs of the last so many seconds.

    One that a clock which was far ahead has dated into the future holds nothing back for ever.
    """
    return [one for one in runs if abs(now - _began(one)) < span]


def _began(one: Entry) -> float:
    return one.received_at if one.ran_at is None else one.ran_at


def _on(target: str | None) -> str:
    return target or "its target"
