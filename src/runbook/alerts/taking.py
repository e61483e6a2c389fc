"""The one way from an alert to a name of ours: a label's value, looked up in the inventory."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from runbook.model.document import shorten
from runbook.model.fleet import Fleet
from runbook.model.serve_config import FromAlert

#: No name is longer; what is longer is not even looked at.
LONGEST = 256


class NotTaken(Exception):
    """A label does not name anything that the inventory has; the message says why, for people."""


def take(wanted: FromAlert, labels: Mapping[str, str], fleet: Fleet) -> str:
    """Return the inventory's own name that a label gives.

    Raises:
        NotTaken: when the label is not there, has not the form, or names nothing of the inventory.
    """
    value = labels.get(wanted.label)
    if value is None:
        raise NotTaken(f"the alert has no label {wanted.label!r}")
    name = _name(wanted, value)
    # The name is the inventory's own text from here on, not the alert's.
    for known in _known(wanted, fleet):
        if known == name:
            return known
    raise NotTaken(
        f"label {wanted.label}: the inventory has no {wanted.of} named '{shorten(name)}'"
    )


def _name(wanted: FromAlert, value: str) -> str:
    if len(value) > LONGEST:
        raise NotTaken(f"label {wanted.label} has {len(value)} characters: that is no name")
    if wanted.pattern is None:
        return value
    match = re.fullmatch(wanted.pattern, value)
    if match is None or match[1] is None:
        raise NotTaken(f"label {wanted.label}: '{shorten(value)}' is not of the form it must have")
    return match[1]


def _known(wanted: FromAlert, fleet: Fleet) -> Collection[str]:
    inventory = fleet.inventory
    if wanted.of == "database":
        return inventory.databases
    return inventory.services if wanted.of == "service" else inventory.hosts
