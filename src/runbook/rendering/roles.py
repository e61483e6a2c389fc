"""Roles' settings on the screen: what is proposed and why, what would change, what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runbook.model.document import visible
from runbook.model.role_guards import shown
from runbook.model.role_settings import CONNECTION_LIMIT, RESET

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from runbook.engine.outcomes import StepOutcome
    from runbook.model.plan import Node, Result


# ---- what is proposed ----------------------------------------------------------------------


def show_proposal(proposal: Mapping[str, Any], next_: str, console: Console) -> None:
    """Print each guard with its reason and its side effects, then what is left out and why."""
    chosen = {line.rpartition("=")[0]: line.rpartition("=")[2] for line in proposal["settings"]}
    for role in dict.fromkeys(guard["role"] for guard in proposal["guards"]):
        guards = [guard for guard in proposal["guards"] if guard["role"] == role]
        console.print(f"\n{visible(role)}", style="bold")
        for guard in guards:
            value = chosen.pop(f"{role}.{guard['name']}", None)
            if value is not None:
                _proposed(guard, value, console)
        left = [guard for guard in guards if guard["value"] is None]
        for guard in left:
            said = f"not {guard['name']}: {visible(guard['why'])}"
            console.print(_under(said), style="dim")
    for key, value in chosen.items():
        console.print(f"\n{visible(key)} -> {visible(value)}: as you say")
    for said in proposal["unguarded"]:
        console.print(f"\nnot guarded: {visible(said)}", soft_wrap=True)
    _ends(proposal, next_, console)


def _proposed(guard: Mapping[str, Any], value: str, console: Console) -> None:
    name, current = guard["name"], shown(guard["name"], guard["current"])
    console.print(f"  {name}: {visible(current)} -> {visible(value)}", soft_wrap=True)
    why = guard["why"] if value == guard["value"] else "as you say"
    console.print(_under(f"why: {visible(why)}", 4))
    if guard["effect"]:
        console.print(_under(f"side effect: {guard['effect']}", 4), style="dim")


def _ends(proposal: Mapping[str, Any], next_: str, console: Console) -> None:
    console.print()
    if not proposal["settings"]:
        console.print("Nothing to set: nothing was changed.")
        return
    console.print("Nothing was changed. These hold for sessions that begin after they are set.")
    console.print("Next", style="bold")
    console.print(f"  {visible(next_)}", soft_wrap=True)


# ---- the run -------------------------------------------------------------------------------


def show_intention(node: Node, looked: Mapping[str, Result], console: Console) -> None:  # noqa: ARG001
    """Print each line old -> new, with what it does to sessions."""
    for result in looked.values():
        lines = [line for line in result.data.get("lines", ()) if line["changes"]]
        if not lines:
            console.print(f"  {visible(result.summary)}")
        for line in lines:
            _line(line, console)
        same = len(result.data.get("lines", ())) - len(lines)
        if lines and same:
            console.print(f"  {same} more are so already", style="dim")
        if lines and result.data.get("as_admin"):
            console.print("  by the inventory's admin door: our own role may not alter these")
        for role, count in result.data.get("sessions", {}).items():
            if count:
                said = f"  {count} open sessions of {visible(role)} keep what they have"
                console.print(said, style="dim")


def _line(line: Mapping[str, Any], console: Console) -> None:
    key = f"{visible(line['role'])}.{line['name']}"
    before, after = _value(line, "before"), _value(line, "after")
    console.print(f"  {key}: {before} -> {after}", soft_wrap=True)
    if line["effect"]:
        console.print(_under(line["effect"], 4), style="dim")
    if line["hidden_in"]:
        where = ", ".join(visible(name) for name in line["hidden_in"])
        said = f"in the database {where} the role has another setting, which goes before this one"
        console.print(_under(said, 4), style="yellow")


def _value(line: Mapping[str, Any], when: str) -> str:
    value = line[when]
    if value is None:
        return visible(f"{RESET if when == 'after' else 'not set'} ({line['inherited']})")
    return visible(shown(line["name"], value) if line["name"] == CONNECTION_LIMIT else value)


def show_outcome(step: StepOutcome, results: Mapping[str, Any], console: Console) -> None:
    """Print what each role has now."""
    del results
    for target, result in step.by_target.items():
        console.print(f"  {visible(target)}: {result.status}")
        for line in result.data.get("changed", ()):
            key = f"{visible(line['role'])}.{line['name']}"
            said = f"    {key}: {_value(line, 'before')} -> {_value(line, 'after')}"
            console.print(said, soft_wrap=True)
        console.print(f"  {visible(result.summary)}", soft_wrap=True)
        if result.hint and not result.good:
            console.print(f"    {visible(result.hint)}", soft_wrap=True)


def _under(text: str, indent: int = 2) -> RenderableType:
    """A paragraph whose every line is indented."""
    from rich.padding import Padding
    from rich.text import Text

    return Padding(Text(text, overflow="fold"), (0, 0, 0, indent))
