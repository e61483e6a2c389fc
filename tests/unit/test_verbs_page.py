"""docs/verbs.md says of every verb what the verb itself declares."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.model.step import StepType
from runbook.model.units import format_duration
from runbook.steps import STEPS

PAGE = Path(__file__).parents[2] / "docs" / "verbs.md"

AFTER_CRASH = {"probe": "it looks", "repeat": "again", "ask": "you say"}


def kind(step: StepType) -> str:
    if step.verb == "notify":
        return "changes, with a webhook or a command"
    if "read_only" in step.args.model_fields:
        return "changes, unless `read_only: true`"
    return "changes" if {"prepare", "preflight"} & set(step.phases) else "looks"


def row(step: StepType) -> str:
    asks = step.flow == "approval"
    limit = "until it is answered" if asks else format_duration(step.default_timeout_s)
    cells = (f"[`{step.verb}`](playbooks.md#{step.verb})", kind(step), step.undo or "-", limit)
    return f"| {' | '.join(cells)} | {AFTER_CRASH[step.after_crash]} |"


def table() -> str:
    head = "| Verb | Looks or changes | Undo | Time limit | After a crash |\n|---|---|---|---|---|"
    return "\n".join([head, *(row(STEPS[verb]) for verb in STEPS)])


def test_the_page_has_the_table_of_all_verbs() -> None:
    assert f"\n\n{table()}\n\n" in PAGE.read_text(encoding="utf-8"), table()


@pytest.mark.parametrize("verb", STEPS)
def test_what_changes_says_how_it_is_undone(verb: str) -> None:
    step = STEPS[verb]
    assert bool(step.undo) is kind(step).startswith("changes")
