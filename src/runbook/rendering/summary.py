"""The end of a run: what was done, what was not, how to check it by hand."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from runbook.model.document import visible
from runbook.rendering.consoles import notes
from runbook.rendering.consoles import results as results_console
from runbook.rendering.intentions import show_intentions
from runbook.rendering.steps import OUTCOMES

if TYPE_CHECKING:
    from rich.console import Console

    from runbook.engine.executor import RunOutcome
    from runbook.engine.outcomes import StepOutcome

#: Grows when a key changes its meaning or goes.
SCHEMA_VERSION = 1

#: Ends after which a run may be taken up again.
RESUMABLE = frozenset({"failed", "halted", "unknown", "interrupted", "waiting"})

_HEADLINES = {
    "done": ("Done.", "bold green"),
    "rehearsed": (
        "Rehearsed: everything above was looked at live; nothing was changed.",
        "bold cyan",
    ),
    "failed": ("FAILED.", "bold red"),
    "halted": ("HALTED:", "bold red"),
    "refused": ("REFUSED: nothing was changed.", "bold red"),
    "unknown": ("UNKNOWN: a person must look.", "bold red"),
    "interrupted": ("INTERRUPTED:", "bold yellow"),
    "waiting": ("WAITING", "bold yellow"),
}


def present(outcome: RunOutcome, output_format: str) -> None:
    """Write a run's outcome to stdout, as far as it can be written.

    What was done is done: a full disk or a reader that has gone must not turn it into a failure.
    """
    try:
        show_outcome(outcome, output_format)
        sys.stdout.flush()
    except (OSError, SystemExit):  # rich leaves by SystemExit on a broken pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        with suppress(OSError, SystemExit):
            notes().print(
                f"warning: the result could not be written to stdout; run {outcome.run_id} ended:"
                f" {outcome.finish.status}"
            )


def show_outcome(outcome: RunOutcome, output_format: str) -> None:
    """Write a run's outcome to stdout."""
    if output_format == "json":
        click.echo(json.dumps(as_json(outcome), indent=2))
        return
    console = results_console()
    if outcome.plan.rehearsal:
        show_intentions(outcome.plan, outcome.results, console)
        _left_out(outcome, console)
    elif outcome.finish.status != "refused":
        for step in outcome.steps:
            _step(step, outcome.results, console)
    _end(outcome, console)


def as_json(outcome: RunOutcome) -> dict[str, Any]:
    """Return a run's outcome as the documented JSON (docs/json.md)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": outcome.run_id,
        "playbook": outcome.plan.playbook,
        "target": outcome.plan.target,
        "rehearsal": outcome.plan.rehearsal,
        "plan_hash": outcome.plan.hash,
        "status": outcome.finish.status,
        "reason": outcome.finish.reason,
        "hint": outcome.finish.hint,
        "not_reached": list(outcome.finish.not_reached),
        "owed": [asdict(debt) for debt in outcome.owed],
        "steps": [
            {
                "name": step.node.name,
                "verb": step.node.verb,
                "status": step.result.status if step.result else "not_reached",
                "summary": step.result.summary if step.result else "",
                "targets": {target: asdict(r) for target, r in step.by_target.items()},
            }
            for step in outcome.steps
        ],
        "looks": {
            key: asdict(result)
            for key, result in outcome.results.items()
            if key.split("/")[1] in {"prepare", "preflight", "admit"}
        },
    }


def _step(step: StepOutcome, results: Mapping[str, Any], console: Console) -> None:
    if step.result is None:
        return
    console.print(f"\n{visible(step.node.name)}", style="bold")
    if not step.by_target:
        console.print(f"  {visible(step.result.summary)}", style="dim")
        return
    OUTCOMES.get(step.node.verb, _default)(step, results, console)


def _left_out(outcome: RunOutcome, console: Console) -> None:
    """Say which steps a rehearsal had no answer for."""
    for step in outcome.steps:
        if step.result is not None and not step.by_target:
            name, why = visible(step.node.name), visible(step.result.summary)
            console.print(f"\n{name}: {why}", style="dim")


def _default(step: StepOutcome, results: Mapping[str, Any], console: Console) -> None:  # noqa: ARG001
    for target, result in step.by_target.items():
        console.print(f"  {visible(target)}: {result.status} {visible(result.summary)}".rstrip())
        for stream in ("stdout", "stderr"):
            for line in str(result.data.get(stream, "")).splitlines():
                console.print(f"    {visible(line)}", soft_wrap=True)
        for row in result.data.get("rows", []):
            console.print(f"    {visible(json.dumps(row, default=str))}", soft_wrap=True)


def _end(outcome: RunOutcome, console: Console) -> None:
    headline, style = _HEADLINES[outcome.finish.status]
    reason = f" {visible(outcome.finish.reason)}" if outcome.finish.reason else ""
    console.print()
    console.print(headline, style=style, end="")
    console.print(reason, soft_wrap=True)
    if outcome.finish.hint:
        console.print(f" hint: {visible(outcome.finish.hint)}", soft_wrap=True)
    if outcome.finish.not_reached:
        left = ", ".join(outcome.finish.not_reached)
        console.print(f"Not touched: {left}", soft_wrap=True)
    for debt in outcome.owed:
        console.print(f"Owed: {visible(debt.what)}", style="bold", soft_wrap=True)
        for line in debt.by_hand:
            console.print(f"  {visible(line)}", soft_wrap=True)
    owed = {line for debt in outcome.owed for line in debt.by_hand}
    lines = (line for result in outcome.results.values() for line in result.by_hand)
    by_hand = [
        line for line in dict.fromkeys((*outcome.finish.by_hand, *lines)) if line not in owed
    ]
    if by_hand and not outcome.plan.rehearsal:
        console.print("By hand:" if outcome.finish.status != "done" else "To check it by hand:")
        for line in by_hand:
            console.print(f"  {visible(line)}", soft_wrap=True)
    console.print(f"Run {outcome.run_id}: `runbook runs show {outcome.run_id}`", style="dim")
    if outcome.finish.status in RESUMABLE and not outcome.plan.rehearsal:
        console.print(f"To go on with it: `runbook runs resume {outcome.run_id}`", soft_wrap=True)
