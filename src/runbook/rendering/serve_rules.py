"""The rules of `serve` as a table for people: which alert leads to which run, on what, how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from runbook.model.serve_config import FromAlert, Rule, ServeConfig
from runbook.model.units import format_duration
from runbook.rendering.safe import safe

if TYPE_CHECKING:
    from rich.console import Console


def render(config: ServeConfig, console: Console) -> None:
    """Print the rules, in the order in which they are tried."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("rule", "hook", "when", "run", "on", "how"):
        table.add_column(heading, overflow="fold")
    for rule in config.rules:
        table.add_row(
            rule.name, _one(rule.hook), _when(rule), safe(rule.run), _target(rule), _how(rule)
        )
    console.print(table)


def _one(value: str | tuple[str, ...] | None) -> str:
    return safe(" or ".join((value,) if isinstance(value, str) else value or ()))


def _when(rule: Rule) -> str:
    when = rule.when
    named = {
        "service": when.service,
        "priority": when.priority,
        "urgency": when.urgency,
        "by": when.by,
        **when.labels,
    }
    said = [_one(when.event)] if when.event else []
    said += [f"{safe(name)}={_one(value)}" for name, value in named.items() if value is not None]
    return ", ".join(said) or "anything"


def _target(rule: Rule) -> str:
    if isinstance(rule.target, FromAlert):
        return f"{rule.target.of} in label {safe(rule.target.label)}"
    return rule.target or "-"


def _how(rule: Rule) -> str:
    if rule.mode == "rehearse":
        return "rehearsal"
    if rule.approval == "none":
        return "for real, nobody is asked"
    who = " or ".join(rule.approval.by) or "an approver"
    return f"for real, once {safe(who)} has approved within {format_duration(rule.approval.within)}"
