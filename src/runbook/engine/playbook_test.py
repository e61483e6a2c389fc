"""Judges a played test of a playbook: what was expected, what came, at the line that expects it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from runbook.engine.planning import make_plan
from runbook.engine.playbook_play import Played, Unanswered, nodes_named, play
from runbook.engine.written import Playbook
from runbook.model.document import Document, DocumentPath, Problem, nearest
from runbook.model.errors import RunbookError
from runbook.model.fleet import Fleet
from runbook.model.plan import Plan
from runbook.model.playbook_test import PlaybookTest, TestCase
from runbook.model.ports import Judge
from runbook.model.step import StepType
from runbook.model.validation import problem_at


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """How one case went; no failures: as expected."""

    name: str
    failures: tuple[Problem, ...]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """All that cases of a file are played with."""

    document: Document
    test: PlaybookTest
    playbook: Playbook
    fleet: Fleet
    steps: Mapping[str, StepType]
    judge: Judge

    def run(self) -> Iterator[CaseResult]:
        """Play each case, in the file's order."""
        for number, case in enumerate(self.test.cases):
            failures = tuple(_Case(self, case, ("cases", number)).failures())
            yield CaseResult(name=case.name, failures=failures)


@dataclass(frozen=True, kw_only=True)
class _Fault:
    path: DocumentPath
    message: str
    hint: str | None = None


class _Case:
    def __init__(self, bench: Bench, case: TestCase, path: DocumentPath) -> None:
        self._bench, self._case, self._path = bench, case, path

    def failures(self) -> Iterator[Problem]:
        for fault in self._faults():
            path = (*self._path, *fault.path)
            yield problem_at(self._bench.document, path, fault.message, fault.hint)

    def _faults(self) -> Iterator[_Fault]:
        case = self._case
        try:
            plan = self._plan()
        except RunbookError as error:
            yield from _not_planned(case, error)
            return
        if case.refused is not None:
            yield _Fault(path=("refused",), message="expected that it cannot be planned; it can")
            return
        unknown = list(_unknown_names(case, plan))
        yield from unknown
        if unknown:
            return
        try:
            played = play(plan, case, self._bench.steps, self._bench.fleet, self._bench.judge)
        except Unanswered as look:
            yield _unanswered(look)
        except RunbookError as error:
            yield _Fault(path=("name",), message=error.message, hint=error.hint)
        else:
            yield from _compare(case, played)

    def _plan(self) -> Plan:
        case = self._case
        return make_plan(
            self._bench.playbook,
            fleet=self._bench.fleet,
            target=case.target,
            given=case.params,
            rehearsal=case.rehearsal,
            tags=case.tags,
            skip_tags=case.skip_tags,
            limit=case.limit,
        )


def _not_planned(case: TestCase, error: RunbookError) -> Iterator[_Fault]:
    if case.refused is None:
        yield _Fault(path=("name",), message=f"it cannot be planned: {error}", hint=error.hint)
    elif case.refused not in str(error):
        message = f"expected a message with {case.refused!r}, got: {error}"
        yield _Fault(path=("refused",), message=message)


def _unknown_names(case: TestCase, plan: Plan) -> Iterator[_Fault]:
    """A test that speaks of a step which is no more would pass for ever."""
    names: list[tuple[DocumentPath, str]] = [
        (("outcomes", number, "step"), outcome.step) for number, outcome in enumerate(case.outcomes)
    ]
    names += [(("expect", "steps", name), name) for name in case.expect.steps]
    names += [(("answers", name), name) for name in case.answers if name != "plan"]
    if case.interrupt_after is not None:
        names.append((("interrupt_after",), case.interrupt_after))
    for path, name in names:
        if not nodes_named(plan, name) and not (path[0] == "answers" and _is_include(plan, name)):
            near = nearest(name, [node.name for node in plan.nodes])
            steps = ", ".join(repr(node.name) for node in plan.nodes[:8])
            hint = f"did you mean {near!r}?" if near else f"its steps: {steps}"
            yield _Fault(path=path, message=f"the plan has no step {name!r}", hint=hint)


def _is_include(plan: Plan, name: str) -> bool:
    return name in plan.scopes


def _unanswered(look: Unanswered) -> _Fault:
    task = look.task
    return _Fault(
        path=("name",),
        message=f"{task.node} on {task.target} looks at the world, and the test does not say what"
        f" it sees: {look.effect}",
        hint=f"add to outcomes: {{step: {task.node}, target: {task.target}, result: {{data: …}}}}",
    )


# ---- expected and got ----------------------------------------------------------------------


def _compare(case: TestCase, played: Played) -> Iterator[_Fault]:
    expect, finish = case.expect, played.finish
    ended = f"{finish.status}" + (f": {finish.reason}" if finish.reason else "")
    if expect.status is not None and expect.status != finish.status:
        message = f"expected the run to end {expect.status}, got {ended}"
        yield _Fault(path=("expect", "status"), message=message, hint=finish.hint or None)
    if expect.reason is not None and expect.reason not in finish.reason:
        message = f"expected a reason with {expect.reason!r}, got {finish.reason!r}"
        yield _Fault(path=("expect", "reason"), message=message)
    yield from _compare_steps(case, played)
    yield from _compare_lines("shows", expect.shows, played.shows)
    yield from _compare_lines("changes", expect.changes, played.changes)
    yield from _compare_lines("not_reached", expect.not_reached, finish.not_reached)
    if expect.questions is not None and expect.questions != played.questions:
        message = (
            f"expected these questions: {_list(expect.questions)}; got {_list(played.questions)}"
        )
        yield _Fault(path=("expect", "questions"), message=message)
    for number in played.unused:
        message = f"nothing asked for this outcome of {case.outcomes[number].step!r}"
        hint = "the run did not come to it, or an earlier outcome fits as well"
        yield _Fault(path=("outcomes", number), message=message, hint=hint)


def _compare_steps(case: TestCase, played: Played) -> Iterator[_Fault]:
    for name, status in case.expect.steps.items():
        for node in nodes_named(played.plan, name):
            got = played.statuses[node.key]
            if got != status:
                said = played.summaries[node.key]
                which = f"{name!r}" if node.name == name else f"{name!r} ({node.key})"
                message = f"expected {which} to be {status}, got {got}" + (f": {said}" * bool(said))
                yield _Fault(path=("expect", "steps", name), message=message)


def _compare_lines(
    key: str, expected: Sequence[str] | None, got: Sequence[str]
) -> Iterator[_Fault]:
    if expected is None:
        return
    left = Counter(got)
    for number, line in enumerate(expected):
        left[line] -= 1
        if left[line] < 0:
            near = nearest(line, list(got)) if got else None
            hint = f"there is {near!r}" if near else f"there is {_list(got)}"
            message = f"expected {line!r} among {key}, got none"
            if line in got:
                message = f"expected {line!r} among {key} once more"
            yield _Fault(path=("expect", key, number), message=message, hint=hint)
    # Counted, not only compared: what is restarted twice was not asked for twice.
    more = list((+left).elements())
    if more:
        message = f"there is more than expected among {key}: {_list(more)}"
        yield _Fault(path=("expect", key), message=message)


def _list(lines: Sequence[str]) -> str:
    return ", ".join(repr(line) for line in lines[:10]) or "nothing"
