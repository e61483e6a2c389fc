"""Where each host of a run is: by step and by batch, with the stage that it is in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook.engine.book import main_phase
from runbook.model.units import format_duration

if TYPE_CHECKING:
    from runbook.model.history import History, TaskTold
    from runbook.model.plan import Node, Plan
    from runbook.serve.pages.standing import Tone

#: Hosts that a page shows of one step; a run over 5,000 must still be a page that opens.
_MOST = 300

_WORDS = {"ok": "done", "rehearsed": "shown", "not_exercised": "not exercised"}


@dataclass(frozen=True, kw_only=True, slots=True)
class HostRow:
    """One host in one step."""

    name: str
    state: str
    tone: Tone
    said: str
    took: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Hosts that are worked on together."""

    label: str
    rows: tuple[HostRow, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class HostStep:
    """One step of the plan, and its hosts."""

    name: str
    done: int
    hosts: int
    batches: tuple[Batch, ...]
    left_out: int


def host_steps(plan: Plan, history: History, *, alive: bool) -> tuple[HostStep, ...]:
    """Return the steps that have hosts."""
    tasks: dict[tuple[str, str], list[TaskTold]] = {}
    for task in history.tasks:
        tasks.setdefault((task.node, task.target), []).append(task)
    over = history.record.ended_at is not None
    steps = []
    for node in plan.nodes:
        if node.target_kind != "host" or not node.targets:
            continue
        rows = {
            target: _row(node, target, tasks.get((node.key, target), []), alive=alive, over=over)
            for target in node.targets
        }
        steps.append(
            HostStep(
                name=node.name,
                done=sum(row.tone == "good" for row in rows.values()),
                hosts=len(rows),
                batches=tuple(_batches(node, rows)),
                left_out=max(0, len(rows) - _MOST),
            )
        )
    return tuple(steps)


def _batches(node: Node, rows: dict[str, HostRow]) -> Iterator[Batch]:
    shown = list(node.targets[:_MOST])
    if node.flow != "rolling" or not node.batches:
        yield Batch(label="", rows=tuple(rows[target] for target in shown))
        return
    start = 0
    for number, size in enumerate(node.batches, start=1):
        batch = shown[start : start + size]
        start += size
        if batch:
            label = f"Batch {number} of {len(node.batches)}"
            yield Batch(label=label, rows=tuple(rows[target] for target in batch))


def _row(node: Node, target: str, tasks: list[TaskTold], *, alive: bool, over: bool) -> HostRow:
    main = [task for task in tasks if task.phase == main_phase(node)]
    if not main:
        return _not_yet(target, tasks, alive=alive, over=over)
    last = main[-1]
    took = format_duration(max(0.0, last.end - last.start))
    if last.result is not None:
        word = _WORDS.get(last.result.status, last.result.status)
        tone: Tone = "good" if last.result.good else "bad"
        return HostRow(name=target, state=word, tone=tone, said=last.result.summary, took=took)
    stage = last.stages[-1] if last.stages else None
    said = stage.text if stage else ""
    if not alive:
        return HostRow(name=target, state="its end was not seen", tone="bad", said=said, took=took)
    state = (stage.name if stage else last.phase).replace("_", " ")
    return HostRow(name=target, state=state, tone="go", said=said, took="")


def _not_yet(target: str, tasks: list[TaskTold], *, alive: bool, over: bool) -> HostRow:
    """Return a host that the step proper has not come to; it may have been looked at."""
    last = tasks[-1] if tasks else None
    result = last.result if last else None
    if result is not None and not result.good:
        return HostRow(name=target, state=result.status, tone="bad", said=result.summary, took="")
    said = result.summary if result else ""
    if last is not None and result is None and alive:
        return HostRow(name=target, state="looked at now", tone="go", said="", took="")
    return HostRow(
        name=target, state="not reached" if over else "to come", tone="quiet", said=said, took=""
    )
