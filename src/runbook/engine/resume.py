"""What a run that lost its process goes on with: read from its events alone. Pure.

Observed, not guessed: a good result stands and is not asked for again. A task that intended a
change and has no good result is performed again with all that is known of it (`Crashed`), so that
it looks before it does anything; one whose verb cannot look (`after_crash: ask`) stays unknown
until a person says what became of it. Whatever never intended a change is simply done anew.

What a failure or the end of the line started (`on_failure`, `always`) is over with the process that
ran it: it runs again when it is due again. It may have undone what the main line did before, so
that is in doubt until a person says. A rolling step's hosts are not: a restart is not undone, and
all of them are looked at before the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runbook.engine.book import main_phase, shape_of, task_key
from runbook.engine.moment import covers
from runbook.engine.retries import verdict
from runbook.model.errors import Refused
from runbook.model.events import Event
from runbook.model.plan import Crashed, Node, Obligation, Plan, Result

#: How a person settles a doubt: it was done, or do it again.
DONE, AGAIN = "done", "again"

#: A task of an older journal that an interrupt kept from beginning was kept as skipped.
_NOT_BEGUN = "not begun: interrupted"
#: A result that says for sure that nothing was made.
_NOTHING_DONE = frozenset({"unreachable", "refused"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What was answered to a question, and by whom."""

    yes: bool
    by: str
    #: Seconds since the epoch.
    at: float
    comment: str = ""
    #: Seconds since the epoch after which it counts no more; None: it always does.
    until: float | None = None

    def counts(self, at: float) -> bool:
        """Whether it may be acted on at this moment."""
        return self.until is None or at <= self.until


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubt:
    """A change that was asked for, and of which nobody knows what became of it."""

    key: str
    node: str
    target: str
    #: The sentence of the change.
    what: str
    #: How the task ended, where it did.
    result: Result | None
    #: It ended well; then this step ran at the end of the run, or after a failure.
    after: str = ""


