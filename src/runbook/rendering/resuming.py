"""What is known of a run that is taken up again: done, in doubt, owed, still to do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runbook.engine.outcomes import main_phase
from runbook.model.document import visible

if TYPE_CHECKING:
    from rich.console import Console

    from runbook.engine.resume import Doubt, TakenUp
    from runbook.model.plan import Node, Plan
    from runbook.model.ports import KeptRun

#: Names that a tired eye takes in; the rest are counted.
_NAMED = 8


def show_known(
    kept: KeptRun,
    plan: Plan,
    known: TakenUp,
    settled: tuple[str, ...],
    standing: str,
    console: Console,
) -> None:
    """Print how a run stands, and what a resume will look at first."""
    record = kept.record
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.started_at))
    target = f" {record.target}" if record.target else ""
    headline = f"Run {record.run_id}: {record.playbook}{target}, since {since}: {standing}"
    console.print(visible(headline), style="bold", soft_wrap=True, markup=False)
    for line in (*_steps(plan, known), *_doubts(known, settled), *_debts(known)):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _steps(plan: Plan, known: TakenUp) -> Iterator[str]:
    for node in plan.nodes:
        yield from _step(node, known)


def _step(node: Node, known: TakenUp) -> Iterator[str]:
    phase = main_phase(node)
    keys = {target: f"{node.key}/{phase}/{target}" for target in node.targets}
    done = [t for t, key in keys.items() if key in known.results and known.results[key].good]
    looked_at = [t for t, key in keys.items() if key in known.crashed]
    left = [t for t, key in keys.items() if key not in known.results and t not in looked_at]
    if done:
        yield f"  done         {visible(node.name)}: {_some(done)}"
    if looked_at:
        yield f"  look first   {visible(node.name)}: {_some(looked_at)}"
    if left and node.role == "main":
        yield f"  still to do  {visible(node.name)}: {_some(left)}"


def _doubts(known: TakenUp, settled: tuple[str, ...]) -> Iterator[str]:
    """What only a person can say; one whose task the command line settles is a doubt no more."""
    for doubt in known.doubts:
        if doubt.key in settled:
            continue
        yield f"  IN DOUBT     {visible(doubt.what)}"
        yield f"               {_ended(doubt)}; look there, then say which:"
        yield f"               --done {visible(doubt.key)}    it was done"
        yield f"               --again {visible(doubt.key)}   do it again"


def _ended(doubt: Doubt) -> str:
    if doubt.after:
        return f"it ended well; then {visible(doubt.after)} ran, which may have undone it"
    if doubt.result is None:
        return "asked for, and nobody saw what came of it"
    return f"it ended as {doubt.result.status}: {visible(doubt.result.summary)}"


def _debts(known: TakenUp) -> Iterator[str]:
    for debt in known.owed:
        when = "its restart is looked at first" if debt.data.get("under_way") else "settled first"
        yield f"  owed         {visible(debt.what)} ({when})"
        yield from (f"               by hand: {visible(line)}" for line in debt.by_hand)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return visible(", ".join(names[:_NAMED]) + more)
