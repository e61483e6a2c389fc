"""What PagerDuty's incident is told of a run: notes, its status, a status update, a field.

One note at the start, which is updated in place while the run goes on; one for each question that
somebody has to answer; one where its process was lost half-way; one for the result. `content` is
what `adapters.pagerduty` makes a request of: `do` says which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from runbook.model.intake import Told
from runbook.model.serve_config import TellPagerDuty
from runbook.telling import lost, result, words
from runbook.telling.case import Case
from runbook.telling.healed import healed
from runbook.telling.text import cut

#: Seconds between two updates of the note: where a target has come to another stage, and else.
#: An account's key has 960 requests a minute for all its tools, and nobody reads faster.
_STAGE_S, _WORDS_S = 3.0, 15.0
#: Characters of a custom field's value, and of a status update.
_FIELD, _UPDATE = 200, 1_000


def news(case: Case) -> Iterator[Told]:
    """Yield what the incident is to be told now."""
    wanted = case.tell.pagerduty
    if wanted is None or case.incident is None:
        return
    if wanted.notes:
        yield from _start(case)
        yield from _progress(case)
        yield from _waiting(case)
        yield from lost.news(case, partial(_note, case))
    yield from _acknowledge(case, wanted)
    if case.over:
        yield from _end(case, wanted)


def _start(case: Case) -> Iterator[Told]:
    # The result says all that a note at the start would, once there is one.
    if case.over:
        yield from case.drop("start", "the run was over before it could be told")
    else:
        yield from case.want("start", _note(case, "start", words.begun(case)))


def _progress(case: Case) -> Iterator[Told]:
    start, known = case.told.get("start"), case.told.get("progress")
    if start is None or start.state != "sent" or start.remote_id is None:
        return
    if known is not None and known.state == "given-up":
        return  # somebody has deleted the note, or it cannot be updated
    said = words.going_on(case)
    content = {
        **_note(case, "start", said),
        "do": "edit",
        "note": start.remote_id,
        "stages": [] if case.over else words.stages(case.history),
    }
    if known is None:
        if _moved(case):
            yield from case.want("progress", content)
    elif known.content != content and (known.state == "due" or _is_time(case, known, content)):
        yield replace(known, content=content, state="due")


def _moved(case: Case) -> bool:
    """Whether there is more to say than that it has begun."""
    return case.over or bool(case.history.tasks)


def _is_time(case: Case, known: Told, content: Mapping[str, Any]) -> bool:
    if case.over:
        return True
    pause = _STAGE_S if known.content.get("stages") != content["stages"] else _WORDS_S
    return case.now >= (known.sent_at or 0.0) + pause


def _waiting(case: Case) -> Iterator[Told]:
    asked = case.question
    key = f"waiting/{asked.hash}" if asked is not None else ""
    if asked is not None:
        yield from case.want(key, _note(case, key, words.waiting(case, asked)))
    yield from case.drop_others("waiting/", key, words.ANSWERED)


def _acknowledge(case: Case, wanted: TellPagerDuty) -> Iterator[Told]:
    if case.over:
        # Nobody is at it any more: to acknowledge now would keep the next person from being paged.
        yield from case.drop("acknowledge", "the run was over before it could be told", tried=True)
    elif wanted.acknowledge:
        yield from case.want("acknowledge", _do(case, "status", status="acknowledged"))


def _end(case: Case, wanted: TellPagerDuty) -> Iterator[Told]:
    line, link = result.headline(case.history), case.link
    if wanted.notes:
        key = case.at_end("result")
        yield from case.want(key, _note(case, key, result.result(case)))
    if wanted.status_update:
        message = cut(f"{line} {link}" if link else line, _UPDATE)
        update = _do(case, "status-update", message=message)
        yield from case.want(case.at_end("status-update"), update)
    if wanted.custom_field is not None:
        field = _do(case, "custom-field", name=wanted.custom_field, value=cut(line, _FIELD))
        yield from case.want(case.at_end("custom-field"), field)
    if wanted.resolve and healed(case.history):
        yield from case.want("resolve", _do(case, "status", status="resolved", resolution=line))


def _note(case: Case, key: str, lines: list[str]) -> dict[str, Any]:
    text = words.note(case, key, lines)
    return _do(case, "note", text=text, marker=words.marker(case.run_id, key))


def _do(case: Case, do: str, **more: Any) -> dict[str, Any]:
    return {"do": do, "incident": case.incident, **more}
