"""Typed parameters: what each type takes, its bounds, and names that the inventory must have."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.model.errors import UsageError
from runbook.model.parameters import parse, resolve
from runbook.model.playbook import Parameter
from unit.engine.books import FLEET

TAKEN: list[tuple[dict[str, Any], Any, Any]] = [
    ({"type": "int"}, "-3", -3),
    ({"type": "int", "min": 1, "max": "3"}, 3, 3),
    ({"type": "bool"}, "false", False),
    ({"type": "string", "min": 2, "max": 3}, "ab", "ab"),
    ({"type": "enum", "choices": ["fast", "safe"]}, "safe", "safe"),
    ({"type": "duration", "max": "1m"}, "60s", "60s"),
    ({"type": "durations", "min": "1s"}, "5s, 1m30s", ["5s", "1m30s"]),
    ({"type": "durations"}, "5s", ["5s"]),
    ({"type": "strings"}, "a, b", ["a", "b"]),
    (
        {"type": "pools"},
        "shop.size=4",
        [{"service": "shop", "size": 4, "overflow": None, "processes": None}],
    ),
    ({"type": "percentage", "max": "50%"}, "050%", "50%"),
    ({"type": "amount"}, 0, "0"),
    ({"type": "amount", "max": 4}, "4", "4"),
    ({"type": "amount", "max": "50%"}, "25%", "25%"),
    ({"type": "amounts", "max": "50%"}, ["25%", "50%"], ["25%", "50%"]),
    ({"type": "unit"}, "app@1.service", "app@1.service"),
    ({"type": "hosts", "max": 3}, "web & !web-0", "web & !web-0"),
    ({"type": "host"}, "web-1", "web-1"),
    ({"type": "host", "choices": ["web-1", "web-2"]}, "web-1", "web-1"),
    ({"type": "service"}, "shop", "shop"),
    ({"type": "database"}, "db", "db"),
]


@pytest.mark.parametrize(("spec", "value", "read"), TAKEN)
def test_a_value_is_read_as_its_type(spec: dict[str, Any], value: Any, read: Any) -> None:
    assert parse("x", Parameter.model_validate(spec), value, FLEET) == read


REFUSED: list[tuple[dict[str, Any], Any, str]] = [
    ({"type": "int"}, "3.0", "'3.0' is no whole number"),
    ({"type": "int"}, 3.0, "3.0 is no whole number"),
    ({"type": "int"}, True, "True is no whole number"),
    ({"type": "int"}, "1" * 40, "is no whole number"),
    ({"type": "int", "max": 3}, 4, "4 is more than the largest allowed, 3"),
    ({"type": "bool"}, "yes", "'yes' is neither true nor false"),
    ({"type": "bool"}, 1, "1 is neither true nor false"),
    ({"type": "string"}, 7, "7 is no text: quote it"),
    ({"type": "string", "max": 3}, "abcd", "a length of 4 is more than the largest allowed, 3"),
    ({"type": "enum", "choices": ["fast", "safe"]}, "saef", "'saef' is not among fast, safe"),
    ({"type": "duration"}, 5, "5 is no duration"),
    ({"type": "duration"}, 5.0, "5.0 is no duration"),
    ({"type": "duration", "min": "1m"}, "59s", "59s is less than the smallest allowed, 1m"),
    ({"type": "durations", "max": "1m"}, "5s,61s", "61s is more than the largest allowed, 1m"),
    ({"type": "percentage"}, 25, "25 is no percentage: write it as in 25%"),
    ({"type": "percentage"}, "101%", "is no percentage between 1% and 100%"),
    ({"type": "percentage", "max": "50%"}, "51%", "51% is more than the largest allowed, 50%"),
    ({"type": "amount", "max": 4}, "50%", "50% cannot be held against the bound 4: write a count"),
    ({"type": "amount", "max": "9%"}, 3, "3 cannot be held against the bound 9%: write a percent"),
    ({"type": "amounts"}, "1,0", "0 is no amount"),
    ({"type": "amounts", "max": 2}, [1, 3], "3 is more than the largest allowed, 2"),
    ({"type": "unit"}, "--now", "'--now' is no name of a systemd unit"),
    ({"type": "unit"}, "app*.service", "is no name of a systemd unit"),
    ({"type": "hosts"}, "webb", "parameter x: 'webb' is neither a host nor a group"),
    ({"type": "hosts"}, " ", "parameter x: it is empty"),
    ({"type": "hosts", "max": 3}, "web", "'web' selects 4 hosts; allowed are 0 to 3"),
    ({"type": "hosts", "min": 2}, "web-0", "'web-0' selects 1 hosts; allowed are 2 to any number"),
    ({"type": "host"}, "web", "no host named 'web'"),
    ({"type": "service"}, "shopp", "no service named 'shopp'"),
    ({"type": "pools"}, "shopp.size=4", "no service named 'shopp'"),
    ({"type": "database"}, "dbb", "no database named 'dbb'"),
]


@pytest.mark.parametrize(("spec", "value", "complaint"), REFUSED)
def test_a_value_that_does_not_fit_is_refused(
    spec: dict[str, Any], value: Any, complaint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse("x", Parameter.model_validate(spec), value, FLEET)
    assert complaint in caught.value.message
    assert caught.value.message.startswith("parameter x: ")


def test_names_are_looked_up_only_with_an_inventory() -> None:
    assert parse("x", Parameter(type="host"), "nobody") == "nobody"
    with pytest.raises(UsageError, match="no host named") as caught:
        parse("x", Parameter(type="host"), "web-11", FLEET)
    assert caught.value.hint == "did you mean 'web-1'?"


def test_a_default_is_looked_up_as_well_and_null_is_none() -> None:
    declared = {"a": Parameter(type="host", default="web-9"), "b": Parameter(type="int")}
    with pytest.raises(UsageError, match="no host named 'web-9'"):
        resolve(declared, {}, "p", FLEET)
    assert resolve(declared, {"a": "web-1", "b": None}, "p", FLEET) == {"a": "web-1", "b": None}


def test_what_is_required_must_be_given() -> None:
    declared = {"a": Parameter(type="int", required=True, description="how many")}
    with pytest.raises(UsageError, match="needs the parameter 'a'") as caught:
        resolve(declared, {}, "p", FLEET)
    assert caught.value.hint == "give it with -p a=VALUE; how many"
