"""Selectors: set operations in the inventory's order, and never "all" by accident."""

from __future__ import annotations

import pytest

from runbook.model.errors import UsageError
from runbook.model.selectors import select

HOSTS = (
    ("web-1", frozenset({"web", "prod"}), {"role": "app", "zone": "a"}),
    ("web-2", frozenset({"web", "prod"}), {"role": "app", "zone": "b"}),
    ("web-3", frozenset({"web", "test"}), {"role": "app", "zone": "a"}),
    ("db-1", frozenset({"db", "prod"}), {"role": "db", "zone": "a"}),
)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("all", "web-1 web-2 web-3 db-1"),
        ("web", "web-1 web-2 web-3"),
        ("db-1, web-1", "web-1 db-1"),
        ("web & prod", "web-1 web-2"),
        ("web and not prod", "web-3"),
        ("role=app & zone=a", "web-1 web-3"),
        ("web & !web-2", "web-1 web-3"),
        ("(web | db) & zone=a", "web-1 web-3 db-1"),
        ("web-*", "web-1 web-2 web-3"),
        ("db or web-?", "web-1 web-2 web-3 db-1"),
        ("!(web)", "db-1"),
    ],
)
def test_selects(expression: str, names: str) -> None:
    assert select(expression, HOSTS) == tuple(names.split())


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("", "the selector is empty"),
        ("web & test & db", "selects no host"),
        ("zone=c", "selects no host"),
        ("wbe", "neither a host nor a group"),
        ("web &", "ends too early"),
        ("(web", "closing parenthesis"),
        ("web web-1", "'web-1' is left over"),
        ("& web", "stands where a name belongs"),
    ],
)
def test_refuses(expression: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        select(expression, HOSTS)


def test_a_miss_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        select("wbe", HOSTS)
    assert caught.value.hint == "did you mean 'web'?"
