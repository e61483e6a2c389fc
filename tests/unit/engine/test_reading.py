"""Playbooks: every mistake at its place with its remedy, and plans frozen as they should be."""

from __future__ import annotations

import textwrap

import pytest

from runbook.adapters.yaml_reader import parse_document
from runbook.engine.planning import make_plan
from runbook.engine.reading import Playbook, read_playbook
from runbook.model.errors import InvalidDocument, UsageError
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.steps import STEPS

FLEET = Fleet(
    Inventory.model_validate(
        {
            "version": 1,
            "hosts": {f"web-{i}": {"groups": ["web"]} for i in range(4)},
            "databases": {"db": {"connect": {"host": "h", "user": "u"}}},
            "services": {"shop": {"hosts": "web", "rolling": {"batches": ["1", "50%"]}}},
        }
    )
)


def read(text: str) -> Playbook:
    """Read a playbook from indented text."""
    return read_playbook(parse_document(textwrap.dedent(text), "book.yaml"), STEPS)


def problems(text: str) -> list[str]:
    """Return what is wrong with a playbook, one line each."""
    with pytest.raises(InvalidDocument) as caught:
        read(text)
    return [f"{p.place}: {p.message} [{p.hint}]" for p in caught.value.problems]


HEAD = """\
version: 1
name: mine
target: {kind: database}
parameters:
  size: {type: int, default: 3, min: 1, max: 10}
  over: {type: duration, default: 5m}
"""


def test_a_verb_that_is_misspelled_names_the_nearest() -> None:
    found = problems(HEAD + "steps:\n  - name: a\n    diagnos: {database: x}\n")
    assert found == [
        "book.yaml:9:5: 'diagnos' is neither a verb nor a key of a step [did you mean 'diagnose'?]"
    ]


def test_all_mistakes_are_told_at_once_each_at_its_place() -> None:
    found = problems(
        HEAD
        + """\
steps:
  - name: a
    diagnose: {databse: x}
    when: params.sizes > 3
  - name: b
    query: {database: "${targt}", sql: select 1}
    timeout: 5
  - name: c
  - name: c
    query: {database: x, sql: select 1, read_only: yes please}
"""
    )
    text = "\n".join(found)
    assert "book.yaml:12:14: 'timeout'" not in text
    assert "'timeout'" in text or "timeout: 5 is no duration" in text
    assert "a step has exactly one verb; it has none" in text
    # Names and arguments are looked at once every step has its verb.
    fixed = problems(
        HEAD
        + """\
steps:
  - name: a
    diagnose: {databse: x}
    when: params.sizes > 3
  - name: a
    query: {database: "${targt}", sql: select 1, read_only: "yes please"}
"""
    )
    text = "\n".join(fixed)
    assert "book.yaml:9:16: there is no key 'databse' here [did you mean 'database'?]" in text
    assert "undeclared reference to 'params.sizes'" in text
    assert "two steps are named 'a'" in text
    assert "${targt} is not known [did you mean ${target}?]" in text
    assert "'read_only' is true or false, not 'yes please'" in text


def test_a_default_out_of_its_own_bounds_is_a_mistake() -> None:
    found = problems(
        """\
        version: 1
        name: mine
        parameters: {size: {type: int, default: 30, max: 10}}
        steps: [{name: a, diagnose: {database: x}}]
        """
    )
    assert found[0].startswith("book.yaml:3:41: parameter size: 30 is more than the largest")


def test_a_plan_is_frozen_with_parameters_bounds_and_batches() -> None:
    book = read(
        """\
        version: 1
        name: mine
        target: {kind: service}
        parameters: {batches: {type: amounts}, fail: {type: int, default: 1}}
        steps:
          - name: Roll the shop!
            rolling:
              service: "${target}"
              batches: "${params.batches}"
              max_failures: "${params.fail}"
            save: rolled
        """
    )
    plan = make_plan(book, fleet=FLEET, target="shop", given={}, rehearsal=False)
    (node,) = plan.nodes
    assert node.key == "roll-the-shop"
    assert node.targets == ("web-0", "web-1", "web-2", "web-3")
    assert node.batches == (1, 2, 1)
    assert node.min_available == 2
    # A playbook may lower a bound that the inventory sets, never raise it.
    assert node.max_failures == 0
    other = make_plan(book, fleet=FLEET, target="shop", given={"batches": "2"}, rehearsal=True)
    assert other.nodes[0].batches == (2, 2)
    assert other.hash != plan.hash


def test_parameters_are_typed_and_bounded() -> None:
    book = read(HEAD + "steps:\n  - {name: a, diagnose: {database: '${target}'}}\n")
    for given, complaint in [
        ({"size": "11"}, "11 is more than the largest allowed, 10"),
        ({"size": "three"}, "'three' is no whole number"),
        ({"over": "5"}, "'5' is no duration"),
        ({"sizes": "1"}, "has no parameter 'sizes'"),
    ]:
        with pytest.raises(UsageError, match=complaint):
            make_plan(book, fleet=FLEET, target="db", given=given, rehearsal=False)


@pytest.mark.parametrize(
    ("target", "complaint"),
    [(None, "needs a target: a database"), ("dbb", "no database named 'dbb'")],
)
def test_the_target_must_be_there(target: str | None, complaint: str) -> None:
    book = read(HEAD + "steps:\n  - {name: a, diagnose: {database: '${target}'}}\n")
    with pytest.raises(UsageError, match=complaint):
        make_plan(book, fleet=FLEET, target=target, given={}, rehearsal=False)


def test_what_a_parameter_brings_is_checked_at_the_place_where_it_is_used() -> None:
    book = read(
        """\
        version: 1
        name: mine
        target: {kind: database}
        parameters: {what: {type: string, default: neither}}
        steps:
          - name: a
            terminate: {database: "${target}", which: "${params.what}"}
        """
    )
    with pytest.raises(InvalidDocument) as caught:
        make_plan(book, fleet=FLEET, target="db", given={}, rehearsal=False)
    assert "book.yaml:7:47" in str(caught.value)
