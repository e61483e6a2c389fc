"""How `file` and `notify` look: the diff that would be made, the words that would go out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runbook.model.document import visible

if TYPE_CHECKING:
    from rich.console import Console

    from runbook.engine.outcomes import StepOutcome
    from runbook.model.plan import Node, Result


def show_files(node: Node, looked: Mapping[str, Result], console: Console) -> None:  # noqa: ARG001
    """Print what would be written where; the same diff on several hosts is printed once."""
    hosts: dict[str, list[str]] = {}
    for target, result in looked.items():
        for line in result.touches:
            console.print(f"  {visible(line)}", soft_wrap=True)
        if not result.touches:
            console.print(f"  {visible(target)}: {visible(result.summary)}", soft_wrap=True)
        hosts.setdefault(str(result.data.get("diff", "")), []).append(target)
    for diff, same in hosts.items():
        if diff:
            console.print(f"  on {visible(_briefly(same))}:", style="dim")
            _diff(diff, console)


def show_files_written(step: StepOutcome, results: Mapping[str, Any], console: Console) -> None:
    """Print what was written, and where the old content is."""
    del results
    for target, result in step.by_target.items():
        said = f"{visible(target)}: {result.status} {visible(result.summary)}"
        backup = result.data.get("backup")
        kept = f"; what it was: {visible(str(backup))}" if backup else ""
        console.print(f"  {said}{kept}", soft_wrap=True)
        if result.hint and not result.good:
            console.print(f"    {visible(result.hint)}", soft_wrap=True)


def show_messages(node: Node, looked: Mapping[str, Result], console: Console) -> None:  # noqa: ARG001
    """Print who would be told, and what."""
    for result in looked.values():
        for line in result.touches:
            console.print(f"  {visible(line)}", soft_wrap=True)
        for line in str(result.data.get("message", "")).splitlines():
            console.print(f"    {visible(line)}", soft_wrap=True)


def _diff(text: str, console: Console) -> None:
    for line in text.splitlines():
        console.print(f"    {visible(line)}", style=_STYLES.get(line[:1], ""), soft_wrap=True)


#: What comes is green and what goes is red; the signs alone say it as well.
_STYLES = {"+": "green", "-": "red", "@": "dim"}


def _briefly(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
