"""The words of a run that goes on: plain text, bounded, the first line fit for a phone."""

from __future__ import annotations

from collections.abc import Iterator

from runbook.model.history import Asked, History, TaskTold
from runbook.model.times import utc
from runbook.telling.case import Case
from runbook.telling.text import cut, listing, plain

#: Characters of a first line: what a phone's notification shows of it.
HEADLINE = 120
#: Characters of a note. PagerDuty takes 65,535; nobody reads them at 2:17.
NOTE = 3_900
#: Lines of a list within a note; the report has all of them.
CHANGES, _TARGETS = 8, 12

#: Why nobody is asked any more.
ANSWERED = "it was answered, or expired, before it could be told"

#: How a run's end is called.
ENDED = {
    "done": "Done",
    "rehearsed": "Rehearsed",
    "failed": "FAILED",
    "halted": "HALTED",
    "refused": "REFUSED",
    "unknown": "UNKNOWN, a person must look",
    "interrupted": "INTERRUPTED",
}


def marker(run_id: str, key: str) -> str:
    """Return the last line of a note, by which it is found again."""
    return f"runbook {run_id}/{key}"


def note(case: Case, key: str, lines: list[str]) -> str:
    """Return a note: its lines as far as they fit, and its marker."""
    last = marker(case.run_id, key)
    return f"{cut(chr(10).join(lines), NOTE - len(last) - 1)}\n{last}"


def what(history: History) -> str:
    """Return what is run, on what: `rolling-restart of shop`."""
    record = history.record
    of = f" of {plain(record.target, 60)}" if record.target else ""
    return f"{plain(record.playbook, 60)}{of}"


# ---- while it goes on ----------------------------------------------------------------------


def begun(case: Case) -> list[str]:
    """Return the lines of the first note."""
    return [
        cut(f"runbook has begun: {what(case.history)}{_kind(case.history)}", HEADLINE),
        _by(case.history),
        *_follow(case),
    ]


def going_on(case: Case) -> list[str]:
    """Return the lines of the first note as it is updated."""
    history = case.history
    if case.over:
        ended = ENDED.get(history.status, history.status)
        head = f"runbook has ended: {ended}: {what(history)}. The result is a note of its own."
    elif case.lost:
        head = f"runbook LOST ITS PROCESS: {what(history)}. What to do is a note of its own."
    elif history.status == "waiting":
        head = f"runbook waits for an answer: {what(history)}{_kind(history)}"
    else:
        head = f"runbook is at work: {what(history)}{_kind(history)}"
    lines = [f"{target}: {said}" for target, said in _targets(history)]
    return [
        cut(head, HEADLINE),
        _by(history),
        *listing(lines, _TARGETS),
        *(plain(moment.text) for moment in history.moments[-3:]),
        *_follow(case),
    ]


def stages(history: History) -> list[list[str]]:
    """Return where each target is: what changes here is worth an update at once."""
    last = {task.target: task for task in history.tasks}
    return [
        [plain(target, 100), task.phase, task.stages[-1].name if task.stages else "", task.status]
        for target, task in last.items()
    ]


def waiting(case: Case, asked: Asked) -> list[str]:
    """Return the lines of the note that asks somebody to answer."""
    count = len(asked.touches)
    changes = f"{count} change{'' if count == 1 else 's'}"
    link = case.link
    who = ", ".join(plain(name, 60) for name in asked.may) or "any approver"
    until = f", until {utc(asked.until)}" if asked.until is not None else ""
    return [
        cut(f"runbook waits for approval: {what(case.history)}, {changes}", HEADLINE),
        *([plain(asked.prompt)] if asked.prompt else []),
        *(["It would touch:"] if count else []),
        *listing([plain(line) for line in asked.touches], CHANGES),
        f"To be answered by {who}{until}.",
        *([f"Approve or deny: {link}"] if link else []),
        f"Or: runbook runs approve {case.run_id} --hash {asked.hash}",
        f"To say no: runbook runs approve {case.run_id} --deny --hash {asked.hash}",
    ]


def _kind(history: History) -> str:
    if history.record.rehearsal:
        return " (rehearsal: nothing is changed)"
    return "" if history.changing else " (looks only)"


def _by(history: History) -> str:
    rule = history.request.rule if history.request is not None else ""
    by = f"rule {plain(rule, 60)}" if rule else plain(history.record.who, 80)
    return f"By {by}, since {utc(history.start)}."


def _follow(case: Case) -> list[str]:
    link = case.link
    return [f"Follow it: {link}" if link else f"Follow it: runbook runs show {case.run_id}"]


def _targets(history: History) -> Iterator[tuple[str, str]]:
    last = {task.target: task for task in history.tasks}
    for target, task in last.items():
        yield plain(target, 80), how_far(task)


def how_far(task: TaskTold) -> str:
    """Return where a task is, or how it ended."""
    if task.result is not None:
        return plain(
            f"{task.status}: {task.result.summary}" if task.result.summary else task.status
        )
    stage = task.stages[-1] if task.stages else None
    return plain(f"{stage.name} {stage.text}" if stage is not None else task.phase)
