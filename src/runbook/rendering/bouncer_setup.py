"""A PgBouncer that is to be set up, on the screen: its sizes and why, what its mode would break."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from runbook.model.document import visible

if TYPE_CHECKING:
    from rich.console import Console

    from runbook.model.plan import Node, Result


def show_intention(node: Node, looked: Mapping[str, Result], console: Console) -> None:  # noqa: ARG001
    """Print what it will be, the arithmetic, the evidence against its mode, and what is touched."""
    for result in looked.values():
        data = result.data
        console.print(f"  {visible(result.summary)}", soft_wrap=True, markup=False)
        if not result.touches:
            continue
        for name, why in data.get("because", {}).items():
            console.print(f"  {_OF[name]}: {visible(why)}", style="dim", markup=False)
        names = ", ".join(data.get("databases", ()))
        why = data.get("databases_why", "")
        console.print(f"  databases: {visible(names)} ({visible(why)})", style="dim", markup=False)
        mode = data.get("mode", {})
        console.print(f"  mode: {visible(mode.get('verdict', ''))}", style="dim", markup=False)
        for line in data.get("breaks", ()):
            console.print(f"  would break: {visible(line)}", style="red", markup=False)
        for line in (*data.get("warnings", ()), *data.get("unknown", ())):
            console.print(f"  warning  {visible(line)}", style="yellow", markup=False)
        for line in result.touches:
            console.print(f"  {visible(line)}", markup=False)


_OF = {"pool": "pool size", "clients": "clients"}
