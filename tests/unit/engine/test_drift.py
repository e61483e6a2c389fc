"""Two plans side by side: what is different, in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runbook.engine.drift import drift
from runbook.model.plan import Plan, plan_from_json
from unit.engine.plans import plan, rolling_node, single_node

BEGAN = plan(rolling_node(3, (1, 2)), single_node("after", args={"a": {"b": 1}}), size=1)


def changed(number: int, **over: Any) -> Plan:
    """Return the plan with one step changed."""
    nodes = list(BEGAN.nodes)
    nodes[number] = replace(nodes[number], **over)
    return replace(BEGAN, nodes=tuple(nodes))


def test_a_plan_that_comes_back_from_the_journal_is_the_same() -> None:
    assert drift(plan_from_json(BEGAN.to_json()), BEGAN) == ()


@pytest.mark.parametrize(
    ("now", "line"),
    [
        (changed(0, targets=("web-0", "web-2")), "step 'roll': no longer on web-1"),
        (
            changed(0, targets=("web-0", "web-1", "web-2", "web-9")),
            "step 'roll': now on web-9 as well",
        ),
        (
            changed(0, targets=("web-1", "web-0", "web-2")),
            "step 'roll': its targets come in another order: web-1, web-0, web-2",
        ),
        (changed(0, batches=(1, 1, 1)), "step 'roll': batches: was 1, 2, is 1, 1, 1"),
        (changed(0, max_failures=2), "step 'roll': max_failures: was 0, is 2"),
        (changed(1, args={"a": {"b": 2}}), "step 'after': a.b: was 1, is 2"),
        (changed(1, when="x"), "step 'after': when: was nothing, is x"),
        (replace(BEGAN, nodes=BEGAN.nodes[:1]), "step 'after' is gone"),
        (replace(BEGAN, nodes=(*BEGAN.nodes, single_node("new"))), "step 'new' is new"),
        (replace(BEGAN, nodes=BEGAN.nodes[::-1]), "the steps come in another order: after, roll"),
        (replace(BEGAN, params={"size": 2}), "parameter size: was 1, is 2"),
        (replace(BEGAN, target="other"), "target: was db, is other"),
    ],
)
def test_each_difference_is_one_line(now: Plan, line: str) -> None:
    assert drift(BEGAN, now) == (line,)
    assert now.hash != BEGAN.hash
