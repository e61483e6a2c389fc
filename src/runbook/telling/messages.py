"""What a name of `notify` is told: that a run has begun, waits, lost its process, has ended.

The content is the message as a signed webhook sends it (docs/telling.md has every key); a chat
makes its own form of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from runbook.model.history import Asked
from runbook.model.intake import Told
from runbook.model.times import stamp
from runbook.telling import lost, result, words
from runbook.telling.case import Case
from runbook.telling.healed import healed
from runbook.telling.text import cut, plain

#: Grows when a key changes its meaning or goes.
SCHEMA_VERSION = 1
#: Lines that a question shows of what would be touched.
_TOUCHES = 20


def news(case: Case) -> Iterator[Told]:
    """Yield the messages that are due now."""
    if case.over:
        yield from case.drop("start", "the run was over before it could be told")
    else:
        yield from case.want("start", _message(case, "begun", "start", words.begun(case)))
    asked = case.question
    key = f"waiting/{asked.hash}" if asked is not None else ""
    if asked is not None:
        lines = words.waiting(case, asked)
        yield from case.want(key, _message(case, "waiting", key, lines, asked))
    yield from case.drop_others("waiting/", key, words.ANSWERED)
    yield from lost.news(case, partial(_message, case, "lost"))
    if case.over:
        key = case.at_end("result")
        yield from case.want(key, _message(case, "ended", key, result.result(case)))


def _message(
    case: Case, event: str, key: str, lines: list[str], asked: Asked | None = None
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "id": f"{case.run_id}/{key}",
        "event": event,
        "headline": lines[0],
        "text": cut("\n".join(lines), words.NOTE),
        "run": _run(case),
        "question": _question(asked) if asked is not None else None,
        "link": case.link,
    }


def notice(id_: str, summary: str, source: str) -> dict[str, Any]:
    """Return a message that is about no run: what `runbook notify --to` sends."""
    return {
        "schema_version": SCHEMA_VERSION,
        "id": f"notice/{id_}",
        "event": "notice",
        "headline": summary,
        "text": f"{summary}\nFrom {plain(source)}.",
        "run": None,
        "question": None,
        "link": None,
    }


def about_no_run(id_: str, lines: list[str], link: str | None) -> dict[str, Any]:
    """Return a message about an event that led to no run though a rule held."""
    return {
        "schema_version": SCHEMA_VERSION,
        "id": id_,
        "event": "no-run",
        "headline": lines[0],
        "text": cut("\n".join(lines), words.NOTE),
        "run": None,
        "question": None,
        "link": link,
    }


def _run(case: Case) -> dict[str, Any]:
    record = case.history.record
    request = case.history.request
    known = "lost" if case.lost else record.status
    return {
        "id": record.run_id,
        "playbook": plain(record.playbook),
        "target": plain(record.target) if record.target else None,
        "rehearsal": record.rehearsal,
        "status": known if case.over or known in {"waiting", "lost"} else "running",
        "healed": healed(case.history),
        "incident": plain(case.incident or record.incident or "") or None,
        "rule": plain(request.rule) if request is not None and request.rule else None,
        "by": plain(record.who),
        "started_at": stamp(record.started_at),
        "ended_at": stamp(record.ended_at) if record.ended_at is not None else None,
        "plan_hash": record.plan_hash,
    }


def _question(asked: Asked) -> dict[str, Any]:
    return {
        "key": asked.key,
        "hash": asked.hash,
        "prompt": plain(asked.prompt),
        "touches": [plain(line) for line in asked.touches[:_TOUCHES]],
        "count": len(asked.touches),
        "by": [plain(name) for name in asked.may],
        "until": stamp(asked.until) if asked.until is not None else None,
    }
