"""Whether a run has healed what it was for: proved by what it saw last, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runbook.model.history import History, TaskTold

#: Percent of the usable slots that may be in use: a fifth is free then, which is the headroom that
#: a termination aims for unless told, and where `diagnose --check` begins to warn.
AT_EASE = 80
#: What a termination calls the sessions that it has ended when they do not stay away.
_CAME_BACK = {"came_back", "partly_back", "not_watched", "interrupted", "refused"}


def healed(history: History) -> bool:
    """Whether a run is done, has changed something, and its last look shows a database at ease.

    Never so for a rehearsal, for a run that owes something, or where a change was not seen to be
    made. A run that only looked has healed nothing.
    """
    changes = [made for _, made in history.changes]
    if history.record.rehearsal or history.status != "done" or history.owed or not changes:
        return False
    if any(made.state != "made" for made in changes):
        return False
    return _looks_well(history, max(made.at + (made.seconds or 0.0) for made in changes))


def _looks_well(history: History, changed_at: float) -> bool:
    """Whether there was a look after the last change, and everything seen since is well."""
    seen = [well for task in history.tasks for well in _after(task, changed_at)]
    changed = [task for task in history.tasks if task.changes]
    kept_off = all(_data(task).get("verdict") not in _CAME_BACK for task in changed)
    return bool(seen) and all(seen) and kept_off


def _after(task: TaskTold, changed_at: float) -> Iterator[bool]:
    """Yield of each look of a task that lies after the last change whether it was well."""
    if task.result is None or task.end < changed_at:
        return
    data = _data(task)
    for key in ("after", "slots"):
        yield from _at_ease(data.get(key))
    if task.start < changed_at:
        return
    yield from _at_ease(data)
    diagnosis = data.get("diagnosis")
    if isinstance(diagnosis, Mapping):
        finding = diagnosis.get("finding")
        yield isinstance(finding, Mapping) and finding.get("cause") == "healthy"


def _at_ease(row: Any) -> Iterator[bool]:
    if isinstance(row, Mapping) and _counts(row):
        yield 100 * row["used"] <= AT_EASE * row["usable"]


def _counts(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("used"), int) and isinstance(row.get("usable"), int)


def _data(task: TaskTold) -> Mapping[str, Any]:
    return task.result.data if task.result is not None else {}
