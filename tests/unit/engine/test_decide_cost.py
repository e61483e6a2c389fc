"""`decide` over a whole run is linear in hosts: counted in lines of its code, not in seconds."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from runbook.engine.asking import confirmed_by
from runbook.engine.book import Ledger
from runbook.engine.decide import decide
from runbook.model.plan import Confirm, Finish, Perform, Plan
from unit.engine.plans import plan, result, rolling_node, single_node
from unit.engine.scenes import scripted


def lines_of_a_run(made: Plan) -> int:
    """Play a plan in which all goes well; return how many lines of the engine it took to decide."""
    results, answers, counted = Ledger(), dict[str, bool](), 0
    confirmed: frozenset[str] = frozenset()

    def trace(frame: FrameType, what: str, _: Any) -> Any:
        nonlocal counted
        counted += what == "line" and "/runbook/engine/" in frame.f_code.co_filename
        return trace

    world = scripted()
    while True:
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            command = decide(made, results, answers, confirmed=confirmed)
        finally:
            sys.settrace(before)
        match command:
            case Perform(tasks=tasks):
                results |= {task.key: world(task) for task in tasks}
            case Confirm(key=key) as confirm:
                answers[key] = True
                confirmed |= confirmed_by(confirm, yes=True)
            case Finish(status=status):
                assert status == "done"
                return counted


def one_by_one(hosts: int) -> Plan:
    """A rolling restart in batches of one."""
    return plan(rolling_node(hosts, (1,) * hosts), single_node("verify"))


def in_quarters(hosts: int) -> Plan:
    """A canary, then quarters; each goes out twenty at once."""
    quarter = hosts // 4
    return plan(rolling_node(hosts, (1, quarter, quarter, quarter, hosts - 1 - 3 * quarter)))


def on_each_host(hosts: int) -> Plan:
    """One change on every host."""
    return plan(single_node("x", changes=True, targets=tuple(f"h{i}" for i in range(hosts))))


def for_each(items: int) -> Plan:
    """A loop of changes."""
    nodes = (
        single_node(f"l[{i}]", changes=True, loop="l", item=i, when="item >= 0")
        for i in range(items)
    )
    return plan(*nodes)


@pytest.mark.parametrize("shape", [one_by_one, in_quarters, on_each_host, for_each])
def test_four_times_the_hosts_cost_four_times_the_work(shape: Any) -> None:
    small, large = lines_of_a_run(shape(100)), lines_of_a_run(shape(400))
    # Quadratic work would be 16 times as much; what is there once makes it a little less than 4.
    assert large < 4.5 * small


def test_a_ledger_that_is_told_otherwise_begins_anew() -> None:
    made, world = plan(single_node("a"), single_node("b")), scripted()
    results = Ledger()
    first = decide(made, results, {})
    assert isinstance(first, Perform)
    key = first.tasks[0].key
    results |= {key: world(first.tasks[0])}
    assert isinstance(decide(made, results, {}), Perform)
    results |= {key: result("failed")}
    assert decide(made, results, {}) == decide(made, dict(results), {})
    assert isinstance(decide(made, results, {}), Finish)
