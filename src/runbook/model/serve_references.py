"""What a configuration of alerts names must be there: hooks, people, recipients, timezones."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from zoneinfo import ZoneInfo

from runbook.model.document import Document, DocumentPath, Problem, nearest
from runbook.model.errors import InvalidDocument
from runbook.model.serve_config import FromAlert, Notify, Person, Rule, ServeConfig
from runbook.model.validation import problem_at


def check_serve_config(config: ServeConfig, document: Document) -> ServeConfig:
    """Return the configuration, once every name in it leads to something in it.

    Raises:
        InvalidDocument: with each that does not, at its place.
    """
    problems = [*_rules(config, document), *_people(config, document), *_notify(config, document)]
    if problems:
        raise InvalidDocument(problems)
    return config


def _rules(config: ServeConfig, document: Document) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, rule in enumerate(config.rules):
        path: DocumentPath = ("rules", index)
        if rule.name in seen:
            message = f"two rules are named {rule.name!r}"
            yield problem_at(document, (*path, "name"), message, "a rule's name is its own")
        seen.add(rule.name)
        yield from _names(rule, path, config, document)
        yield from _hours(rule, path, document)
        yield from _patterns(rule, path, document)


def _names(
    rule: Rule, path: DocumentPath, config: ServeConfig, document: Document
) -> Iterator[Problem]:
    hooks = (rule.hook,) if isinstance(rule.hook, str) else rule.hook
    for name in hooks:
        yield from _missing(document, (*path, "hook"), "hook", name, config.hooks)
    by = rule.approval.by if rule.approval != "none" else ()
    for name in by:
        where = (*path, "approval", "by")
        yield from _missing(document, where, "person", name, config.people)
        if name in config.people and config.people[name].role == "viewer":
            message = f"{name} is a viewer, and may not approve"
            yield problem_at(document, where, message, f"write role: approver for {name}")
    for name in rule.tell.to:
        where = (*path, "tell", "to")
        yield from _missing(document, where, "recipient under `notify`", name, config.notify)
    if rule.tell.pagerduty is not None and config.pagerduty is None:
        message = "PagerDuty is to be told, and there is no `pagerduty` with a token"
        hint = "write pagerduty: {token: …, from: …} at the top"
        yield problem_at(document, (*path, "tell", "pagerduty"), message, hint)


def _hours(rule: Rule, path: DocumentPath, document: Document) -> Iterator[Problem]:
    if rule.hours is None:
        return
    try:
        ZoneInfo(rule.hours.timezone)
    except (ValueError, OSError, LookupError):
        message = f"there is no timezone {rule.hours.timezone!r}"
        hint = "a name as in Europe/Vienna or UTC; `timedatectl list-timezones` shows them"
        yield problem_at(document, (*path, "hours", "timezone"), message, hint)


def _patterns(rule: Rule, path: DocumentPath, document: Document) -> Iterator[Problem]:
    taken = [(("target",), rule.target), *((("params", k), v) for k, v in rule.params.items())]
    for where, value in taken:
        if not isinstance(value, FromAlert) or value.pattern is None:
            continue
        try:
            named = re.compile(value.pattern).groups > 0
            message = "" if named else "the pattern has no group"
        except re.error as error:
            message = f"the pattern cannot be read: {error}"
        if message:
            hint = "its first group, in (…), is the name; (?:…) groups without naming"
            yield problem_at(document, (*path, *where, "pattern"), message, hint)


def _people(config: ServeConfig, document: Document) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name, person in config.people.items():
        for key in ("slack", "pagerduty"):
            known = _id(person, key)
            other = seen.setdefault(f"{key} {known}", name) if known else name
            if other != name:
                message = f"{known} is {other} already"
                yield problem_at(document, ("people", name, key), message, "one id is one person")


def _id(person: Person, key: str) -> str | None:
    return person.slack if key == "slack" else person.pagerduty


def _notify(config: ServeConfig, document: Document) -> Iterator[Problem]:
    for name, notify in config.notify.items():
        message = _wrong(notify)
        if message:
            hint = "write slack: for an incoming webhook, webhook: for any address that takes JSON"
            yield problem_at(document, ("notify", name), message, hint)


def _wrong(notify: Notify) -> str:
    if (notify.slack is None) == (notify.webhook is None):
        return "a recipient is exactly one of slack or webhook"
    if notify.sign_with is not None and notify.webhook is None:
        return "only a webhook's body is signed"
    return ""


def _missing(
    document: Document, path: DocumentPath, kind: str, name: str, known: Collection[str]
) -> Iterator[Problem]:
    if name in known:
        return
    near = nearest(name, known)
    listed = ", ".join(list(known)[:8]) or "none"
    hint = f"did you mean {near!r}?" if near else f"there are: {listed}"
    yield problem_at(document, path, f"there is no {kind} {name!r}", hint)
