"""What a person says to a run from elsewhere: yes or no, stop, go on; in the browser or in Slack.

Who they are and what they may do is in the configuration alone; the journal keeps them as
`dana@browser`, `dana@slack`. The sentences are for them: what became of it, and what to do next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from runbook.model.document import visible
from runbook.model.errors import DoorError, RunbookError
from runbook.model.serve_config import Role
from runbook.model.times import utc
from runbook.serve.people import Known, by_name, by_slack, may

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runbook.model.alert import Answer
    from runbook.model.ports import KeptRun, RunView
    from runbook.serve.context import Context

#: done       it counts
#: not-yours  who this is, is not known, or may not do this
#: no-run     there is no such run
#: changed    something else is asked by now: look at it, then answer that
#: over       it was answered by somebody else, has expired, has ended
#: failed     it could not be written, or nothing could be begun
Outcome = Literal["done", "not-yours", "no-run", "changed", "over", "failed"]
Via = Literal["browser", "slack"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """What became of a word to a run."""

    outcome: Outcome
    #: One sentence or two, for the person who said it.
    message: str
    #: Who they are, as the journal has them; empty when nobody knows.
    by: str = ""

    @property
    def done(self) -> bool:
        """Whether it counts."""
        return self.outcome == "done"


class _Said(Exception):
    """Ends a look early with what is to be said."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.answered = Answered(outcome=outcome, message=message)


def answer(
    context: Context,
    *,
    run_id: str,
    key: str,
    digest: str,
    yes: bool,
    who: str,
    via: Via,
    comment: str = "",
) -> Answered:
    """Answer the question of a run, if it is the one of this hash still; the first answer stands.

    `who` is a name of the configuration for the browser, a user's id for Slack.
    """

    def act(by: str) -> str:
        kept, said = _kept(context, run_id), "approved" if yes else "denied"
        # A button that is pressed twice has said one thing.
        if (by, yes) != _given(kept, key, digest)[:2]:
            _check_question(context, kept, key, digest, by)
            context.runs.approve(run_id, key, yes, by, comment, digest=digest)
        return f"You have {said} run {run_id} (confirmation {visible(digest)}), as {by}."

    return _said_by(context, who, via, "approver", "answers questions", act)


def take_answer(context: Context, pressed: Answer) -> str:
    """Take a button that somebody has pressed in Slack; return what is said to them."""
    return answer(
        context,
        run_id=pressed.run_id,
        key=pressed.key,
        digest=pressed.digest,
        yes=pressed.yes,
        who=pressed.by,
        via="slack",
    ).message


def cancel(context: Context, *, run_id: str, who: str, via: Via) -> Answered:
    """Ask a run to stop as Ctrl-C does; one that waits or lost its process is closed."""

    def act(by: str) -> str:
        _check_open(_kept(context, run_id))
        context.runs.cancel(run_id, by)
        if context.runs.view(run_id).record.ended_at is None:
            return f"Run {run_id} was asked to stop; what is in flight is seen to its end."
        return f"Run {run_id} is closed; no process worked on it."

    return _said_by(context, who, via, "operator", "stops runs", act)


def go_on(context: Context, *, run_id: str, who: str, via: Via) -> Answered:
    """Let a process take up a run that has lost its own; it looks at the world first."""

    def act(by: str) -> str:
        _check_open(_kept(context, run_id))
        view = context.runs.view(run_id)
        if view.alive:
            raise _Said("over", f"Run {run_id} goes on already.")
        if view.waiting is not None and not _expired(context, view):
            raise _Said("over", f"Run {run_id} waits for an answer; it goes on when it has one.")
        context.runs.go_on(run_id, by)
        return f"Run {run_id} is taken up again; it looks at what was done first."

    return _said_by(context, who, via, "operator", "takes up runs", act)


