"""The local executor: asks `decide` what is next, has it performed, and journals before it acts."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from runbook.engine import asking
from runbook.engine.book import Ledger
from runbook.engine.decide import decide, why_not_run
from runbook.engine.flights import Flight, Flights, left_behind
from runbook.engine.listening import Mailbox, listening
from runbook.engine.outcomes import StepOutcome, step_outcomes
from runbook.engine.perform import Performer
from runbook.engine.resume import (
    AGAIN,
    DONE,
    Answer,
    TakenUp,
    check_standing,
    in_time,
    obligation_from_json,
    take_up,
)
from runbook.model.errors import DoorError
from runbook.model.events import Event
from runbook.model.plan import Confirm, Finish, Obligation, Perform, Plan, Result, Task
from runbook.model.ports import Locks, Request, Watcher

#: Seconds after which a signal is heard at the latest; see `each_ended`.
_HEARS_S = 0.2

#: Asked with what would be touched, and with what was seen; True means go ahead, None that nobody
#: is here to answer: then the run waits. The second value names who answered.
Confirmer = Callable[[Confirm, Plan, Mapping[str, Result]], tuple[bool | None, str]]


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """How a run ended: the end, every step's outcome, every task's result."""

    run_id: str
    plan: Plan
    finish: Finish
    steps: tuple[StepOutcome, ...]
    results: dict[str, Result]
    #: What the run still owes the world.
    owed: tuple[Obligation, ...] = ()
    #: Somebody wanted it to stop; it may have come to its end all the same, a look cut short.
    stop_asked: bool = False


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
        mailbox: Mailbox | None = None,
        request: Request | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._performer = performer
        #: The journal and its like: told first, so that nothing is shown that was not kept.
        self._keepers = tuple(keepers)
        #: Screens; one that fails is left alone from then on.
        self._views = list(views)
        self._locks = locks
        self._confirmer = confirmer
        self._mailbox = mailbox
        #: What the run was asked for: to whom its question is put, or who has answered it before.
        self._request = request
        self._now = now
        self._telling = threading.Lock()
        self._interrupted = threading.Event()
        #: Who has asked the run to stop, until the journal was told.
        self._stopped_by: str | None = None
        #: Set when the run is over, but for the telling of its end.
        self.over = threading.Event()
        self._flights = Flights()
        #: What has ended in this process, by task.
        self._ended: dict[str, Result] = {}
        self._taken = TakenUp()
        self._owed: dict[str, Obligation] = {}
        #: Who answered a step's own question, by the step's key.
        self._answered: dict[str, Answer] = {}
        #: Tasks that nobody waits for any more, after a second interrupt.
        self.abandoned: tuple[str, ...] = ()
        #: What could not be journaled, by message; shown when the run is over.
        self.complaints: dict[str, DoorError] = {}

    def interrupt(self, by: str | None = None) -> tuple[Flight, ...]:
        """Start nothing more; return what is in flight, which is seen to its end.

        Called by signals' handlers too: it takes no lock. `by` is told to the journal, unless it
        has it from there.
        """
        self._stopped_by = self._stopped_by or by
        self._interrupted.set()
        self._performer.world.interrupted.set()
        return self._flights.now()

    def run(self, plan: Plan) -> RunOutcome:
        """Run a plan to its end, or until it waits for an answer that nobody here gives.

        After a second interrupt the outcome is what is known by then: tasks that go on elsewhere
        are `unknown`, and named in `abandoned`.

        A rehearsal that lost its process is run so again: it has changed nothing.

        Raises:
            Locked: when another run works on the same service or database.
        """
        with self._holding(plan):
            said = {"plan": plan.to_json(), "hash": plan.hash, "pid": os.getpid()}
            self._tell("planned", None, said)
            return self._run(plan)

    def resume(
        self,
        plan: Plan,
        events: Sequence[Event],
        *,
        by: str,
        done: Sequence[str] = (),
        again: Sequence[str] = (),
    ) -> RunOutcome:
        """Go on with a run from its events; `done` and `again` settle doubts, by tasks' keys.

        Raises:
            Refused: when what ran at the end may have undone what is not settled by these.
            Locked: when another run works on the same service or database.
        """
        choices = {DONE: list(done), AGAIN: list(again)}
        check_standing(plan, events, choices)
        with self._holding(plan):
            said = {"by": by, "pid": os.getpid(), "choices": choices}
            resumed = self._tell("resumed", None, said)
            self._taken = take_up(plan, [*events, resumed], self._performer.run_id)
            self._owed = {debt.key: debt for debt in self._taken.owed}
            return self._run(plan)

    def _holding(self, plan: Plan) -> ExitStack:
        with ExitStack() as stack:
            if not plan.rehearsal:
                for name in sorted({n.lock for n in plan.nodes if n.changes and n.lock}):
                    stack.enter_context(self._locks.hold(name, self._performer.run_id))
                    self._hold_afar(stack, name)
            return stack.pop_all()

    def _hold_afar(self, stack: ExitStack, name: str) -> None:
        """Hold a service's lock on its own hosts as well: others may work from other machines."""
        kind, _, of = name.partition(" ")
        if kind == "service" and self._performer.target_locks is not None:
            locks, owner = self._performer.target_locks, self._performer.run_id
            held = stack.enter_context(locks.hold(kind, of, owner))
            self._tell("locked", None, dict(held.taken()))

    def _run(self, plan: Plan) -> RunOutcome:
        """Run to the end; a second interrupt, wherever it strikes, is one as well."""
        results = Ledger(self._taken.results)
        try:
            finish = self._loop(plan, results)
            self.over.set()
        except KeyboardInterrupt:
            self.over.set()
            results = self._left_with(results)
            finish = self._left_behind()
        return self._end(plan, finish, results)

    def _loop(self, plan: Plan, results: Ledger) -> Finish:
        answers: dict[str, bool] = {}
        confirmed: frozenset[str] = frozenset()
        with listening(self._listen), _threads(plan.parallel) as pool:
            while True:
                known = self._interrupted.is_set()
                owed = tuple(self._owed.values())
                command = decide(
                    plan, results, answers, interrupted=known, owed=owed, confirmed=confirmed
                )
                match command:
                    case Perform(tasks=tasks):
                        results |= self._perform_all(pool, tasks, interrupted=known)
                    case Confirm() as decided:
                        confirm = asking.put_to(decided, self._request)
                        yes = self._ask(confirm, plan, results)
                        if yes is None:
                            return self._waiting_for(confirm)
                        answers[confirm.key] = yes
                        confirmed |= asking.confirmed_by(confirm, yes=yes)
                    case Finish() as finish:
                        return finish

    def _left_with(self, results: Ledger) -> Ledger:
        """Return what is known when nobody waits any more: of what is in flight, how it is left."""
        flights = self._flights.now()
        ended = dict(self._ended)
        left = tuple(flight for flight in flights if flight.key not in ended)
        self.abandoned = tuple(flight.key for flight in left)
        owed = tuple(self._owed.values())
        behind = {flight.key: left_behind(flight, owed) for flight in left}
        # Made anew: the interrupt may have struck while it was written to.
        return Ledger({**dict(results), **ended, **behind})

    # ---- tasks -------------------------------------------------------------------------------

    def _perform_all(
        self, pool: ThreadPoolExecutor, tasks: tuple[Task, ...], *, interrupted: bool
    ) -> dict[str, Result]:
        """Perform tasks side by side, and wait for all: a batch is left by no one."""
        waiting: dict[Future[Result | None], Task] = {
            pool.submit(self._perform, task, interrupted=interrupted): task for task in tasks
        }
        results = {waiting[future].key: future.result() for future in each_ended(waiting)}
        return {key: result for key, result in results.items() if result is not None}

    def _perform(self, task: Task, *, interrupted: bool) -> Result | None:
        """Perform a task; None when an interrupt came before it began.

        `interrupted` is what was known when the task was decided: what is decided after an
        interrupt (a debt to settle, what always runs) is for then.
        """
        if task.wait_s > 0:
            self._interrupted.wait(task.wait_s)
        # Taken note of before it looks: a signal's handler that does not see the task in flight
        # has set its flag already, so what it calls untouched stays so.
        self._flights.begin(task)
        if not interrupted and self._interrupted.is_set():
            self._flights.end(task.key)
            return None
        result = self._performer.perform(
            self._with_what_is_known(task), lambda kind, data: self._tell(kind, task.key, data)
        )
        result = _as_data(result, task)
        self._tell("task_finished", task.key, {"result": asdict(result)})
        self._ended[task.key] = result
        self._flights.end(task.key)
        return result

    def _with_what_is_known(self, task: Task) -> Task:
        given = dict(task.given)
        if task.key in self._taken.crashed:
            given["crashed"] = _plain(self._taken.crashed[task.key])
        if task.node in self._answered:
            given["answer"] = _plain(self._answered[task.node])
        return replace(task, given=given)

    def _left_behind(self) -> Finish:
        still = f"still going on elsewhere: {', '.join(self.abandoned)}"
        return Finish(
            status="interrupted",
            reason=f"stopped waiting; {still if self.abandoned else 'nothing was in flight'}",
            hint=f"`runbook runs resume {self._performer.run_id}` looks there and goes on;"
            " what each host was left at is said above",
        )

    # ---- questions ---------------------------------------------------------------------------

    def _ask(self, confirm: Confirm, plan: Plan, results: Mapping[str, Result]) -> bool | None:
        """Return the answer: one that was given before to the very same question, or a new one."""
        given = self._taken.answers.get((confirm.key, confirm.hash))
        # An approval that comes to be used too late is none: it is asked for anew.
        if given is None or not given.counts(self._now()):
            asked = self._stands_open(confirm) or self._tell("asked", None, _question(confirm))
            yes, who = self._answer_of(confirm, plan, results)
            if yes is None or not in_time(asked, self._now()):
                return None
            given = Answer(yes=yes, by=who, at=self._now())
            said = {"key": confirm.key, "yes": yes, "by": who, "hash": confirm.hash}
            self._tell("answered", None, said)
        if confirm.node is not None:
            self._answered[confirm.node] = given
        return given.yes

    def _answer_of(
        self, confirm: Confirm, plan: Plan, results: Mapping[str, Result]
    ) -> tuple[bool | None, str]:
        before = asking.said_before(confirm, self._request)
        return (True, before) if before else self._confirmer(confirm, plan, results)

    def _stands_open(self, confirm: Confirm) -> Event | None:
        """How this was asked before, if it may still be answered: its time runs from then."""
        before = self._taken.open_question
        if before is None or (before.get("key"), before["hash"]) != (confirm.key, confirm.hash):
            return None
        asked = Event(kind="asked", at=float(before["at"]), data=dict(before))
        return asked if in_time(asked, self._now()) else None

    def _waiting_for(self, confirm: Confirm) -> Finish:
        run_id = self._performer.run_id
        who = f" by {' or '.join(confirm.by)}" if confirm.by else ""
        what = confirm.prompt or f"{len(confirm.touches)} changes, to be confirmed"
        by_itself = self._request is not None and self._request.rule
        then = "`runbook serve`" if by_itself else f"`runbook runs resume {run_id}`"
        return Finish(
            status="waiting",
            reason=f"for an answer{who}: {what}",
            hint=f"`runbook runs approve {run_id}` answers it (--deny: no), then {then} goes on",
        )

    # ---- telling -----------------------------------------------------------------------------

    def _end(self, plan: Plan, finish: Finish, results: Ledger) -> RunOutcome:
        self._tell_of_interrupt()
        said = {"status": finish.status, "reason": finish.reason, "hint": finish.hint}
        self._tell("finished", None, said)
        return RunOutcome(
            run_id=self._performer.run_id,
            plan=plan,
            finish=finish,
            steps=tuple(_explained(plan, step, results) for step in step_outcomes(plan, results)),
            results=dict(results),
            owed=tuple(self._owed.values()),
            stop_asked=self._interrupted.is_set(),
        )

    def _listen(self) -> None:
        """Hear whether somebody has asked the run to stop, here or from another process."""
        try:
            news = self._mailbox.news() if self._mailbox is not None else ()
        except DoorError as error:
            self.complaints.setdefault(error.message, error)
            return
        except Exception as error:  # noqa: BLE001 - to be deaf from now on must be told
            what = f"nobody is heard any more who asks this run to stop: {error}"
            self.complaints.setdefault(what, DoorError(what))
            return
        if any(event.kind == "interrupted" for event in news):
            self.interrupt()
        self._tell_of_interrupt()

    def _tell_of_interrupt(self) -> None:
        by, self._stopped_by = self._stopped_by, None
        if by is not None:
            self._tell("interrupted", None, {"by": by})

    def _tell(self, kind: Any, task: str | None, data: dict[str, Any]) -> Event:
        event = Event(kind=kind, at=self._now(), task=task, data=data)
        with self._telling:
            for keeper in self._keepers:
                try:
                    keeper.notice(event)
                except DoorError as error:
                    # What cannot be kept beforehand (an intent, a debt) must not be done.
                    # Anything else must not abandon hosts in flight: it is told at the end.
                    if kind in {"intended", "owed"}:
                        raise
                    self.complaints.setdefault(error.message, error)
            self._follow(event)
            for view in tuple(self._views):
                try:
                    view.notice(event)
                except (Exception, SystemExit):  # noqa: BLE001 - rich leaves so on a broken pipe
                    # A closed terminal must not cost a host in flight its care.
                    self._views.remove(view)
        return event

    def _follow(self, event: Event) -> None:
        self._flights.follow(event.kind, event.task, event.data)
        if event.kind == "owed":
            self._owed[event.data["key"]] = obligation_from_json(event.data)
        elif event.kind == "paid":
            self._owed.pop(event.data["key"], None)


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Have threads; after a second interrupt nobody waits for what they are at."""
    pool, wait = ThreadPoolExecutor(max_workers=count), True
    try:
        yield pool
    except KeyboardInterrupt:
        wait = False
        raise
    finally:
        pool.shutdown(wait=wait, cancel_futures=True)


def each_ended(futures: Iterable[Future[Any]]) -> Iterator[Future[Any]]:
    """Yield futures as they end, waiting never long in one go.

    A signal's handler runs in the main thread, between two steps of its own. The kernel may give
    the signal to another thread; then nothing wakes a main thread that waits without an end, and
    Ctrl-C would be heard when the host in flight is done.
    """
    left = set(futures)
    while left:
        with suppress(TimeoutError):
            for future in as_completed(left, timeout=_HEARS_S):
                left.remove(future)
                yield future


def _as_data(result: Result, task: Task) -> Result:
    """Return a result that can be kept; one that cannot is a defect of its step, and told so."""
    try:
        json.dumps(asdict(result))
    except (TypeError, ValueError) as error:
        return Result(
            status="unknown" if task.changes else "failed",
            summary=f"internal error: what came of it ({result.status}) cannot be kept: {error}",
            hint="this is a defect of the step: report it",
        )
    return result


def _question(confirm: Confirm) -> dict[str, Any]:
    question: dict[str, Any] = _plain(confirm)
    return question


def _plain(value: Any) -> Any:
    """Return a dataclass as it comes back from the journal: tuples are lists there."""
    return json.loads(json.dumps(asdict(value)))


def _explained(plan: Plan, step: StepOutcome, results: Mapping[str, Result]) -> StepOutcome:
    """A step without a task was skipped, or left out by a rehearsal, or not reached (None)."""
    if step.result is not None:
        return step
    return replace(step, result=why_not_run(plan, step.node, results))
