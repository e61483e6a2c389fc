"""A report on a run as sections of plain blocks: what every written form of it shows, in order.

The text in blocks is raw: hosts, clients and other people's programs have written parts of it. Each
form escapes all of it by its own rules.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runbook.model.units import format_duration

if TYPE_CHECKING:
    from runbook.model.history import Asked, History, StepTold, TaskTold

#: Rows of a table or a timeline; a run over 5,000 hosts must still be a page that opens.
MOST_ROWS = 500
#: Characters of one command's output; a record that is read, not an archive.
MOST_OUTPUT = 16_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """Names and values."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows under a head; `left_out` more were not taken."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Lines:
    """One thing a line; `commands` are to be pasted, as they are."""

    lines: tuple[str, ...]
    commands: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """What a command wrote."""

    title: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One stretch of a row; start and end are shares of the run's time, 0 to 1."""

    name: str
    start: float
    end: float
    bad: bool
    said: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """One row a target, over the time of the run."""

    seconds: float
    rows: tuple[tuple[str, tuple[Bar, ...]], ...]
    left_out: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """Slots in use over the time of the run: (share of time, used), and the usable ones."""

    points: tuple[tuple[float, int], ...]
    usable: int


Block = Facts | Table | Lines | Output | Timeline | Chart


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: tuple[Block, ...]


def title(history: History) -> str:
    """Return what was run, in a line."""
    record = history.record
    kind = " (rehearsal)" if record.rehearsal else ""
    return f"{record.playbook} {record.target or ''}".strip() + kind


def verdict(history: History) -> str:
    """Return how it ended, in a line."""
    words = [history.status.replace("_", " "), history.reason]
    return ": ".join(word for word in words if word)


def sections(history: History) -> Iterator[Section]:
    """Yield the sections that have something to say."""
    for heading, blocks in (
        ("What it was", _facts(history)),
        ("What came of it", _steps(history)),
        ("Still to do", _owed(history)),
        ("Timeline", timeline(history)),
        ("Hosts", _hosts(history)),
        ("Slots in use", _slots(history)),
        ("Changes", _changes(history)),
        ("Sessions terminated", _terminated(history)),
        ("Gates", _gates(history)),
        ("Confirmations", _questions(history)),
        ("Not exercised", _not_exercised(history)),
        ("By hand", _by_hand(history)),
        ("Meanwhile", _moments(history)),
        ("Output", _outputs(history)),
    ):
        found = tuple(blocks)
        if found:
            yield Section(title=heading, blocks=found)


# ---- sections ------------------------------------------------------------------------------


def _facts(history: History) -> Iterator[Block]:
    record = history.record
    rows = [
        ("Run", record.run_id),
        ("Ended as", verdict(history)),
        ("For", record.incident or "no incident was named"),
        ("By", record.who),
        ("Began", utc(history.start)),
        ("Took", format_duration(max(0.0, history.end - history.start))),
        ("Plan", record.plan_hash),
    ]
    rows += [(f"Parameter {name}", plain(value)) for name, value in history.params.items()]
    if history.request is not None and history.request.limit:
        rows.append(("Limited to", history.request.limit))
    yield Facts(rows=tuple(rows))


def _steps(history: History) -> Iterator[Block]:
    rows = tuple(
        (step.name, step.result.status if step.result else "not reached", _seen(step))
        for step in history.steps
    )
    if rows:
        yield _table(("Step", "Outcome", "What was seen"), rows)


def _seen(step: StepTold) -> str:
    if step.result is None:
        return "the run ended before it"
    return " ".join(part for part in (step.result.summary, step.result.hint) if part)


def _owed(history: History) -> Iterator[Block]:
    for debt in history.owed:
        yield Lines(lines=(debt.what,))
        if debt.by_hand:
            yield Lines(lines=debt.by_hand, commands=True)
    unseen = [made for _, made in history.changes if made.state == "unseen"]
    if unseen:
        yield Lines(
            lines=tuple(f"asked for, and nobody saw what came of it: {m.sentence}" for m in unseen)
        )
    if history.hint and history.status not in {"done", "rehearsed"}:
        yield Lines(lines=(history.hint,))


def timeline(history: History, most: int = MOST_ROWS) -> Iterator[Timeline]:
    """Yield the timeline of a run, of at most so many targets; nothing where nothing took time."""
    seconds = history.end - history.start
    if seconds <= 0 or not history.tasks:
        return
    rows: dict[str, list[Bar]] = {}
    for task in history.tasks:
        rows.setdefault(task.target, []).extend(_bars(task, history.start, seconds))
    kept = [(target, tuple(bars)) for target, bars in rows.items()]
    yield Timeline(
        seconds=seconds,
        rows=tuple(kept[:most]),
        left_out=max(0, len(kept) - most),
    )


def _bars(task: TaskTold, start: float, seconds: float) -> Iterator[Bar]:
    for index, stage in enumerate(task.stages):
        last = index == len(task.stages) - 1
        bad = last and (task.result is None or not task.result.good)
        words = (stage.name, format_duration(max(0.0, stage.end - stage.start)), stage.text)
        yield Bar(
            name=stage.name,
            start=_share(stage.start - start, seconds),
            end=_share(stage.end - start, seconds),
            bad=bad,
            said=f"{task.target}: " + ", ".join(word for word in words if word),
        )


