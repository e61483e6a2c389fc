"""Playbooks from text, and an inventory to plan them with."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import pytest

from runbook.adapters.yaml_reader import parse_document
from runbook.engine.planning import make_plan
from runbook.engine.reading import Beside, Playbook, read_playbook
from runbook.model.document import Document
from runbook.model.errors import InvalidDocument, UsageError
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.plan import Plan
from runbook.steps import STEPS

FLEET = Fleet(
    Inventory.model_validate(
        {
            "version": 1,
            "hosts": {f"web-{i}": {"groups": ["web"]} for i in range(4)}
            | {"db-1": {"groups": ["db"]}},
            "databases": {"db": {"connect": {"host": "h", "user": "u"}}},
            "services": {
                "shop": {"hosts": "web", "database": "db", "rolling": {"batches": ["1", "50%"]}},
                "lonely": {"hosts": "web-0"},
            },
        }
    )
)


def read(text: str, files: Mapping[str, str] | None = None) -> Playbook:
    """Read a playbook from indented text; `files` are those that it may include."""

    def load(name: str, including: str) -> Document:
        if name not in (files or {}):
            raise UsageError(f"there is no playbook {name!r}", hint=f"seen from {including}")
        return parse_document(textwrap.dedent((files or {})[name]), name)

    def text_of(name: str, _playbook: str) -> str:
        return load(name, "").text

    beside = Beside(document=load, text=text_of)
    return read_playbook(parse_document(textwrap.dedent(text), "book.yaml"), STEPS, beside)


def problems(text: str, files: Mapping[str, str] | None = None) -> list[str]:
    """Return what is wrong with a playbook, one line each."""
    with pytest.raises(InvalidDocument) as caught:
        read(text, files)
    return [f"{p.place}: {p.message} [{p.hint}]" for p in caught.value.problems]


def book(steps: str, head: str = "") -> str:
    """Return a playbook's text around its steps (indented by two) and what `head` adds."""
    top = "version: 1\nname: mine\n"
    return top + textwrap.dedent(head) + "steps:\n" + textwrap.indent(textwrap.dedent(steps), "  ")


def plan_of(
    text: str,
    *,
    target: str | None = None,
    files: Mapping[str, str] | None = None,
    given: Mapping[str, Any] | None = None,
    **more: Any,
) -> Plan:
    """Read a playbook and plan it."""
    read_one = read(text, files)
    return make_plan(
        read_one, fleet=FLEET, target=target, given=given or {}, rehearsal=False, **more
    )


def plan_problems(text: str, **more: Any) -> list[str]:
    """Return what is wrong with a playbook once it is planned, one line each."""
    with pytest.raises(InvalidDocument) as caught:
        plan_of(text, **more)
    return [f"{p.place}: {p.message} [{p.hint}]" for p in caught.value.problems]
