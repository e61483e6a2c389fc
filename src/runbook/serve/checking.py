"""Would it work tonight? Rules against the inventory and the playbooks, references to secrets.

A rule is planned as an alert would have it planned; nothing is run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from runbook import wiring
from runbook.engine.planning import make_plan
from runbook.engine.reading import Playbook
from runbook.model.errors import RunbookError, SecretMissing
from runbook.model.fleet import Fleet
from runbook.model.inventory import Secret
from runbook.model.serve_config import FromAlert, Rule, ServeConfig
from runbook.serve.guard import allowed_hosts
from runbook.serve.submitting import playbook_of


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found: why it would not work, and what is worth a look."""

    mistakes: Sequence[str] = field(default_factory=tuple)
    remarks: Sequence[str] = field(default_factory=tuple)


def check(config: ServeConfig, source: str, fleet: Fleet) -> Checked:
    """Look at everything that an alert would need."""
    planned = (problem for rule in config.rules for problem in _rule(rule, source, fleet))
    return Checked(mistakes=(*planned, *missing_secrets(config)), remarks=tuple(_remarks(config)))


def missing_secrets(config: ServeConfig) -> Iterator[str]:
    """Yield what is wrong with each reference to a secret that leads nowhere."""
    for where, secret in _secrets(config, ""):
        try:
            wiring.secret(secret)
        except SecretMissing as error:
            yield f"{where}: {_whole(error)}"


def _secrets(value: Any, where: str) -> Iterator[tuple[str, Secret]]:
    if isinstance(value, Secret):
        yield where, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name), f"{where}.{name}".lstrip("."))
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _secrets(each, f"{where}.{name}")
    elif isinstance(value, tuple):
        for number, each in enumerate(value):
            yield from _secrets(each, f"{where}.{number}")


def _rule(rule: Rule, source: str, fleet: Fleet) -> Iterator[str]:
    """Plan a rule for the first name that fits; where none does, say why the last did not."""
    try:
        playbook = wiring.load_playbook(playbook_of(rule.run, source))
    except RunbookError as error:
        yield f"rule {rule.name}: {_whole(error)}"
        return
    why = ""
    for target in _targets(rule, fleet):
        try:
            _plan(rule, playbook, target, fleet)
        except RunbookError as error:
            why = _whole(error)
        else:
            return
    yield f"rule {rule.name}: {why or 'the inventory has nothing that its target may be'}"


def _plan(rule: Rule, playbook: Playbook, target: str | None, fleet: Fleet) -> None:
    given = {name: _any(value, fleet) for name, value in rule.params.items()}
    make_plan(playbook, fleet=fleet, target=target, given=given, rehearsal=rule.mode == "rehearse")


def _targets(rule: Rule, fleet: Fleet) -> Collection[str | None]:
    if isinstance(rule.target, FromAlert):
        return list(_names(rule.target, fleet))
    return [rule.target]


def _any(value: Any, fleet: Fleet) -> Any:
    return next(iter(_names(value, fleet)), "") if isinstance(value, FromAlert) else value


def _names(wanted: FromAlert, fleet: Fleet) -> Collection[str]:
    inventory = fleet.inventory
    if wanted.of == "database":
        return inventory.databases
    return inventory.services if wanted.of == "service" else inventory.hosts


def _remarks(config: ServeConfig) -> Iterator[str]:
    used = {n for r in config.rules for n in ((r.hook,) if isinstance(r.hook, str) else r.hook)}
    for name in config.hooks:
        if name not in used:
            yield f"hook {name}: no rule is for it; whatever it accepts is ignored"
    if config.listen.address not in {"127.0.0.1", "::1", "localhost"}:
        yield (
            f"it listens on {config.listen.address}, in plain HTTP: put a proxy with TLS before"
            f" it; requests are taken for {', '.join(sorted(allowed_hosts(config.listen)))}"
        )


def _whole(error: RunbookError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
