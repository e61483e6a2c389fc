"""What is to be told of a run now, given what the journal says of it and what was told before.

Decided from how things stand, not from what has just happened: it does not matter which process
died when, or who looks next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from runbook.model.history import History
from runbook.model.intake import Told
from runbook.model.serve_config import Tell
from runbook.telling import changes, incident, messages
from runbook.telling.case import Case, Links

INCIDENT, CHANGE_EVENTS = "pagerduty", "pagerduty-change"

#: The recipients with rules of their own; every other one is a name of `notify`.
RULES: Mapping[str, Callable[[Case], Iterator[Told]]] = {
    INCIDENT: incident.news,
    CHANGE_EVENTS: changes.news,
}


def recipients(tell: Mapping[str, Any]) -> tuple[str, ...]:
    """Return who is to be told of a run, by its request's `tell`."""
    wanted, about = _wanted(tell)
    found = [INCIDENT] if wanted.pagerduty is not None and about is not None else []
    found += [CHANGE_EVENTS] if wanted.change_event else []
    return (*found, *dict.fromkeys(wanted.to))


def due(
    history: History,
    tell: Mapping[str, Any],
    told: Iterable[Told],
    links: Links,
    now: float,
    *,
    recipient: str,
    lost: bool = False,
) -> tuple[Told, ...]:
    """Return what is to be kept anew or otherwise than it is, in the order of its telling.

    `told` is what is kept of this recipient; `now` in seconds since the epoch; `lost`: nobody
    works on the run any more, and it has begun to change something. What is returned
    as `due` is to be told; what was due and has become pointless is returned as `given-up`.
    """
    wanted, about = _wanted(tell)
    case = Case(
        history=history,
        tell=wanted,
        incident=about,
        recipient=recipient,
        told={each.key: each for each in told},
        links=links,
        now=now,
        lost=lost,
    )
    return tuple(RULES.get(recipient, messages.news)(case))


def _wanted(tell: Mapping[str, Any]) -> tuple[Tell, str | None]:
    """Return what `tell_as_data` wrote; what a later runbook has added is left aside."""
    known = {key: value for key, value in tell.items() if key in Tell.model_fields}
    about = tell.get("incident")
    return Tell.model_validate(known), str(about) if about else None