def _said_by(  # noqa: PLR0917
    context: Context, who: str, via: Via, needed: Role, what: str, act: Callable[[str], str]
) -> Answered:
    """Do something as somebody who may; every way in which it can fail has a sentence."""
    try:
        by = f"{_person(context, who, via, needed, what).name}@{via}"
    except _Said as said:
        return said.answered
    try:
        return Answered(outcome="done", message=act(by), by=by)
    except _Said as said:
        outcome, message = said.answered.outcome, said.answered.message
    except DoorError as error:
        outcome, message = "failed", f"That could not be done: {_sentence(error)}"
    except RunbookError as error:
        # Somebody was quicker by a moment, or it is not theirs to answer.
        outcome, message = "over", _sentence(error)
    return Answered(outcome=outcome, message=message, by=by)


def _person(context: Context, who: str, via: Via, needed: Role, what: str) -> Known:
    people = context.config.people
    known = by_slack(people, who) if via == "slack" else by_name(people, who)
    if known is None:
        those = f"with `slack: {visible(who)}`" if via == "slack" else f"called {visible(who)}"
        raise _Said("not-yours", f"There is nobody {those} in `people` of {context.source}.")
    if not may(known.role, needed):
        article = "an" if known.role[0] in "aeiou" else "a"
        raise _Said(
            "not-yours", f"{known.name} is {article} {known.role} here; only an {needed} {what}."
        )
    return known


def _kept(context: Context, run_id: str) -> KeptRun:
    kept = context.journal.run(run_id)
    if kept is None:
        raise _Said("no-run", f"There is no run {visible(run_id)}.")
    return kept


def _check_open(kept: KeptRun) -> None:
    record = kept.record
    if record.ended_at is not None:
        raise _Said("over", f"Run {record.run_id} is over: {record.status}.")


def _check_question(context: Context, kept: KeptRun, key: str, digest: str, by: str) -> None:
    from runbook.engine.resume import may_answer

    run_id = kept.record.run_id
    view = context.runs.view(run_id)
    question = view.waiting
    if question is None:
        raise _Said("over", _what_became(kept, key, digest))
    if (question.get("key"), question.get("hash")) != (key, digest):
        raise _Said(
            "changed",
            f"Run {run_id} asks something else now (confirmation {question.get('hash')}), so this"
            " answer does not count: look at what it asks, then answer that.",
        )
    if _expired(context, view):
        until = utc(float(question["at"]) + float(question["expires_s"]))
        raise _Said("over", f"That question has expired at {until}; nobody's answer counts now.")
    if not may_answer(question.get("by") or (), by):
        those = " or ".join(question["by"])
        raise _Said("not-yours", f"This is not yours to answer: it is for {visible(those)}.")


def _expired(context: Context, view: RunView) -> bool:
    question: Mapping[str, Any] = view.waiting or {}
    expires = question.get("expires_s")
    return expires is not None and context.now() > float(question["at"]) + float(expires)


def _what_became(kept: KeptRun, key: str, digest: str) -> str:
    """Say who has answered a question that is open no more, or why there is none."""
    run_id, (who, yes, at) = kept.record.run_id, _given(kept, key, digest)
    if who:
        said = "yes" if yes else "no"
        return f"It was answered already: {said}, by {visible(who)}, at {utc(at)}."
    if kept.record.ended_at is not None:
        return f"Run {run_id} is over: {kept.record.status}. Nothing is asked any more."
    return f"Run {run_id} asks nothing at this moment."


def _given(kept: KeptRun, key: str, digest: str) -> tuple[str, bool, float]:
    """Return the answer that stands for a question: by whom (or nobody), whether yes, when."""
    from runbook.engine.resume import answers

    found = answers(kept.events).get((key, digest))
    return ("", False, 0.0) if found is None else (found.by, found.yes, found.at)


def _sentence(error: RunbookError) -> str:
    text = visible(error.message)
    hint = f" {visible(error.hint)}." if error.hint else ""
    return f"{text[:1].upper()}{text[1:]}.{hint}"
