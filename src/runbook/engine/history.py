"""Reads what happened in a run from its journal alone, for every report of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runbook.engine.book import Ledger
from runbook.engine.decide import why_not_run
from runbook.engine.outcomes import step_outcomes
from runbook.engine.resume import expiry, open_obligations, result_from_json
from runbook.model.events import Event
from runbook.model.history import (
    Asked,
    History,
    Made,
    Moment,
    Slots,
    Stage,
    StepTold,
    TaskTold,
    listed,
)
from runbook.model.plan import Plan, Result, plan_from_json
from runbook.model.ports import KeptRun


def history_of(kept: KeptRun) -> History:
    """Return what happened in a run."""
    plan = plan_from_json(kept.plan)
    tasks = _tasks(kept.events)
    results = {key: task.result for key, task in tasks.items() if task.result is not None}
    ended = next((e for e in reversed(kept.events) if e.kind == "finished"), None)
    over = kept.record.ended_at is not None or kept.record.status == "waiting"
    # A clock that was set back must not let a run end before it began.
    last = max((event.at for event in kept.events), default=kept.record.started_at)
    all_results = tuple(results.values())
    return History(
        record=kept.record,
        request=kept.request,
        params={key: value for key, value in plan.params.items() if value is not None},
        status=kept.record.status if over else "no end",
        reason=str(ended.data.get("reason", "")) if ended else "",
        hint=str(ended.data.get("hint", "")) if ended else "",
        start=kept.record.started_at,
        end=max(last, kept.record.ended_at or last, kept.record.started_at),
        steps=_steps(plan, results, over=over),
        tasks=tuple(tasks.values()),
        questions=_questions(kept.events),
        moments=tuple(_moments(kept.events)),
        slots=_slots(tasks.values()),
        terminated=_terminated(tasks.values()),
        owed=open_obligations(kept.events),
        not_exercised=_lines(r.not_exercised for r in all_results) if kept.record.rehearsal else (),
        by_hand=_lines(r.by_hand for r in all_results),
        changing=any(node.changes for node in plan.nodes),
        ends=_ends(kept),
        begun=sum(event.kind in {"planned", "resumed"} for event in kept.events),
    )


def _ends(kept: KeptRun) -> int:
    """Count ends: a run that was halted and resumed has several, one that was refused no event."""
    said = [e.data.get("status") for e in kept.events if e.kind == "finished"]
    ended = len([status for status in said if status != "waiting"])
    return max(ended, int(kept.record.ended_at is not None))


# ---- tasks ---------------------------------------------------------------------------------


def _tasks(events: Sequence[Event]) -> dict[str, TaskTold]:
    told: dict[str, TaskTold] = {}
    for event in events:
        if event.task is None:
            continue
        if event.kind == "task_started" and event.task not in told:
            told[event.task] = _begun(event)
        task = told.get(event.task)
        if task is not None:
            _follow(task, event)
    return told


def _begun(event: Event) -> TaskTold:
    key, phase = str(event.task), str(event.data.get("phase", ""))
    return TaskTold(
        key=key,
        node=key.partition(f"/{phase}/")[0],
        phase=phase,
        target=str(event.data.get("target", "")),
        start=event.at,
        end=event.at,
    )


def _follow(task: TaskTold, event: Event) -> None:
    # A clock that was set back must not turn a bar around.
    task.end = max(task.end, event.at)
    data = event.data
    match event.kind:
        case "said":
            _say(task, event)
        case "intended":
            task.changes.append(Made(sentence=data["sentence"], at=event.at, state="unseen"))
        case "assumed":
            task.changes.append(Made(sentence=data["sentence"], at=event.at, state="assumed"))
        case "changed":
            _seen(task, data)
        case "task_finished":
            task.result = result_from_json(data["result"])
            _close(task, task.end)
        case _:
            _close(task, task.end, last_only=True)


def _say(task: TaskTold, event: Event) -> None:
    stage, text = str(event.data.get("stage", "")), str(event.data.get("text", ""))
    last = task.stages[-1] if task.stages else None
    _close(task, task.end)
    if last is not None and last.name == stage:
        task.stages[-1] = Stage(name=stage, start=last.start, end=task.end, text=text)
    else:
        start = task.end if last else task.start
        task.stages.append(Stage(name=stage, start=start, end=task.end, text=text))


def _close(task: TaskTold, at: float, *, last_only: bool = False) -> None:
    """Let the last stage go on until now; a task that said nothing has one stage, its phase."""
    if task.stages:
        last = task.stages[-1]
        task.stages[-1] = Stage(name=last.name, start=last.start, end=at, text=last.text)
    elif not last_only and task.result is not None:
        task.stages.append(Stage(name=task.phase, start=task.start, end=at))


def _seen(task: TaskTold, data: Mapping[str, Any]) -> None:
    open_ = [each for each in task.changes if each.state == "unseen"]
    same = [each for each in open_ if each.sentence == data.get("sentence")]
    if same:
        same[0].state, same[0].seconds = "made", data.get("seconds")


# ---- the whole -----------------------------------------------------------------------------


def _steps(plan: Plan, results: Mapping[str, Result], *, over: bool) -> tuple[StepTold, ...]:
    ledger = Ledger(results)
    return tuple(
        StepTold(
            key=outcome.node.key,
            name=outcome.node.name,
            verb=outcome.node.verb,
            result=outcome.result or (why_not_run(plan, outcome.node, ledger) if over else None),
            targets=outcome.by_target,
            planned=outcome.node.targets,
        )
        for outcome in step_outcomes(plan, ledger)
    )


def _questions(events: Sequence[Event]) -> tuple[Asked, ...]:
    asked: list[Asked] = []
    for event in events:
        data = event.data
        if event.kind == "asked":
            asked.append(
                Asked(
                    kind=str(data.get("kind", "plan")),
                    prompt=str(data.get("prompt", "")),
                    touches=tuple(data.get("touches", ())),
                    hash=str(data.get("hash", "")),
                    at=event.at,
                    key=str(data.get("key", "")),
                    may=tuple(map(str, data.get("by") or ())),
                    until=expiry(event),
                )
            )
        elif event.kind == "answered":
            open_ = [each for each in asked if each.hash == data.get("hash") and each.yes is None]
            for each in open_[-1:]:
                each.yes, each.by = bool(data.get("yes")), str(data.get("by", ""))
                each.answered_at, each.comment = event.at, str(data.get("comment", ""))
    return tuple(asked)


def _moments(events: Sequence[Event]) -> Iterator[Moment]:
    owed: set[object] = set()
    for event in events:
        data = event.data
        match event.kind:
            case "interrupted":
                yield Moment(at=event.at, text=f"asked to stop, by {data.get('by')}")
            case "noted" if event.task is None:
                yield Moment(at=event.at, text=f"{data.get('what')}, says {data.get('by')}")
            case "resumed":
                yield Moment(at=event.at, text=f"taken up again, by {data.get('by')}")
            case "locked" if data.get("how") != "taken":
                yield Moment(at=event.at, text=f"lock {data.get('lock')}: {data.get('how')}")
            case "owed" if data.get("key") not in owed:
                owed.add(data.get("key"))
                yield Moment(at=event.at, text=f"owed from here on: {data.get('what')}")
            case "paid":
                owed.discard(data.get("key"))
                yield Moment(at=event.at, text=f"owed no longer: {data.get('key')}")


#: Where results keep what a server said of its slots, and when in the task that was.
_SLOTS = (("database", "start"), ("slots_before", "start"), ("before", "start"))
_SLOTS_AFTER = (("slots", "end"), ("after", "end"))


def _slots(tasks: Any) -> tuple[Slots, ...]:
    """Return every count of a server's slots, in time; the same moment once."""
    found = [each for task in tasks if task.result is not None for each in _counts(task)]
    ordered = sorted(found, key=lambda each: each.at)
    return tuple(dict.fromkeys(ordered))


def _counts(task: TaskTold) -> Iterator[Slots]:
    data = task.result.data if task.result is not None else {}
    for key, moment in (*_SLOTS, *_SLOTS_AFTER):
        row = data.get(key)
        if isinstance(row, Mapping) and _counted(row):
            at = task.start if moment == "start" else task.end
            word = "before" if moment == "start" else "after"
            when = f"{word} {task.phase} {task.target}".strip()
            yield Slots(at=at, used=row["used"], usable=row["usable"], when=when)
    if _counted(data):
        when = f"{task.phase} {task.target}".strip()
        yield Slots(at=task.end, used=data["used"], usable=data["usable"], when=when)


def _counted(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("used"), int) and isinstance(row.get("usable"), int)


def _terminated(tasks: Any) -> dict[str, tuple[int, ...]]:
    gone: dict[str, tuple[int, ...]] = {}
    for task in tasks:
        pids = task.result.data.get("terminated") if task.result is not None else None
        known = tuple(each for each in listed(pids) if isinstance(each, int))
        if known:
            gone[task.target] = (*gone.get(task.target, ()), *known)
    return gone


def _lines(groups: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(line for group in groups for line in group))
