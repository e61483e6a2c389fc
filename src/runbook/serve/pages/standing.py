"""How a run stands, in a word, a headline and a sentence: what a tired eye reads first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from runbook.model.times import utc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runbook.model.history import History, TaskTold
    from runbook.model.ports import KeptRun, RunRecord, RunView

#: ask: somebody is waited for. go: it is at work. good, bad: how it ended. quiet: nothing to do.
Tone = Literal["ask", "go", "good", "bad", "quiet"]

#: Seconds that a process may take to begin; until then a run without one is not called dead.
_BEGINS_WITHIN_S = 20.0
#: Names that fit into a sentence.
_NAMED = 4

_ENDED: Mapping[str, tuple[Tone, str]] = {
    "done": ("good", "Done"),
    "rehearsed": ("good", "Rehearsed, nothing changed"),
    "refused": ("quiet", "Refused, nothing changed"),
    "failed": ("bad", "Failed"),
    "halted": ("bad", "Halted"),
    "unknown": ("bad", "State unknown: look there"),
    "interrupted": ("bad", "Stopped"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How a run stands."""

    #: For scripts: waiting, expired, goes on, stopping, begins, lost, or how it ended.
    word: str
    tone: Tone
    headline: str
    sentence: str = ""
    hint: str = ""


def of_record(record: RunRecord) -> Standing:
    """Return how a run has ended, by its row alone."""
    tone, headline = _ENDED.get(record.status, ("bad", record.status))
    return Standing(word=record.status, tone=tone, headline=headline)


def standing(kept: KeptRun, view: RunView, history: History, now: float) -> Standing:
    """Return how a run stands at a moment."""
    if kept.record.ended_at is not None:
        ended = of_record(kept.record)
        return Standing(
            word=ended.word,
            tone=ended.tone,
            headline=ended.headline,
            sentence=history.reason,
            hint=history.hint if ended.tone != "good" else "",
        )
    if view.waiting is not None:
        return _waiting(view.waiting, now)
    return _at_work(history, stopping=_asked_to_stop(kept)) if view.alive else _without(kept, now)


def until(question: Mapping[str, object]) -> float | None:
    """Return until when a question may be answered; None: for ever."""
    expires = question.get("expires_s")
    return None if expires is None else float(str(question["at"])) + float(str(expires))


def _waiting(question: Mapping[str, object], now: float) -> Standing:
    end = until(question)
    if end is not None and now > end:
        return Standing(
            word="expired",
            tone="bad",
            headline="Not answered in time",
            sentence=f"The question has expired at {utc(end)}. Nothing more was done.",
        )
    by = question.get("by")
    those = " or ".join(map(str, by)) if isinstance(by, list | tuple) and by else "an approver"
    return Standing(
        word="waiting",
        tone="ask",
        headline="Waiting for an answer",
        sentence=f"It asks {those}, and does nothing until then.",
    )


def _without(kept: KeptRun, now: float) -> Standing:
    """A run without a process: about to have one, or it has lost its own."""
    last = max((event.at for event in kept.events), default=kept.record.started_at)
    if now - last < _BEGINS_WITHIN_S:
        return Standing(word="begins", tone="go", headline="About to go on")
    if kept.record.status == "waiting":
        return Standing(
            word="lost",
            tone="bad",
            headline="Answered, and nobody goes on with it",
            sentence="It was answered, and no process works on it.",
        )
    return Standing(
        word="lost",
        tone="bad",
        headline="Lost its process",
        sentence="It was killed, or its machine went down; what it was at is not known for sure.",
    )


def _at_work(history: History, *, stopping: bool) -> Standing:
    flying = [task for task in history.tasks if task.result is None]
    sentence = _in_flight(flying)
    if stopping:
        said = f"What is in flight is seen to its end: {sentence}" if sentence else ""
        return Standing(word="stopping", tone="ask", headline="Stopping", sentence=said)
    kind = "Rehearsing" if history.record.rehearsal else "Going on"
    return Standing(word="goes on", tone="go", headline=kind, sentence=sentence)


def _in_flight(flying: Sequence[TaskTold]) -> str:
    words = [f"{task.target}: {_stage(task)}" for task in flying[:_NAMED]]
    more = f" and {len(flying) - _NAMED} more" if len(flying) > _NAMED else ""
    return ", ".join(words) + more


def _stage(task: TaskTold) -> str:
    return (task.stages[-1].name if task.stages else task.phase).replace("_", " ")


def _asked_to_stop(kept: KeptRun) -> bool:
    """Whether somebody has asked the process that works on it to stop."""
    for event in reversed(kept.events):
        if event.kind in {"resumed", "planned"}:
            return False
        if event.kind == "interrupted":
            return True
    return False
