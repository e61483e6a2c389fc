"""`decide`: from a frozen plan and what has happened so far to what happens next. Pure, versioned.

Clock, random and environment stay outside. An old plan is decided by the version it was made for,
so a run that is resumed after an upgrade goes on as it began.

The order of a run: what a crash left owed is settled. Steps that only look run in their turn.
Before the first change, every change of the plan is prepared: looked at live, its footprints
collected. These are shown and confirmed once, bound to the plan's hash. Then the steps act, in
order, and may touch nothing else. How a run ends is told in `ending`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from runbook.engine import asking, ending, knowing
from runbook.engine.book import Results, book_of
from runbook.engine.moment import Moment, Stop, covers, finish_of
from runbook.engine.obligations import settle_cut_off
from runbook.engine.outcomes import step_outcome
from runbook.engine.turns import not_exercised, turn
from runbook.model.errors import RunbookError
from runbook.model.plan import Command, Confirm, Finish, Node, Obligation, Perform, Plan, Result

#: What was answered to a Confirm, by its key.
Answers = Mapping[str, bool]

CONFIRM = asking.CONFIRM


def decide(
    plan: Plan,
    results: Results,
    answers: Answers,
    *,
    interrupted: bool = False,
    owed: Sequence[Obligation] = (),
    confirmed: Collection[str] = (),
) -> Command:
    """Return the next command: tasks to perform, a confirmation to ask for, or the end.

    Asked when nothing is in flight. `owed` are the obligations that are open now; `confirmed`
    are the lines of each Confirm of the kind plan that was answered with yes: the plan's question
    is asked anew for what is not among them. With
    `interrupted` nothing new begins: the tasks of a Perform that is returned nevertheless settle
    what is owed or belong to `always` steps, and are to be performed. With a `Ledger` for results
    the whole of a run costs time linear in its tasks.
    """
    decided = _VERSIONS[plan.engine]
    return decided(plan, results, answers, interrupted, owed, frozenset(confirmed))


def _decide(  # noqa: PLR0917
    plan: Plan,
    results: Results,
    answers: Answers,
    interrupted: bool,
    owed: Sequence[Obligation],
    confirmed: frozenset[str],
) -> Command:
    m = Moment(
        plan=plan,
        book=book_of(plan, results),
        answers=answers,
        interrupted=interrupted,
        owed=tuple(owed),
        confirmed=confirmed,
    )
    said = settle_cut_off(m) or _main_line(m)
    return said if isinstance(said, Perform | Confirm) else ending.end(m, said)


class _Line:
    """How far the main line has come: steps that are over stay over."""

    def __init__(self, plan: Plan) -> None:
        self.nodes = tuple(node for node in plan.nodes if node.role == "main")
        self.position = 0
        #: Failures that the run went on after, by the step's key.
        self.borne: dict[str, Finish] = {}

    def leave(self, include: str) -> None:
        """Go on to the first step after an include."""
        while self.position < len(self.nodes) and covers(include, self.nodes[self.position]):
            self.position += 1


def _main_line(m: Moment) -> Perform | Confirm | Stop:
    line: _Line = m.book.memo.get("line") or _Line(m.plan)
    m.book.memo["line"] = line
    while line.position < len(line.nodes):
        node = line.nodes[line.position]
        said = turn(m, node)
        if isinstance(said, Stop) and _goes_on(said, node):
            if node.continues is not None:
                wanted = _follow_within(m, node, line)
                if wanted is not None:
                    return wanted
                line.leave(node.continues)
            else:
                line.position += 1
            line.borne[node.key] = _borne(said.finish)
        elif said is not None:
            return said
        else:
            line.position += 1
    return Stop(finish=_over(m, line))


def _goes_on(stop: Stop, node: Node) -> bool:
    """Whether a failure lets the run go on; a step that an interrupt stopped does not."""
    if stop.failed is None or stop.finish.status == "interrupted":
        return False
    return node.on_failure == "continue" or node.continues is not None


def _follow_within(m: Moment, node: Node, line: _Line) -> Perform | Confirm | Stop | None:
    """Before an include is left, the steps inside of it that wait for the failure run."""
    include = node.continues or ""
    inside = [n for n in m.plan.nodes if n.role == "on_failure" and covers(include, n)]
    troubles: list[Finish] = []
    wanted = ending.follow(m, [node], inside, troubles)
    if wanted is None and any(trouble.status == "interrupted" for trouble in troubles):
        return asking.interrupted()
    for number, trouble in enumerate(troubles):
        line.borne.setdefault(f"{node.key} {number}", _borne(trouble))
    return wanted


def _borne(finish: Finish) -> Finish:
    status = "unknown" if finish.status == "unknown" else "failed"
    return replace(finish, status=status)  # type: ignore[arg-type]


def _over(m: Moment, line: _Line) -> Finish:
    """Failures within a threshold let a run go on; they do not make it a success."""
    for node in line.nodes:
        if node.key in line.borne:
            return line.borne[node.key]
        result = _came_to(m, node)
        if result is not None and not result.good:
            return finish_of(node, result)
    changes = any(node.changes for node in m.plan.nodes)
    return Finish(status="rehearsed" if m.plan.rehearsal and changes else "done")


def _came_to(m: Moment, node: Node) -> Result | None:
    """What a step that its condition left out saw before that is no failure of the run."""
    if m.plan.engine > 1 and knowing.holds(m, node) is False:
        return None
    return step_outcome(m.book, node).result


# ---- what was not run ----------------------------------------------------------------------


def why_not_run(plan: Plan, node: Node, results: Results) -> Result | None:
    """Return what to say of a step that a plan, played to its end, had no task for."""
    m = Moment(plan=plan, book=book_of(plan, results), answers={})
    m = replace(m, ending=node.role != "main")
    try:
        return _why_not_due(m, node) or _why_not(m, node)
    except RunbookError as error:
        return Result(status="failed", summary=error.message, hint=error.hint or "")


def _why_not_due(m: Moment, node: Node) -> Result | None:
    if node.role == "always" and not m.acted_or_showed:
        return Result(status="skipped", summary="not run: nothing was changed")
    if node.role != "on_failure" or _any_failed(m, node):
        return None
    why = f"it runs only when {node.of} does not end well"
    if m.plan.rehearsal:
        return Result(status="not_exercised", summary=f"not run: {why}")
    return Result(status="skipped", summary=f"not run: {why}")


def _any_failed(m: Moment, handler: Node) -> bool:
    before = m.plan.nodes[: m.number(handler)]
    results = (knowing.outcome(m, n) for n in before if covers(handler.of or "", n))
    return any(result is not None and not result.good for result in results)


def _why_not(m: Moment, node: Node) -> Result | None:
    if knowing.holds(m, node) is False:
        return Result(status="skipped", summary=f"not run: {_condition(node)} does not hold")
    why = not_exercised(m, node)
    if why is not None:
        return Result(status="not_exercised", summary=f"not run: {why}")
    return None


def _condition(node: Node) -> str:
    conditions = [*(expression for _, expression in node.also_when), node.when]
    return " and ".join(dict.fromkeys(c for c in conditions if c is not None))


#: Old versions stay: recorded runs are decided by the rules that they began with. In version 1
#: a rehearsal of a rolling step went on after an interrupt, a host that could not be reached failed
#: the run of a rolling step that was then skipped, a condition's failure had no hint, and one yes
#: stood for whatever came later.
_VERSIONS = {1: _decide, 2: _decide}
CURRENT = 2
