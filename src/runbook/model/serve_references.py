"""References inside a configuration of alerts that must lead somewhere: hooks, people, notify."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from runbook.model.document import Document, DocumentPath, Problem, nearest
from runbook.model.errors import InvalidDocument
from runbook.model.serve_config import Hook, OneOrMore, Person, Rule, ServeConfig
from runbook.model.validation import problem_at

#: These sign what they send: a secret in a header would only be one more to lose.
_SIGNING = ("pagerduty", "slack")


def check_serve_references(config: ServeConfig, document: Document) -> ServeConfig:
    """Return the configuration, once every name in it leads to something in it.

    Raises:
        InvalidDocument: with each reference that leads nowhere.
    """
    problems = [*_hooks(config, document), *_people(config, document)]
    for index, rule in enumerate(config.rules):
        problems += _rule(config, rule, ("rules", index), document)
    problems += _twins(config, document)
    if problems:
        raise InvalidDocument(problems)
    return config


def several(value: OneOrMore | None) -> tuple[str, ...]:
    """Return what is one or more as many; nothing for None."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def _missing(
    document: Document, path: DocumentPath, kind: str, name: str, known: Collection[str]
) -> Iterator[Problem]:
    if name in known:
        return
    near = nearest(name, known)
    listed = ", ".join(islice(known, 8)) or "none"
    hint = f"did you mean {near!r}?" if near else f"there are: {listed}"
    yield problem_at(document, path, f"there is no {kind} named {name!r}", hint)


def _places(value: OneOrMore | None, path: DocumentPath) -> Iterator[tuple[DocumentPath, str]]:
    """Each of one or more values, with where it stands."""
    if isinstance(value, str):
        yield path, value
    for index, one in enumerate(() if isinstance(value, str) else value or ()):
        yield (*path, index), one


def _hooks(config: ServeConfig, document: Document) -> Iterator[Problem]:
    for name, hook in config.hooks.items():
        path = ("hooks", name, "header")
        if hook.header is not None and hook.source in _SIGNING:
            message = f"{hook.source} signs what it sends: its secret is in no header"
            yield problem_at(document, path, message, "leave header out")
        yield from _same_secrets(name, hook, document)


def _same_secrets(name: str, hook: Hook, document: Document) -> Iterator[Problem]:
    for index, secret in enumerate(hook.secrets):
        if secret in hook.secrets[:index]:
            path = ("hooks", name, "secrets", index)
            yield problem_at(document, path, "this secret is here twice", "name each once")


# ---- people ----------------------------------------------------------------------------------


def _people(config: ServeConfig, document: Document) -> Iterator[Problem]:
    """Whoever answers is named in the record: no two may be the same."""
    seen: dict[tuple[str, object], str] = {}
    for name, person in config.people.items():
        for key, known_by in _known_by(person).items():
            first = seen.setdefault((key, known_by), name)
            if first != name:
                message = f"{first} and {name} have the same {key}: who of them is it?"
                path = ("people", name, key)
                yield problem_at(document, path, message, "give each their own")


def _known_by(person: Person) -> Mapping[str, object]:
    given = {"token": person.token, "slack": person.slack, "pagerduty": person.pagerduty}
    return {key: value for key, value in given.items() if value is not None}


# ---- rules -----------------------------------------------------------------------------------


def _rule(
    config: ServeConfig, rule: Rule, path: DocumentPath, document: Document
) -> Iterator[Problem]:
    for where, name in _places(rule.hook, (*path, "hook")):
        yield from _missing(document, where, "hook", name, config.hooks)
    if rule.approval != "none":
        for index, name in enumerate(rule.approval.by):
            where = (*path, "approval", "by", index)
            yield from _approver(config, name, where, document)
    for index, name in enumerate(rule.tell.to):
        where = (*path, "tell", "to", index)
        yield from _missing(document, where, "notify", name, config.notify)
    if rule.tell.pagerduty is not None and config.pagerduty is None:
        message = "nothing can be told to PagerDuty: there is no `pagerduty`"
        hint = "add pagerduty with token and from, or leave this out"
        yield problem_at(document, (*path, "tell", "pagerduty"), message, hint)
    if rule.hours is not None:
        yield from _zone(rule.hours.timezone, (*path, "hours", "timezone"), document)


def _approver(
    config: ServeConfig, name: str, path: DocumentPath, document: Document
) -> Iterator[Problem]:
    yield from _missing(document, path, "person", name, config.people)
    person = config.people.get(name)
    if person is not None and person.role == "viewer":
        message = f"{name} is a viewer, and may answer nothing"
        yield problem_at(document, path, message, f"give {name} the role approver or operator")


def _zone(name: str, path: DocumentPath, document: Document) -> Iterator[Problem]:
    try:
        if name != "UTC":
            ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = available_timezones()
        near = nearest(name, known)
        hint = f"did you mean {near!r}?" if near else "as in Europe/Vienna, or UTC"
        hint = hint if known else "this machine has none: install the package tzdata"
        yield problem_at(document, path, f"there is no time zone named {name!r:.60}", hint)


def _twins(config: ServeConfig, document: Document) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, rule in enumerate(config.rules):
        if rule.name in seen:
            message = f"there are two rules named {rule.name!r}: the record could not tell which"
            yield problem_at(document, ("rules", index, "name"), message, "rename one")
        seen.add(rule.name)
