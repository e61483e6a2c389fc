"""One trial: an input goes through the reader, the checks and the planner; what came of it."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runbook.adapters.yaml_reader import read_document
from runbook.engine.lint import lint
from runbook.engine.planning import make_plan
from runbook.engine.reading import Beside, Playbook, read_playbook
from runbook.model.errors import InvalidDocument, RunbookError
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.plan import plan_from_json
from runbook.rendering.errors import error_text
from runbook.steps import STEPS
from runbook.wiring import included_document, text_beside

#: Processor time that one input may take, and memory that the process may grow to.
MOST_SECONDS = 2.0
MOST_BYTES = 500_000_000

FLEET = Fleet(
    Inventory.model_validate(
        {
            "version": 1,
            "hosts": {f"web-{i}": {"groups": ["web"]} for i in range(4)},
            "databases": {"db": {"connect": {"host": "h", "user": "u"}}},
            "services": {"shop": {"hosts": "web", "database": "db"}},
        }
    )
)
_TARGETS = {"database": "db", "service": "shop", "hosts": "web", "none": None}


@dataclass(frozen=True)
class Trial:
    """What came of one input."""

    ended: Literal["unreadable", "unplannable", "planned", "broken"]
    seconds: float
    #: The traceback of a broken one, or what else is wrong with it.
    said: str = ""


def trial(data: bytes, folder: Path) -> Trial:
    """Return what came of one input; `folder` has the files that a playbook may bring in."""
    file = folder / "input.yaml"
    file.write_bytes(data)
    began = time.process_time()
    try:
        ended, said = _through(file)
    except Exception:  # noqa: BLE001 - whatever it is, it is what we look for
        ended, said = "broken", traceback.format_exc()
    seconds = time.process_time() - began
    if ended != "broken" and seconds > MOST_SECONDS:
        return Trial("broken", seconds, f"it took {seconds:.1f}s")
    return Trial(ended, seconds, said)


_Ended = Literal["unreadable", "unplannable", "planned", "broken"]


def _through(file: Path) -> tuple[_Ended, str]:
    beside = Beside(document=included_document, text=text_beside)
    try:
        book = read_playbook(read_document(file), STEPS, beside)
    except RunbookError as error:
        return _told("unreadable", error)
    for problem in lint(book, FLEET):
        if problem.place is None:
            return "broken", f"a check without a place: {problem}"
    try:
        _plan(book)
    except RunbookError as error:
        return _told("unplannable", error)
    return "planned", ""


def _plan(book: Playbook) -> None:
    target = _TARGETS[book.frame.target.kind]
    plan = make_plan(book, fleet=FLEET, target=target, given={}, rehearsal=True)
    again = plan_from_json(plan.to_json())
    if again.hash != plan.hash:
        raise AssertionError("a journal would bring back another plan")


def _told(ended: _Ended, error: RunbookError) -> tuple[_Ended, str]:
    """An error has words, and a place in the file where it is one of the file's."""
    if isinstance(error, InvalidDocument):
        for problem in error.problems:
            if not problem.message or (problem.place is not None and problem.place.line < 1):
                return "broken", f"a problem without words or place: {problem!r}"
    text = error_text(error)
    if not text.replace("\n", "").isprintable():
        return "broken", f"not fit for a terminal: {text!r:.300}"
    return (
        (ended, "") if len(text) < 200_000 else ("broken", f"{len(text)} characters of complaint")
    )
