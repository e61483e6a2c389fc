"""The local executor: asks `decide` what is next, has it performed, and journals before it acts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from runbook.engine.decide import decide, why_not_run
from runbook.engine.outcomes import StepOutcome, step_outcomes
from runbook.engine.perform import Performer
from runbook.model.errors import DoorError
from runbook.model.events import Event
from runbook.model.plan import Confirm, Finish, Perform, Plan, Result, Task
from runbook.model.ports import Locks, Watcher

#: Asked with what would be touched, and with what was seen; True means go ahead. The second value
#: names who answered.
Confirmer = Callable[[Confirm, Plan, Mapping[str, Result]], tuple[bool, str]]


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """How a run ended: the end, every step's outcome, every task's result."""

    run_id: str
    plan: Plan
    finish: Finish
    steps: tuple[StepOutcome, ...]
    results: dict[str, Result]


class LocalExecutor:
    """Runs a plan in this process, tasks side by side in threads."""

    def __init__(
        self,
        performer: Performer,
        *,
        keepers: Sequence[Watcher],
        views: Sequence[Watcher] = (),
        locks: Locks,
        confirmer: Confirmer,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._performer = performer
        #: The journal and its like: told first, so that nothing is shown that was not kept.
        self._keepers = tuple(keepers)
        #: Screens; one that fails is left alone from then on.
        self._views = list(views)
        self._locks = locks
        self._confirmer = confirmer
        self._now = now
        self._telling = threading.Lock()
        self._interrupted = threading.Event()
        self._in_flight: set[str] = set()
        #: Tasks that nobody waits for any more, after a second interrupt.
        self.abandoned: tuple[str, ...] = ()
        #: What could not be journaled, by message; shown when the run is over.
        self.complaints: dict[str, DoorError] = {}

    def interrupt(self) -> tuple[str, ...]:
        """Start nothing more; return the keys of tasks in flight, which are seen to their end."""
        self._interrupted.set()
        self._performer.world.interrupted.set()
        return tuple(sorted(self._in_flight))

    def run(self, plan: Plan) -> RunOutcome:
        """Run a plan to its end.

        After a second interrupt the outcome is what is known by then: tasks that go on elsewhere
        are `unknown`, and named in `abandoned`.

        Raises:
            Locked: when another run works on the same service or database.
        """
        with ExitStack() as stack:
            if not plan.rehearsal:
                for name in sorted({n.lock for n in plan.nodes if n.changes and n.lock}):
                    stack.enter_context(self._locks.hold(name, self._performer.run_id))
            return self._run(plan)

    def _run(self, plan: Plan) -> RunOutcome:
        results: dict[str, Result] = {}
        answers: dict[str, bool] = {}
        self._tell("planned", None, {"plan": plan.to_json(), "hash": plan.hash})
        pool = ThreadPoolExecutor(max_workers=plan.parallel)
        try:
            while not self.abandoned:
                command = decide(plan, results, answers, interrupted=self._interrupted.is_set())
                match command:
                    case Perform(tasks=tasks):
                        results |= self._perform_all(pool, tasks)
                    case Confirm() as confirm:
                        answers[confirm.key] = self._ask(confirm, plan, results)
                    case Finish() as finish:
                        return self._end(plan, finish, results)
        finally:
            pool.shutdown(wait=not self.abandoned, cancel_futures=True)
        return self._end(plan, self._left_behind(), results)

    def _perform_all(self, pool: ThreadPoolExecutor, tasks: tuple[Task, ...]) -> dict[str, Result]:
        """Perform tasks side by side, and wait for all: a batch is left by no one."""
        waiting: dict[Future[Result], Task] = {pool.submit(self._perform, t): t for t in tasks}
        results: dict[str, Result] = {}
        try:
            for future in as_completed(waiting):
                results[waiting[future].key] = future.result()
        except KeyboardInterrupt:
            results |= {waiting[f].key: f.result() for f in waiting if f.done()}
            self.abandoned = tuple(sorted(self._in_flight - set(results)))
            for key in self.abandoned:
                why = "still going on; nobody waited for its end"
                results.setdefault(key, Result(status="unknown", summary=why))
        return results

    def _perform(self, task: Task) -> Result:
        if self._interrupted.is_set() and not task.changes:
            return Result(status="skipped", summary="not begun: interrupted")
        self._in_flight.add(task.key)
        result = self._performer.perform(task, lambda kind, data: self._tell(kind, task.key, data))
        self._tell("task_finished", task.key, {"result": asdict(result)})
        self._in_flight.discard(task.key)
        return result

    def _left_behind(self) -> Finish:
        return Finish(
            status="interrupted",
            reason=f"stopped waiting; still going on elsewhere: {', '.join(self.abandoned)}",
            hint=f"look there before anything else; `runbook runs show {self._performer.run_id}`"
            " has what was asked for",
        )

    def _ask(self, confirm: Confirm, plan: Plan, results: Mapping[str, Result]) -> bool:
        self._tell("asked", None, {"touches": list(confirm.touches), "hash": confirm.hash})
        yes, who = self._confirmer(confirm, plan, results)
        self._tell("answered", None, {"yes": yes, "by": who, "hash": confirm.hash})
        return yes

    def _end(self, plan: Plan, finish: Finish, results: dict[str, Result]) -> RunOutcome:
        said = {"status": finish.status, "reason": finish.reason, "hint": finish.hint}
        self._tell("finished", None, said)
        return RunOutcome(
            run_id=self._performer.run_id,
            plan=plan,
            finish=finish,
            steps=tuple(_explained(plan, step, results) for step in step_outcomes(plan, results)),
            results=results,
        )

    def _tell(self, kind: Any, task: str | None, data: dict[str, Any]) -> None:
        event = Event(kind=kind, at=self._now(), task=task, data=data)
        with self._telling:
            for keeper in self._keepers:
                try:
                    keeper.notice(event)
                except DoorError as error:
                    # An intent that cannot be kept is a change that must not be made. Anything
                    # else must not abandon hosts in flight: it is told at the end.
                    if kind == "intended":
                        raise
                    self.complaints.setdefault(error.message, error)
            for view in tuple(self._views):
                try:
                    view.notice(event)
                except (Exception, SystemExit):  # noqa: BLE001 - rich leaves so on a broken pipe
                    # A closed terminal must not cost a host in flight its care.
                    self._views.remove(view)


def _explained(plan: Plan, step: StepOutcome, results: Mapping[str, Result]) -> StepOutcome:
    """A step without a task was skipped, or left out by a rehearsal, or not reached (None)."""
    if step.result is not None:
        return step
    return replace(step, result=why_not_run(plan, step.node, results))
