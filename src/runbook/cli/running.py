"""Runs a playbook for a command: plan, confirm, progress, signals, exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING, Any

from runbook import wiring
from runbook.cli.rendering.consoles import notes
from runbook.cli.rendering.errors import error_text
from runbook.model.errors import ExitCode, NotConfirmed

if TYPE_CHECKING:
    from runbook.engine.executor import LocalExecutor, RunOutcome
    from runbook.model.fleet import Fleet
    from runbook.model.plan import Confirm, Plan, Result

#: How a run's end becomes the process's exit code.
EXIT_CODES = {
    "done": ExitCode.DONE,
    "rehearsed": ExitCode.DONE,
    "failed": ExitCode.FAILED,
    "halted": ExitCode.FAILED,
    "refused": ExitCode.REFUSED,
    "unknown": ExitCode.UNKNOWN,
    "interrupted": ExitCode.INTERRUPTED,
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for."""

    playbook: str
    target: str | None
    params: Mapping[str, Any] = field(default_factory=dict)
    rehearsal: bool = False
    yes: bool = False
    incident: str | None = None
    #: Say nothing while it works; for runs whose only point is their result.
    quiet: bool = False
    #: Keep a record of the run; a check that runs every minute keeps none.
    journal: bool = True


def run_playbook(request: Request, fleet: Fleet) -> RunOutcome:
    """Plan and run a playbook, showing progress on stderr.

    Raises:
        RunbookError: when it cannot be planned, locked, or journaled.
    """
    from runbook.engine.planning import make_plan

    playbook = wiring.load_playbook(request.playbook)
    plan = make_plan(
        playbook,
        fleet=fleet,
        target=request.target,
        given=request.params,
        rehearsal=request.rehearsal,
    )
    return run_plan(plan, request, fleet)


def run_plan(plan: Plan, request: Request, fleet: Fleet) -> RunOutcome:
    """Run a frozen plan.

    Raises:
        RunbookError: see `run_playbook`.
    """
    from runbook.cli.rendering.progress import open_progress

    needs_yes = any(node.changes for node in plan.nodes) and not request.rehearsal
    if needs_yes and not request.yes and not sys.stdin.isatty():
        raise NotConfirmed(
            f"{plan.playbook} changes things, and there is no terminal to ask at",
            hint="--dry-run shows what it would do; --yes does it without asking",
        )
    asking = Event()
    with (
        open_progress(plan, quiet=request.quiet) as progress,
        wiring.open_run(
            plan,
            fleet,
            watchers=(progress,),
            confirmer=_confirmer(request, progress.pause, asking),
            incident=request.incident,
            keep=request.journal,
        ) as run,
        _signals(run.executor, asking),
    ):
        if run.unjournaled is not None:
            notes().print(f"warning: {error_text(run.unjournaled)}", markup=False)
        outcome = run.executor.run(plan)
    for complaint in run.executor.complaints.values():
        notes().print(f"warning: {error_text(complaint)}", markup=False)
    return outcome


def _confirmer(
    request: Request, pause: Callable[[], None], asking: Event
) -> Callable[[Confirm, Plan, Mapping[str, Result]], tuple[bool, str]]:
    def confirm(asked: Confirm, plan: Plan, results: Mapping[str, Result]) -> tuple[bool, str]:
        from runbook.cli.rendering.intentions import show_intentions

        pause()
        show_intentions(plan, results, notes())
        if request.yes:
            notes().print(f"Confirmed by --yes (confirmation {asked.hash}).", highlight=False)
            return True, f"{wiring.who()} (--yes)"
        asking.set()
        try:
            return _ask(asked), wiring.who()
        finally:
            asking.clear()

    return confirm


def _ask(asked: Confirm) -> bool:
    count = len(asked.touches)
    things = "this change" if count == 1 else f"up to {count} changes"
    notes().print(f"\nMake {things}, as shown (confirmation {asked.hash})? [y/N] ", end="")
    try:
        answer = input()
    except (EOFError, KeyboardInterrupt):
        notes().print()
        return False
    return answer.strip().lower() in {"y", "yes"}


@contextmanager
def _signals(executor: LocalExecutor, asking: Event) -> Iterator[None]:
    """The first Ctrl-C, SIGTERM or SIGHUP starts nothing more; the second stops waiting.

    While a question is asked, the first one is the answer.
    """
    asked = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        busy = executor.interrupt()
        if asking.is_set():
            raise KeyboardInterrupt
        if not busy:
            return
        what = ", ".join(key.rsplit("/", 1)[-1] for key in busy)
        with suppress(OSError):  # after a hangup there is nobody to read it
            print(
                f"\n{signal.Signals(number).name}: finishing {what}, then stopping."
                " Once more: stop waiting for it.",
                file=sys.stderr,
            )

    # What nohup (or a shell, for a job in the background) has told us to ignore stays ignored.
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    numbers = [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
