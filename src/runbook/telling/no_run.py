"""What people are told when a rule held and no run began: why, and what to mend.

There is no run that it could be kept under: it is kept under the incident, once. Without an
incident it is kept under the rule and the hour, so that a storm of alerts is one message.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runbook.model.intake import Entry, Told
from runbook.model.serve_config import Rule
from runbook.telling.case import Links
from runbook.telling.due import INCIDENT
from runbook.telling.messages import about_no_run
from runbook.telling.text import cut, plain
from runbook.telling.words import HEADLINE, NOTE

#: What is told of it, by recipient; `PREFIX` begins what it is kept under: no run's id does.
KEY, PREFIX = "no-run", "no-run "


@dataclass(frozen=True, kw_only=True, slots=True)
class NoRun:
    """What is told of one incident, or of one rule in an hour; what is due was decided at once."""

    name: str
    recipients: tuple[str, ...]

    def due(
        self, _told: Iterable[Told], _links: Links, _now: float, _recipient: str
    ) -> tuple[Told, ...]:
        """Nothing becomes due later on."""
        return ()


def news(entry: Entry, rule: Rule, why: str, links: Links, now: float) -> Iterator[Told]:
    """Yield what is to be told of an event that a rule held for, and that led to no run."""
    incident = entry.alert.incident
    name = f"{PREFIX}{incident or f'{rule.name} {_hour(now)}'}"
    said = _lines(entry, rule, why, links)
    wanted = rule.tell.pagerduty
    if incident is not None and wanted is not None and wanted.notes:
        yield _told(name, INCIDENT, _note(incident, said), now)
    for recipient in dict.fromkeys(rule.tell.to):
        yield _told(name, recipient, about_no_run(name, said, links.inbox), now)


def _lines(entry: Entry, rule: Rule, why: str, links: Links) -> list[str]:
    of = f" of {rule.target}" if isinstance(rule.target, str) else ""
    alert = entry.alert
    about = f"{plain(alert.event, 60)}{f', {plain(alert.title, 100)}' if alert.title else ''}"
    incident = f" of incident {alert.incident}" if alert.incident else ""
    inbox = [f"What came in: {links.inbox}"] if links.inbox else []
    return [
        cut(f"NO RUN: {plain(rule.run, 50)}{of} could not begin: {plain(why)}", HEADLINE),
        f"Why: {plain(why)}",
        f"Rule {rule.name} held for {about}{incident}. Nothing was touched.",
        "Next: runbook serve --check tells what does not fit. This event is not tried again.",
        *inbox,
    ]


def _note(incident: str, said: list[str]) -> Mapping[str, Any]:
    marker = f"runbook {incident}/{KEY}"
    text = f"{cut(chr(10).join(said), NOTE - len(marker) - 1)}\n{marker}"
    return {"do": "note", "incident": incident, "text": text, "marker": marker}


def _told(name: str, recipient: str, content: Mapping[str, Any], now: float) -> Told:
    return Told(run_id=name, recipient=recipient, key=KEY, content=content, since=now)


def _hour(now: float) -> str:
    return time.strftime("%Y%m%d-%H", time.gmtime(now))
