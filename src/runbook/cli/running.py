"""Runs a playbook for a command: plan, progress, signals, exit code."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING, Any

from runbook import wiring
from runbook.model.errors import ExitCode, RunbookError
from runbook.rendering.consoles import notes
from runbook.rendering.errors import error_text

if TYPE_CHECKING:
    from runbook.cli.telling import Telling
    from runbook.engine.executor import LocalExecutor, RunOutcome
    from runbook.engine.flights import Flight
    from runbook.model.fleet import Fleet
    from runbook.model.plan import Plan
    from runbook.model.ports import Judge, KeptRun
    from runbook.model.ports import Request as Asked

#: How a run's end becomes the process's exit code.
EXIT_CODES = {
    "done": ExitCode.DONE,
    "rehearsed": ExitCode.DONE,
    "failed": ExitCode.FAILED,
    "halted": ExitCode.FAILED,
    "refused": ExitCode.REFUSED,
    "unknown": ExitCode.UNKNOWN,
    "interrupted": ExitCode.INTERRUPTED,
    "waiting": ExitCode.WAITING,
}


def exit_code(outcome: RunOutcome) -> int:
    """Return the process's exit code for a run; 5 when a lock on a target kept it from all."""
    locked = any(r.data.get("error") == "Locked" for r in outcome.results.values())
    if outcome.finish.status == "refused" and locked:
        return ExitCode.LOCKED
    return EXIT_CODES[outcome.finish.status]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for."""

    playbook: str
    target: str | None
    params: Mapping[str, Any] = field(default_factory=dict)
    rehearsal: bool = False
    yes: bool = False
    incident: str | None = None
    #: A selector that narrows every selection of hosts; steps to run and to leave out, by tags.
    limit: str | None = None
    tags: Sequence[str] = ()
    skip_tags: Sequence[str] = ()
    steal_lock: bool = False
    #: Say nothing while it works; for runs whose only point is their result.
    quiet: bool = False
    #: Keep a record of the run; a check that runs every minute keeps none.
    journal: bool = True
    #: Tells the outside of the run, beside it; None: nobody is told.
    told: Telling | None = None
    #: Who judges, when it is somebody else than usual: one who keeps what was seen.
    judge: Judge | None = None


@dataclass(frozen=True, kw_only=True)
class TakenUp:
    """A run that is resumed, and what the user says of its doubts."""

    #: As it was when the user decided.
    kept: KeptRun
    done: Sequence[str] = ()
    again: Sequence[str] = ()


def run_playbook(request: Request, fleet: Fleet) -> RunOutcome:
    """Plan and run a playbook, showing progress on stderr.

    Raises:
        RunbookError: when it cannot be planned, locked, or journaled.
    """
    return run_plan(plan_for(request, fleet), request, fleet)


def plan_for(request: Request, fleet: Fleet) -> Plan:
    """Return the frozen plan of what the user asked for.

    Raises:
        RunbookError: when it cannot be planned.
    """
    from runbook.engine.planning import make_plan

    return make_plan(
        wiring.load_playbook(request.playbook),
        fleet=fleet,
        target=request.target,
        given=request.params,
        rehearsal=request.rehearsal,
        tags=request.tags,
        skip_tags=request.skip_tags,
        limit=request.limit,
    )


def run_plan(
    plan: Plan, request: Request, fleet: Fleet, taken_up: TakenUp | None = None
) -> RunOutcome:
    """Run a frozen plan, or go on with a run that has begun.

    Raises:
        RunbookError: see `run_playbook`.
    """
    from runbook.cli.confirming import Confirmer
    from runbook.rendering.progress import open_progress

    if taken_up is None and not plan.rehearsal and any(node.changes for node in plan.nodes):
        _tell_of_a_killed_run(plan)
        _tell_of_debts()
    with open_progress(plan, quiet=request.quiet) as progress:
        confirmer = Confirmer(yes=request.yes, pause=progress.pause)
        with (
            _signals(confirmer.asking) as signals,
            wiring.open_run(
                plan,
                fleet,
                watchers=(progress,),
                confirmer=confirmer,
                incident=request.incident,
                keep=request.journal,
                judge=request.judge,
                request=_asked(request, fleet),
                taken_up=taken_up.kept if taken_up is not None else None,
                steal_lock=request.steal_lock,
            ) as run,
        ):
            signals.executor = run.executor
            if run.unjournaled is not None:
                _warn(run.unjournaled)
            elif request.told is not None:
                request.told.begin(run.run_id)
            outcome = _go(run, plan, taken_up)
    for complaint in run.executor.complaints.values():
        _warn(complaint)
    return outcome


def _go(run: wiring.Run, plan: Plan, taken_up: TakenUp | None) -> RunOutcome:
    from runbook.engine.resume import never_begun

    if taken_up is None or plan.rehearsal or never_begun(run.events):
        return run.executor.run(plan)
    return run.executor.resume(
        plan, run.events, by=wiring.who(), done=taken_up.done, again=taken_up.again
    )


def _asked(request: Request, fleet: Fleet) -> Asked:
    """Return what was asked for in words that lead to the same plan from any directory."""
    from pathlib import Path

    from runbook.model.ports import Request as Asked

    return Asked(
        playbook=wiring.playbook_reference(request.playbook),
        target=request.target,
        params=dict(request.params),
        inventory=str(Path(fleet.source).absolute()),
        limit=request.limit,
        tags=tuple(request.tags),
        skip_tags=tuple(request.skip_tags),
        incident=request.incident,
        tell=request.told.tell if request.told is not None else None,
    )


def _tell_of_a_killed_run(plan: Plan) -> None:
    record = wiring.run_without_end(plan)
    if record is not None:
        what = "waits for an answer" if record.status == "waiting" else "was killed, or goes on"
        notes().print(
            f"warning: the last {record.playbook} of {record.target} (by {record.who}) has no end:"
            f" it {what}. What it had done: runbook runs show {record.run_id}; to go on with it"
            f" instead of this: runbook runs resume {record.run_id}",
            soft_wrap=True,
        )


def _tell_of_debts() -> None:
    """A host that was left out of rotation is not put back by a new run: say whose it is."""
    for record in wiring.runs_that_owe():
        what = f"{record.playbook} {record.target or ''}".strip()
        notes().print(
            f"warning: run {record.run_id} of {what} ({record.status})"
            " still owes something, such as a host that it left out of rotation: runbook runs"
            f" resume {record.run_id} --show tells what, and without --show it pays",
            soft_wrap=True,
        )


def _warn(error: RunbookError) -> None:
    with suppress(OSError, SystemExit):
        notes().print(error_text(error, "warning"))


class _Signals:
    """The first Ctrl-C, SIGTERM or SIGHUP starts nothing more; the second stops waiting.

    Before there is a run, the first one ends the process; while a question is asked, it is the
    answer. Once a run is over none of them matters: its last word, what it owes and how that is
    paid by hand, must be told.
    """

    def __init__(self, asking: Event) -> None:
        self._asking = asking
        self._asked = self._raised = False
        self.executor: LocalExecutor | None = None

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Do what a signal means at this moment."""
        name, executor = signal.Signals(number).name, self.executor
        if executor is None:
            raise KeyboardInterrupt
        if executor.over.is_set():
            _write(f"{name}: the run is over; its connections are being closed.")
        elif self._asked:
            self._stop_waiting()
        else:
            self._asked = True
            flights = executor.interrupt(by=name)
            if self._asking.is_set():
                raise KeyboardInterrupt
            _write(f"{name}: {_what_is_left(flights)}")

    def _stop_waiting(self) -> None:
        """Leave what is in flight; a third signal must not cut off what is told of that."""
        if not self._raised:
            self._raised = True
            raise KeyboardInterrupt


@contextmanager
def _signals(asking: Event) -> Iterator[_Signals]:
    """Handle signals for as long as the context lasts."""
    signals = _Signals(asking)
    # What nohup (or a shell, for a job in the background) has told us to ignore stays ignored.
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    numbers = [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, signals.handle) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(line: str) -> None:
    """Say it past Python's own buffers: a handler may have come in the middle of a print."""
    with suppress(OSError):  # after a hangup there is nobody to read it
        os.write(2, f"\n{line}\n".encode(errors="replace"))


def _what_is_left(flights: Sequence[Flight]) -> str:
    """Say what is seen to its end, in words; a restart that was asked for cannot be taken back."""
    acting = [flight for flight in flights if flight.changes]
    if not acting:
        return "stopping; nothing is being changed."
    most = 5  # names that a tired eye takes in
    words = ", ".join(flight.words() for flight in acting[:most])
    more = f" and {len(acting) - most} more" if len(acting) > most else ""
    return (
        f"finishing {words}{more}, then stopping; nothing new is begun."
        " Once more: stop waiting for it."
    )
