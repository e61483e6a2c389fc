"""What is allowed in a configuration of alerts, and is hardly what was meant."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from runbook.model.alert_events import KNOWN, OURS, OVER
from runbook.model.document import Document, DocumentPath, Problem, nearest
from runbook.model.serve_config import Rule, ServeConfig
from runbook.model.serve_references import several
from runbook.model.validation import problem_at


def serve_warnings(config: ServeConfig, document: Document) -> tuple[Problem, ...]:
    """Return what to tell of a configuration whose references all lead somewhere."""
    found = [*_listen(config, document), *_idle_hooks(config, document)]
    for index, rule in enumerate(config.rules):
        path = ("rules", index)
        found += _shadowed(config, index, document)
        found += _events(config, rule, path, document)
        found += _loop(config, rule, path, document)
        found += _unknowable(config, rule, path, document)
        found += _nobody_to_ask(config, rule, path, document)
    return tuple(found)


# ---- the way in ------------------------------------------------------------------------------


def _listen(config: ServeConfig, document: Document) -> Iterator[Problem]:
    listen = config.listen
    if _is_loopback(listen.address) or listen.url is not None:
        return
    message = f"{listen.address} can be reached from elsewhere, and no url says how"
    hint = "put a proxy that speaks TLS before it, and its address under url"
    yield problem_at(document, ("listen", "address"), message, hint)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _idle_hooks(config: ServeConfig, document: Document) -> Iterator[Problem]:
    used = {name for rule in config.rules for name in several(rule.hook)}
    for name, hook in config.hooks.items():
        # Slack's hook takes answers as well, and needs no rule for that.
        if name not in used and hook.source != "slack":
            message = f"no rule is for hook {name!r}: what comes there is kept and leads to nothing"
            yield problem_at(document, ("hooks", name), message, f"write a rule with hook: {name}")


# ---- rules -----------------------------------------------------------------------------------


def _shadowed(config: ServeConfig, index: int, document: Document) -> Iterator[Problem]:
    rule = config.rules[index]
    for earlier in config.rules[:index]:
        if _covers(earlier, rule):
            message = f"rule {rule.name!r} never holds: {earlier.name!r} takes all of its alerts"
            hint = f"put it before {earlier.name!r}, or narrow that one's `when`"
            yield problem_at(document, ("rules", index, "name"), message, hint)
            return


def _covers(earlier: Rule, later: Rule) -> bool:
    first, second = earlier.when, later.when
    if not set(several(later.hook)) <= set(several(earlier.hook)):
        return False
    if first.event is None and OVER & set(several(second.event)):
        return False
    pairs = [
        (getattr(first, key), getattr(second, key))
        for key in ("event", "service", "priority", "urgency", "by")
    ] + [(value, second.labels.get(name)) for name, value in first.labels.items()]
    return all(
        wide is None or (narrow is not None and set(several(narrow)) <= set(several(wide)))
        for wide, narrow in pairs
    )


def _sources(config: ServeConfig, rule: Rule) -> set[str]:
    return {config.hooks[name].source for name in several(rule.hook)}


def _events(
    config: ServeConfig, rule: Rule, path: DocumentPath, document: Document
) -> Iterator[Problem]:
    sources = _sources(config, rule)
    where = (*path, "when", "event")
    if rule.when.event is None:
        if "pagerduty" in sources:
            message = f"rule {rule.name!r} is for every event of an incident, notes too"
            yield problem_at(document, path, message, "add when: {event: incident.triggered}")
        return
    known = {event for source in sources for event in KNOWN.get(source, ())}
    for event in several(rule.when.event):
        if event in known or ("slack" in sources and event.startswith("/")):
            continue
        near = nearest(event, known)
        listed = ", ".join(sorted(known)[:4]) or "a command, as in /runbook"
        hint = f"did you mean {near!r}?" if near else f"there are: {listed}"
        message = f"{' and '.join(sorted(sources))} is not known to send {event!r}"
        yield problem_at(document, where, message, hint)


def _loop(
    config: ServeConfig, rule: Rule, path: DocumentPath, document: Document
) -> Iterator[Problem]:
    """Without its own id, `serve` cannot tell its own notes from a person's, and ignores both."""
    own = config.pagerduty
    if own is None or own.user is not None or "pagerduty" not in _sources(config, rule):
        return
    named = sorted(OURS & set(several(rule.when.event)))
    if named:
        message = f"{named[0]} may be our own doing, and is ignored while nobody can tell"
        hint = "say under pagerduty which user the token acts as: user: PXXXXXX"
        yield problem_at(document, (*path, "when", "event"), message, hint)


def _unknowable(
    config: ServeConfig, rule: Rule, path: DocumentPath, document: Document
) -> Iterator[Problem]:
    if config.pagerduty is not None or _sources(config, rule) != {"pagerduty-workflow"}:
        return
    for key in ("service", "priority", "urgency"):
        if getattr(rule.when, key) is not None:
            message = f"a workflow's call does not say the {key}: this rule never holds"
            hint = "add pagerduty with token and from: then the incident is looked up"
            yield problem_at(document, (*path, "when", key), message, hint)


def _nobody_to_ask(
    config: ServeConfig, rule: Rule, path: DocumentPath, document: Document
) -> Iterator[Problem]:
    asks = rule.mode == "real" and rule.approval != "none"
    if asks and all(person.role == "viewer" for person in config.people.values()):
        message = f"rule {rule.name!r} asks before it changes anything, and people has no approver"
        hint = "add one; else only `runbook runs approve` on this machine can answer"
        yield problem_at(document, path, message, hint)
