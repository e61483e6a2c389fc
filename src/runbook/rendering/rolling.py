"""A rolling restart on the screen: the batches before, the table of hosts after."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from runbook.model.document import visible
from runbook.model.units import format_duration

if TYPE_CHECKING:
    from rich.console import Console

    from runbook.engine.outcomes import StepOutcome
    from runbook.model.plan import Node, Result

_STYLES = {"ok": "green", "rehearsed": "cyan", "not reached": "dim"}


def show_intention(node: Node, looked: Mapping[str, Result], console: Console) -> None:
    """Print the batches, with each host's command and how it is now."""
    hosts = sorted(
        (t for t in node.targets if t in looked and looked[t].good),
        key=lambda target: bool(looked[target].data.get("healthy", True)),
    )
    count = "1 host" if len(hosts) == 1 else f"{len(hosts)} hosts"
    console.print(
        f"  {count} in {_batches(node.batches, len(hosts))};"
        f" at least {node.min_available} stay healthy; halts when more than"
        f" {node.max_failures} fail, and at once when the first does"
    )
    ordered = iter(hosts)
    for number, size in enumerate(node.batches, start=1):
        for target in islice(ordered, size):
            result = looked[target]
            for line in _commands(number, target, result):
                console.print(line, soft_wrap=True)
    for target in node.targets:
        if target in looked and not looked[target].good:
            console.print(f"  left out  {target}: {visible(looked[target].summary)}", style="red")
    for warning, hosts_of in _warnings(node, looked).items():
        console.print(f"  warning  {', '.join(hosts_of)}: {visible(warning)}", style="yellow")


def _commands(number: int, target: str, result: Result) -> list[str]:
    """Return one host's commands, in the order in which they would be given."""
    state = "healthy" if result.data.get("healthy", True) else "DOWN already"
    if result.data.get("away"):
        state = "OUT OF ROTATION already"
    lines = [visible(line) for line in result.touches]
    if len(lines) == 1:
        return [f"  batch {number}  {lines[0]}  ({state})"]
    return [f"  batch {number}  {visible(target)}  ({state})", *(f"    {line}" for line in lines)]


def _warnings(node: Node, looked: Mapping[str, Result]) -> dict[str, list[str]]:
    """Return each warning once, with the hosts that it is about."""
    warnings: dict[str, list[str]] = {}
    for target in node.targets:
        for warning in looked[target].data.get("warnings", ()) if target in looked else ():
            warnings.setdefault(str(warning), []).append(target)
    return warnings


def _batches(sizes: tuple[int, ...], hosts: int) -> str:
    left, told = hosts, []
    for size in sizes:
        if left <= 0:
            break
        told.append(str(min(size, left)))
        left -= size
    word = "batch" if len(told) == 1 else "batches"
    return f"{len(told)} {word} of {', '.join(told)}"


def show_outcome(step: StepOutcome, results: Mapping[str, Any], console: Console) -> None:  # noqa: ARG001
    """Print one line a host, and the database's slots before and after."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2), show_edge=False)
    for column in ("host", "outcome", "took", "what was seen"):
        table.add_column(column, overflow="fold")
    for target in step.node.targets:
        result = step.by_target.get(target)
        status = result.status if result else "not reached"
        seconds = result.data.get("seconds") if result else None
        table.add_row(
            Text(target),
            Text(status, style=_STYLES.get(status, "bold red")),
            Text(format_duration(seconds) if seconds is not None else ""),
            Text(visible(result.summary) if result else "nothing was done there"),
        )
    console.print(table)
    before, after = _slots(step, "slots_before", 0), _slots(step, "slots", -1)
    if before and after:
        console.print(f"slots in use: {before} before the first host, {after} after the last")


def _slots(step: StepOutcome, key: str, which: int) -> str | None:
    """Return `25 of 37` from the first or last host that knows, in the order of the restarts."""
    known = [r.data[key] for r in step.by_target.values() if r.data.get(key)]
    return f"{known[which]['used']} of {known[which]['usable']}" if known else None
