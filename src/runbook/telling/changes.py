"""What PagerDuty's list of recent changes is told: that a run has begun to change, and has ended.

Nothing of a rehearsal, and nothing of a run that has changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runbook.model.history import Made
from runbook.model.intake import Told
from runbook.model.times import stamp
from runbook.telling import result, words
from runbook.telling.case import Case
from runbook.telling.text import cut, plain

#: Characters of an event's summary, by PagerDuty's limit.
_SUMMARY = 1024


def news(case: Case) -> Iterator[Told]:
    """Yield the change events that are due now."""
    made = [change for _, change in case.history.changes if change.state != "assumed"]
    if not case.tell.change_event or case.history.record.rehearsal or not made:
        return
    what = words.what(case.history)
    yield from case.want("change/start", _event(case, f"runbook changes: {what}", made[0].at))
    if case.over:
        line = result.headline(case.history)
        key = case.at_end("change/end")
        yield from case.want(key, _event(case, line, case.history.end, made))


def _event(case: Case, summary: str, at: float, made: list[Made] | None = None) -> dict[str, Any]:
    record, link = case.history.record, case.link
    details: dict[str, Any] = {
        "run": record.run_id,
        "playbook": plain(record.playbook),
        "target": plain(record.target or ""),
        "by": plain(record.who),
        "plan_hash": record.plan_hash,
    }
    if case.incident or record.incident:
        details["incident"] = plain(case.incident or record.incident)
    if made is not None:
        details["status"], details["changes"] = case.history.status, len(made)
    return {
        "summary": cut(summary, _SUMMARY),
        "source": plain(record.target or "runbook"),
        "timestamp": stamp(at),
        "custom_details": details,
        "links": [{"href": link, "text": f"run {record.run_id}"}] if link else [],
    }