def _hosts(history: History) -> Iterator[Block]:
    tasks: dict[tuple[str, str], TaskTold] = {
        (task.node, task.target): task for task in history.tasks
    }
    rows = [
        _host_row(tasks.get((step.key, target)), step, target)
        for step in history.steps
        for target in dict.fromkeys((*step.planned, *step.targets))
    ]
    if len(rows) > 1 or any(step.targets for step in history.steps):
        yield _table(("Target", "Step", "Outcome", "Took", "Stages", "What was seen"), rows)


def _host_row(last: TaskTold | None, step: StepTold, target: str) -> tuple[str, ...]:
    """Say what a step came to on one target; `last` is the last task of it there."""
    result = step.targets.get(target)
    stages = [
        f"{stage.name} {format_duration(max(0.0, stage.end - stage.start))}"
        for stage in (last.stages if last else ())
    ]
    status = result.status if result else (last.status if last else "not reached")
    took = format_duration(max(0.0, last.end - last.start)) if last else ""
    return (target, step.name, status, took, ", ".join(stages), result.summary if result else "")


def _slots(history: History) -> Iterator[Block]:
    found = history.slots
    if not found:
        return
    seconds = max(history.end - history.start, 0.001)
    points = tuple((_share(each.at - history.start, seconds), each.used) for each in found)
    yield Chart(points=points, usable=max(each.usable for each in found))
    during = max(found, key=lambda each: each.used)
    yield Facts(
        rows=(
            ("Before", f"{found[0].used} of {found[0].usable} ({found[0].when})"),
            ("Most meanwhile", f"{during.used} of {during.usable} ({during.when})"),
            ("After", f"{found[-1].used} of {found[-1].usable} ({found[-1].when})"),
        )
    )


_STATES = {"made": "made", "unseen": "asked for; its end was not seen", "assumed": "only shown"}


def _changes(history: History) -> Iterator[Block]:
    rows = [
        (
            clock(made.at),
            made.sentence,
            _STATES[made.state],
            format_duration(made.seconds) if made.seconds is not None else "",
        )
        for _, made in history.changes
    ]
    if rows:
        yield _table(("UTC", "Change", "State", "Took"), rows)


def _terminated(history: History) -> Iterator[Block]:
    if history.terminated:
        yield Facts(
            rows=tuple(
                (database, f"{len(pids)}: {', '.join(map(str, pids))}")
                for database, pids in history.terminated.items()
            )
        )


def _gates(history: History) -> Iterator[Block]:
    rows = [
        (
            task.target,
            task.phase,
            str(gate.get("asked", "")),
            "well" if gate.get("good") else "not well",
            str(gate.get("answer", "")),
        )
        for task in history.tasks
        for gate in task.gates
    ]
    if rows:
        yield _table(("Target", "Asked in", "Gate", "Answered", "Answer"), rows)


def _questions(history: History) -> Iterator[Block]:
    rows = [
        (
            clock(asked.at),
            asked.prompt or f"{len(asked.touches)} changes",
            asked.hash,
            _answer(asked),
        )
        for asked in history.questions
    ]
    if rows:
        yield _table(("UTC", "Asked", "Binds to", "Answer"), rows)


def _answer(asked: Asked) -> str:
    if asked.yes is None:
        return "none yet"
    at = f" at {clock(asked.answered_at)}" if asked.answered_at is not None else ""
    said = f": {asked.comment}" if asked.comment else ""
    return f"{'yes' if asked.yes else 'no'}, by {asked.by}{at}{said}"


def _not_exercised(history: History) -> Iterator[Block]:
    skipped = [
        f"{step.name}: {step.result.summary or 'it hangs on a change that was only assumed'}"
        for step in history.steps
        if step.result is not None and step.result.status == "not_exercised"
    ]
    lines = (*history.not_exercised, *skipped)
    if lines:
        yield Lines(lines=lines)


def _by_hand(history: History) -> Iterator[Block]:
    run_id = history.record.run_id
    own = (f"runbook runs show {run_id}", f"runbook runs verify {run_id}")
    yield Lines(lines=(*history.by_hand[:MOST_ROWS], *own), commands=True)


def _moments(history: History) -> Iterator[Block]:
    rows = [(clock(moment.at), moment.text) for moment in history.moments]
    if rows:
        yield _table(("UTC", "What"), rows)


def _outputs(history: History) -> Iterator[Block]:
    for task in history.tasks[:MOST_ROWS]:
        data: Mapping[str, Any] = task.result.data if task.result is not None else {}
        for stream in ("stdout", "stderr"):
            text = data.get(stream)
            if isinstance(text, str) and text.strip():
                cut = "" if len(text) <= MOST_OUTPUT else "\n… cut off here"
                name = f"{task.key}: {stream}"
                yield Output(title=name, text=text[:MOST_OUTPUT].rstrip("\n") + cut)


# ---- words ---------------------------------------------------------------------------------


def utc(at: float) -> str:
    """Return a date and time that everybody who reads it understands alike."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def clock(at: float) -> str:
    """Return the time of day, in UTC."""
    return time.strftime("%H:%M:%S", time.gmtime(at))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    known = tuple(rows)
    left_out = max(0, len(known) - MOST_ROWS)
    return Table(head=head, rows=known[:MOST_ROWS], left_out=left_out)


def _share(part: float, whole: float) -> float:
    return min(1.0, max(0.0, part / whole))


def plain(value: Any) -> str:
    """Return a parameter's value as a person would write it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