@dataclass(frozen=True, kw_only=True)
class TakenUp:
    """What the executor goes on with."""

    results: dict[str, Result] = field(default_factory=dict)
    #: By a question's key and hash: an answer holds for what was shown, and for nothing else.
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    #: Task key -> what is known of it.
    crashed: dict[str, Crashed] = field(default_factory=dict)
    owed: tuple[Obligation, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    #: The question that stands open, as it was asked.
    open_question: Mapping[str, Any] | None = None


def take_up(plan: Plan, events: Sequence[Event], run_id: str = "ID") -> TakenUp:
    """Return what is known of a run, from its plan and its events in their order.

    `run_id` is for the commands that its hints name.
    """
    traces = _traces(plan, events)
    results = {key: kept for key, trace in traces.items() if (kept := trace.kept(run_id))}
    results = _without_admissions(plan, results, traces)
    return TakenUp(
        results=results,
        answers=answers(events),
        crashed={
            key: trace.crashed()
            for key, trace in traces.items()
            if trace.intended and key not in results
        },
        owed=open_obligations(events),
        doubts=tuple(trace.doubt() for trace in traces.values() if trace.doubtful),
        open_question=open_question(events),
    )


# ---- tasks -----------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Trace:
    """All that the events say of one task, over every process that worked on it."""

    key: str
    node: Node | None
    phase: str = ""
    target: str = ""
    attempt: int = 1
    intended: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    result: Result | None = None
    #: How many changes were intended when a person last said that it is to be done again.
    forgiven: int = 0
    #: Whether a retry has begun a further attempt: that one counts now.
    superseded: bool = False
    #: The step that ran after it had ended well, and may have undone it.
    undone_by: str = ""

    @property
    def good(self) -> bool:
        """Whether it ended well; of an attempt, by what the retry waits for."""
        if self.result is None or self.node is None or self.phase != main_phase(self.node):
            return self.result is not None and self.result.good
        result, again = verdict(self.node, self.attempt, self.result)
        return result.good or again

    @property
    def open(self) -> bool:
        """Whether something was intended, and it has no good result."""
        return len(self.intended) > self.forgiven and not self.good

    @property
    def unsettled(self) -> bool:
        """Whether a person may say what became of it, or that it is to be done again."""
        return bool(self.intended) and (not self.good or bool(self.undone_by))

    @property
    def doubtful(self) -> bool:
        """Whether only a person can say what became of it."""
        if self.superseded or not self.open:
            return bool(self.undone_by) and not self.superseded
        if self.node is not None and self.node.after_crash != "ask":
            return False
        undone = self.result is not None and self.result.status in _NOTHING_DONE
        return not undone or bool(self.changed)

    def kept(self, run_id: str) -> Result | None:
        """Return the result that stands, or None when the task is performed again."""
        if self.phase == "settle":
            return None  # what is owed is known by its own events
        if self.doubtful:
            return self._unknown(run_id)
        return self.result if self.good or self.superseded else None

    def _unknown(self, run_id: str) -> Result:
        if self.undone_by:
            return Result(
                status="unknown",
                summary=f"it ended well, and then {self.undone_by} ran, which may have undone it",
                hint=_SETTLE_IT,
            )
        if self.result is not None:
            return self.result
        return Result(
            status="unknown",
            summary=f"asked for, and nobody saw what came of it: {self.intended[-1]}",
            hint=f"look there; then go on with `runbook runs resume {run_id}` and"
            f" --done {self.key} or --again {self.key}",
        )

    def crashed(self) -> Crashed:
        return Crashed(
            # What a person has looked at, and wants done again, is no doubt any more.
            intended=tuple(self.intended[self.forgiven :]),
            changed=tuple(self.changed),
            notes=dict(self.notes),
            result=_plain(self.result),
        )

    def doubt(self) -> Doubt:
        node = self.node.name if self.node is not None else self.key
        return Doubt(
            key=self.key,
            node=node,
            target=self.target,
            what=self.intended[-1],
            result=self.result,
            after=self.undone_by,
        )


def _traces(plan: Plan, events: Sequence[Event]) -> dict[str, _Trace]:
    traces: dict[str, _Trace] = {}
    places = shape_of(plan)
    for event in events:
        if event.kind == "resumed":
            _forget_what_followed(plan, traces)
            _choose(traces, event)
        if event.task is None:
            continue
        if event.task not in traces:
            traces[event.task] = _trace(plan, event.task, places.place(event.task))
        _note(traces[event.task], event)
        if event.kind == "intended":
            _put_in_doubt(plan, traces, traces[event.task])
    _forget_what_followed(plan, traces, but_said=True)
    if _line_is_over(plan, traces):
        for trace in traces.values():
            trace.undone_by = ""
    for trace in traces.values():
        if trace.node is not None:
            following = task_key(trace.node, trace.phase, trace.target, trace.attempt + 1)
            trace.superseded = following in traces
    return traces


def _trace(plan: Plan, key: str, place: tuple[int, str, str, int] | None) -> _Trace:
    if place is None:
        return _Trace(key=key, node=None, target=key)
    number, phase, target, attempt = place
    node = plan.nodes[number]
    return _Trace(key=key, node=node, phase=phase, target=target, attempt=attempt)


def _note(trace: _Trace, event: Event) -> None:
    match event.kind:
        case "task_started":
            trace.result = None  # another process has begun it anew
        case "intended":
            trace.intended.append(event.data["sentence"])
            trace.result = None
        case "changed":
            trace.changed.append(event.data["sentence"])
        case "noted":
            trace.notes.update(event.data)
        case "task_finished":
            result = result_from_json(event.data["result"])
            not_begun = result.status == "skipped" and result.summary == _NOT_BEGUN
            trace.result = None if not_begun else result
        case _:
            return


def _choose(traces: Mapping[str, _Trace], event: Event) -> None:
    """Take over what a person said of doubts when the run was resumed.

    It was said of what was not known then: a task that has ended well meanwhile stays so.
    """
    choices = event.data.get("choices") or {}
    said = f"done, as {event.data.get('by', 'somebody')} says"
    for key in choices.get(DONE, ()):
        if key in traces and traces[key].unsettled:
            traces[key].result = Result(status="ok", summary=said, data={"said_by_hand": True})
            traces[key].undone_by = ""
    for key in choices.get(AGAIN, ()):
        if key in traces and traces[key].unsettled:
            traces[key].forgiven = len(traces[key].intended)
            traces[key].result = None
            traces[key].undone_by = ""


# ---- what ran after a failure, or at the end -------------------------------------------------

_SETTLE_IT = (
    "look there, then say of each --done TASK (it still stands) or --again TASK; or run the"
    " playbook anew"
)


def check_standing(plan: Plan, events: Sequence[Event], choices: Mapping[str, Any]) -> None:
    """Refuse to go on from what the end of the run may have undone.

    Raises:
        Refused: when something of it is settled by none of the `choices`.
    """
    chosen = Event(kind="resumed", at=0.0, data={"choices": dict(choices)})
    doubts = [doubt for doubt in take_up(plan, [*events, chosen]).doubts if doubt.after]
    if not doubts:
        return
    what = "; ".join(f"{d.what} ({d.key}), and then {d.after} ran" for d in doubts)
    raise Refused(
        f"what was done may have been undone since, and nobody has looked: {what}", hint=_SETTLE_IT
    )


def _forget_what_followed(plan: Plan, traces: dict[str, _Trace], *, but_said: bool = False) -> None:
    """Forget what followed a failure, or came at the end, and ended well: it is due anew or not.

    A line that is over and well is not gone through again, so what followed it stands.
    """
    if _line_is_over(plan, traces):
        return
    last: dict[tuple[str, str, str], _Trace] = {}
    followed = [t for t in traces.values() if t.node is not None and t.node.role != "main"]
    for trace in sorted(followed, key=lambda each: each.attempt):
        last[_task_of(trace)] = trace
    for trace in followed:
        latest = last[_task_of(trace)]
        said = latest.result is not None and latest.result.data.get("said_by_hand")
        if latest.good and not (said and but_said):
            del traces[trace.key]


def _task_of(trace: _Trace) -> tuple[str, str, str]:
    """Return the task without its attempt."""
    return trace.node.key if trace.node is not None else "", trace.phase, trace.target


def _line_is_over(plan: Plan, traces: Mapping[str, _Trace]) -> bool:
    """Whether every task of the main line has ended well, so that none is performed again."""
    good = {_task_of(t) for t in traces.values() if t.good}
    return all(
        (node.key, main_phase(node), target) in good
        for node in plan.nodes
        if node.role == "main"
        for target in node.targets
    )


def _put_in_doubt(plan: Plan, traces: Mapping[str, _Trace], acting: _Trace) -> None:
    """What the main line has changed until now may be undone by a step that is none of it."""
    if acting.node is None or acting.node.role == "main":
        return
    include = _goes_on_after(plan, acting.node)
    for trace in traces.values():
        node = trace.node
        if node is None or node.role != "main" or node.flow == "rolling":
            continue
        inside = include is None or covers(include, node)
        if inside and trace.phase == main_phase(node) and trace.intended and trace.good:
            trace.undone_by = acting.node.name


def _goes_on_after(plan: Plan, handler: Node) -> str | None:
    """Return the include that a step belongs to and that the run goes on after, or None."""
    for node in plan.nodes:
        if node.continues is not None and covers(node.continues, handler):
            return node.continues
    return None


def _without_admissions(
    plan: Plan, results: dict[str, Result], traces: Mapping[str, _Trace]
) -> dict[str, Result]:
    """Where hosts are still to be restarted, all of them are probed anew before the next one."""
    unfinished = {node.key for node in plan.nodes if _hosts_left(node, results)}
    stale = {
        key
        for key, trace in traces.items()
        if trace.phase == "admit" and trace.node is not None and trace.node.key in unfinished
    }
    return {key: result for key, result in results.items() if key not in stale}


def _hosts_left(node: Node, results: Mapping[str, Result]) -> bool:
    if node.flow != "rolling":
        return False
    keys = (task_key(node, main_phase(node), target) for target in node.targets)
    return any(key not in results or not results[key].good for key in keys)


def result_from_json(data: Mapping[str, Any]) -> Result:
    """Return the result that an event has."""
    names = ("touches", "not_exercised", "by_hand", "masked")
    return Result(**{**data, **{name: tuple(data.get(name, ())) for name in names}})


def _plain(result: Result | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {
        "status": result.status,
        "summary": result.summary,
        "hint": result.hint,
        "data": result.data,
        "touches": list(result.touches),
        "not_exercised": list(result.not_exercised),
        "by_hand": list(result.by_hand),
    }


def never_begun(events: Sequence[Event]) -> bool:
    """Whether a run was submitted, and no process has come to work on it."""
    return not any(event.kind in {"planned", "resumed", "finished"} for event in events)


# ---- debts and questions -----------------------------------------------------------------------


def open_obligations(events: Sequence[Event]) -> tuple[Obligation, ...]:
    """Return what the run owes the world, in the order in which it came to owe it."""
    owed: dict[str, Obligation] = {}
    for event in events:
        if event.kind == "owed":
            owed[event.data["key"]] = obligation_from_json(event.data)
        elif event.kind == "paid":
            owed.pop(event.data["key"], None)
    return tuple(owed.values())


def obligation_from_json(data: Mapping[str, Any]) -> Obligation:
    """Return the obligation that an event has."""
    return Obligation(**{**data, "by_hand": tuple(data["by_hand"])})


def answers(events: Sequence[Event]) -> dict[tuple[str, str], Answer]:
    """Return the answers that stand, by the question's key and hash.

    The first answer to a question stands. A no that ended the run is no answer to a run that
    somebody takes up again, but for an approval: that was somebody else's to give.
    """
    standing: dict[tuple[str, str], Answer] = {}
    asked: dict[tuple[str, str], Event] = {}
    ended = False
    for event in events:
        if event.kind == "asked":
            asked[_question(event)] = event
            before = standing.get(_question(event))
            if before is not None and not before.counts(event.at):
                del standing[_question(event)]  # it was not acted on in time, and is asked anew
        elif event.kind == "answered" and in_time(asked.get(_question(event)), event.at):
            answer = _answer(event, asked.get(_question(event)))
            standing.setdefault(_question(event), answer)
        elif event.kind == "finished":
            ended = event.data["status"] != "waiting"
        elif event.kind == "resumed" and ended:
            standing = {key: it for key, it in standing.items() if it.yes or _approval(asked, key)}
    return standing


def _approval(asked: Mapping[tuple[str, str], Event], key: tuple[str, str]) -> bool:
    return key in asked and asked[key].data.get("kind") == "approval"


def _question(event: Event) -> tuple[str, str]:
    # Version 1 asked one question only.
    return str(event.data.get("key", "confirm")), str(event.data["hash"])


def _answer(event: Event, asked: Event | None) -> Answer:
    data = event.data
    return Answer(
        yes=data["yes"],
        by=data["by"],
        at=event.at,
        comment=data.get("comment", ""),
        until=expiry(asked),
    )


def expiry(asked: Event | None) -> float | None:
    """Return until when an answer to a question counts, in seconds since the epoch; None: ever."""
    expires = asked.data.get("expires_s") if asked is not None else None
    return None if asked is None or expires is None else asked.at + float(expires)


def in_time(asked: Event | None, at: float) -> bool:
    """Whether an answer of this moment still counts."""
    until = expiry(asked)
    return until is None or at <= until


def may_answer(by: Sequence[str], who: str) -> bool:
    """Whether somebody (`user@host`) is among those who may: `user` or `user@host`, or anybody."""
    return not by or who in by or who.partition("@")[0] in by


def open_question(events: Sequence[Event]) -> Mapping[str, Any] | None:
    """Return the last question that was asked and not answered in time, with when; or None."""
    question: Event | None = None
    for event in events:
        if event.kind == "asked":
            question = event
        elif (
            event.kind == "answered"
            and question is not None
            and _question(event) == _question(question)
            and in_time(question, event.at)
        ):
            question = None
    return None if question is None else {**question.data, "at": question.at}
