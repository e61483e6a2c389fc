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
from runbook.model.document import visible
from runbook.model.errors import ExitCode, NotConfirmed, RunbookError

if TYPE_CHECKING:
    from runbook.engine.executor import LocalExecutor, RunOutcome
    from runbook.model.fleet import Fleet
    from runbook.model.plan import Confirm, Plan, Result
    from runbook.model.ports import Judge

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
    #: Who judges, when it is somebody else than usual: one who keeps what was seen.
    judge: Judge | None = None


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
    if needs_yes:
        _tell_of_a_killed_run(plan)
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
            judge=request.judge,
        ) as run,
        _signals(run.executor, asking),
    ):
        if run.unjournaled is not None:
            _warn(run.unjournaled)
        outcome = run.executor.run(plan)
    for complaint in run.executor.complaints.values():
        _warn(complaint)
    return outcome


def _tell_of_a_killed_run(plan: Plan) -> None:
    record = wiring.run_without_end(plan)
    if record is not None:
        notes().print(
            f"warning: the last {record.playbook} of {record.target} (by {record.who}) has no end:"
            f" it was killed, or goes on. What it had done: runbook runs show {record.run_id}",
            soft_wrap=True,
        )


def _warn(error: RunbookError) -> None:
    with suppress(OSError, SystemExit):
        notes().print(error_text(error, "warning"))


def _confirmer(
    request: Request, pause: Callable[[], None], asking: Event
) -> Callable[[Confirm, Plan, Mapping[str, Result]], tuple[bool, str]]:
    def confirm(asked: Confirm, plan: Plan, results: Mapping[str, Result]) -> tuple[bool, str]:
        from runbook.cli.rendering.intentions import show_intentions

        try:
            pause()
            show_intentions(plan, results, notes())
        except (OSError, SystemExit):
            return False, "nobody: what would be done could not be shown"
        if request.yes:
            notes().print(f"Confirmed by --yes (confirmation {asked.hash}).", highlight=False)
            return True, f"{wiring.who()} (--yes)"
        asking.set()
        try:
            return _ask(asked, plan), wiring.who()
        finally:
            asking.clear()

    return confirm


def _ask(asked: Confirm, plan: Plan) -> bool:
    """Ask with the act and its target in the question: what stands above may have scrolled off."""
    acts = [f"{n.name} ({_briefly(n.targets)})" for n in plan.nodes if n.changes]
    count = len(asked.touches)
    things = "1 change" if count == 1 else f"up to {count} changes"
    what = visible("; then ".join(acts))
    notes().print(f"\n{what}: {things}, as shown. Go ahead? [y/N] ", end="", soft_wrap=True)
    try:
        answer = input()
    except (EOFError, KeyboardInterrupt):
        notes().print()
        return False
    return answer.strip().lower() in {"y", "yes"}


def _briefly(targets: tuple[str, ...]) -> str:
    more = f" and {len(targets) - 3} more" if len(targets) > 3 else ""
    return ", ".join(targets[:3]) + more


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
