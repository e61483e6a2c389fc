"""What a run would touch, before it is confirmed: the very sessions, units and commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from runbook.engine.outcomes import first_phase, target_results
from runbook.model.document import visible
from runbook.rendering.steps import INTENTIONS

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from runbook.model.plan import Node, Plan, Result

#: Draws what one step would do, from what its looks found.
Intention = Callable[["Node", Mapping[str, "Result"], "Console"], None]


def show_intentions(plan: Plan, results: Mapping[str, Result], console: Console) -> None:
    """Print what every changing step of a plan would touch."""
    for node in plan.nodes:
        looked = target_results(node, first_phase(node), results)
        if not node.changes or not looked or not any(r.good for r in looked.values()):
            continue
        condition = f"  (only if {node.when})" if node.when else ""
        console.print(f"\nWould: {visible(node.name)}{condition}", style="bold", markup=False)
        INTENTIONS.get(node.verb, _lines)(node, looked, console)
        untried = dict.fromkeys(line for r in looked.values() for line in r.not_exercised)
        if untried:
            console.print("NOT exercised by looking:", style="dim")
            for line in untried:
                console.print(_item(line), style="dim")


def _item(line: str) -> RenderableType:
    """A list item whose further lines are indented under its first."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    grid.add_row("-", Text(visible(line), overflow="fold"))
    return Padding(grid, (0, 0, 0, 2))


def _lines(node: Node, looked: Mapping[str, Result], console: Console) -> None:  # noqa: ARG001
    for result in looked.values():
        for line in result.touches:
            console.print(f"  {visible(line)}")
        if not result.touches:
            console.print(f"  {visible(result.summary or 'nothing')}")
