"""The words of a run's end: the cause, what was done or would be, and what to do next."""

from __future__ import annotations

import shlex

from pydantic import ValidationError

from runbook.model.diagnosis import Diagnosis
from runbook.model.history import History
from runbook.telling.case import Case
from runbook.telling.text import cut, listing, plain
from runbook.telling.words import CHANGES, ENDED, HEADLINE, what

#: Lines of a list within a note; the report has all of them.
_EVIDENCE, BY_HAND = 5, 4
#: Ends after which a run can be gone on with.
_RESUMABLE = {"failed", "halted", "unknown", "interrupted"}


def headline(history: History) -> str:
    """Return in a line that a phone shows: the cause, and what was or would be done."""
    return cut(" ".join(_headline(history).split()), HEADLINE)


def result(case: Case) -> list[str]:
    """Return the lines of the result's note: a headline, then what stands behind it."""
    history, seen = case.history, diagnosis(case.history)
    link = case.link
    report = link or f"runbook runs report {case.run_id}"
    return [
        headline(history),
        *_cause(seen),
        *_changes(history),
        *_slots(history),
        *_left(history),
        f"Next: {command(history, seen)}",
        f"Report: {report}",
    ]


def diagnosis(history: History) -> Diagnosis | None:
    """Return the last diagnosis of the run, if it made one that this runbook can read."""
    for task in reversed(history.tasks):
        data = task.result.data.get("diagnosis") if task.result is not None else None
        if isinstance(data, dict):
            try:
                return Diagnosis.model_validate(data)
            except ValidationError:
                continue
    return None


def command(history: History, seen: Diagnosis | None) -> str:
    """Return the one command to run next."""
    record = history.record
    if history.status in _RESUMABLE:
        return f"runbook runs resume {record.run_id} --show"
    if history.status == "rehearsed" and history.changing:
        return " ".join(
            ["runbook run", *map(shlex.quote, filter(None, (record.playbook, record.target)))]
        )
    if seen is not None and seen.finding.command and not history.changes:
        return plain(seen.finding.command)
    database = next(iter(history.terminated), None) or (seen.target if seen is not None else None)
    if database is not None and history.changes:
        return f"runbook diagnose {shlex.quote(plain(database, 80))}"
    return f"runbook runs show {record.run_id}"


def _headline(history: History) -> str:
    seen = diagnosis(history)
    if seen is not None and history.status == "done" and not history.changes:
        return _cause_in_a_line(seen)
    ended = ENDED.get(history.status, history.status)
    if history.status == "rehearsed" and seen is not None and not history.changing:
        return _cause_in_a_line(seen)
    essence = _essence(history)
    cause = f" ({seen.finding.cause})" if seen is not None and not seen.healthy else ""
    return f"{ended}: {what(history)}{cause}" + (f": {essence}" if essence else "")


def _cause_in_a_line(seen: Diagnosis) -> str:
    slots = f"{seen.slots.used} of {seen.slots.usable} slots"
    target = plain(seen.target, 40)
    if seen.healthy:
        return f"{target}: healthy, {slots} in use"
    return f"{target}, {slots}: {plain(seen.finding.title)}"


def _essence(history: History) -> str:
    """Return what came of it, in words that end a line."""
    if history.status == "rehearsed":
        looked = [each for step in history.steps for each in step.targets.values()]
        count = sum(len(each.touches) for each in looked)
        shown = max(count, sum(made.state == "assumed" for _, made in history.changes))
        changes = f"{shown} change{'' if shown == 1 else 's'}"
        return f"{changes} shown, nothing was changed" if shown else "nothing to change"
    if history.status != "done":
        return plain(history.reason)
    summaries = [step.result.summary for step in history.steps if step.result is not None]
    return plain(summaries[-1]) if summaries else ""


def _cause(seen: Diagnosis | None) -> list[str]:
    if seen is None:
        return []
    finding = seen.finding
    head = f"Cause: {finding.cause} ({finding.confidence}): {plain(finding.title)}"
    advice = [f"What to do: {plain(finding.advice, 500)}"] if finding.advice else []
    evidence = [plain(line) for line in finding.evidence]
    return [head, *listing(evidence, _EVIDENCE), *advice]


_MADE = {
    "made": "What was done:",
    "unseen": "Asked for, and nobody saw what came of it:",
    "assumed": "What would be done:",
}


def _changes(history: History) -> list[str]:
    lines: list[str] = []
    if history.changing and not history.changes and history.status not in {"done", "rehearsed"}:
        return ["Nothing was changed."]
    for state, title in _MADE.items():
        told = [plain(made.sentence) for _, made in history.changes if made.state == state]
        if told:
            lines += [title, *listing(told, CHANGES)]
    return lines


def _slots(history: History) -> list[str]:
    if not history.slots:
        return []
    first, last = history.slots[0], history.slots[-1]
    if first == last:
        return [f"Slots in use: {last.used} of {last.usable}"]
    before, after = f"{first.used} of {first.usable}", f"{last.used} of {last.usable}"
    return [f"Slots in use: {before} before, {after} after"]


def _left(history: History) -> list[str]:
    """Say what is still to do, and by whom."""
    lines = [f"STILL OWED: {plain(debt.what)}" for debt in history.owed]
    if history.status not in {"done", "rehearsed"}:
        lines += [plain(history.hint)] if history.hint else []
        lines += [f"By hand: {plain(line)}" for line in history.by_hand[:BY_HAND]]
    return lines
