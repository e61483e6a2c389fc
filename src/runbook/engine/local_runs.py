"""The executor port on this machine: runs in a journal, each worked on by a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from runbook.engine.resume import answers, in_time, may_answer, open_question
from runbook.model.errors import DoorError, UsageError
from runbook.model.events import Event
from runbook.model.plan import plan_from_json
from runbook.model.ports import Journal, KeptRun, Request, RunRecord, RunView

#: Seconds between two looks at a run that is waited for.
_LOOK_S = 0.2
#: Runs that `list` looks at, the newest first.
_LISTED = 1000


class Processes(Protocol):
    """Which runs have a process; see `runbook.adapters.run_locks`."""

    def hold(self, run_id: str) -> AbstractContextManager[None]:
        """Be the process that works on a run; `Locked` when another one is."""

    def alive(self, run_id: str) -> bool:
        """Whether a process works on a run at this moment."""


class LocalRuns:
    """See `runbook.model.ports.Executor`."""

    def __init__(
        self,
        journal: Journal,
        processes: Processes,
        *,
        who: str,
        start: Callable[[str], None] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; `start` begins a process for a run. Without it a person resumes runs."""
        self._journal = journal
        self._processes = processes
        self._who = who
        self._start = start
        self._now = now

    def submit(self, run_id: str, plan: dict[str, Any], request: Request) -> None:
        """Begin a run; see `Executor`."""
        if self._journal.run(run_id) is not None:
            return
        try:
            self._journal.begin(self._record(run_id, plan, request), plan, request)
        except DoorError:
            if self._journal.run(run_id) is None:
                raise
            return  # somebody else has submitted it at the same moment
        self._go_on(run_id)

    def approve(  # noqa: PLR0917
        self, run_id: str, key: str, ok: bool, by: str, comment: str = "", digest: str = ""
    ) -> None:
        """Answer a question; see `Executor`. With a `digest`, only if that is what is asked."""
        question = self._question(run_id, key)
        if digest and digest != question["hash"]:
            raise UsageError(
                f"run {run_id} asks to confirm {question['hash']}, no longer {digest}",
                hint=f"something else would be touched now: runbook runs show {run_id}",
            )
        if not may_answer(question.get("by") or (), by):
            raise UsageError(
                f"this is not {by}'s to answer", hint=f"it is for {' or '.join(question['by'])}"
            )
        answer = {"key": key, "hash": question["hash"], "yes": ok, "by": by, "comment": comment}
        self._journal.append(run_id, Event(kind="answered", at=self._now(), data=answer))
        # Two may answer in one moment: the journal says who was first.
        standing = answers(self._kept(run_id).events).get((key, question["hash"]))
        if standing is not None and (standing.by, standing.yes) != (by, ok):
            said = "yes" if standing.yes else "no"
            raise UsageError(f"{standing.by} was first, and said {said}")
        self._go_on(run_id)

    def cancel(self, run_id: str, by: str) -> None:
        """Ask a run to stop; one that has no process is closed, and may still be resumed."""
        record = self._kept(run_id).record
        if record.ended_at is not None:
            raise UsageError(f"run {run_id} is over: {record.status}")
        self._journal.append(run_id, Event(kind="interrupted", at=self._now(), data={"by": by}))
        if not self._processes.alive(run_id):
            self.close(run_id, "interrupted", f"given up by {by}")

    def go_on(self, run_id: str, by: str = "") -> None:
        """Begin a process for a run that has none: one that was killed, or was answered meanwhile.

        `by` is who wants it, for the journal; empty: it goes on by itself.

        Raises:
            UsageError: for a run that is over, or that has a process.
        """
        view = self.view(run_id)
        if view.record.ended_at is not None:
            raise UsageError(f"run {run_id} is over: {view.record.status}")
        if view.alive:
            raise UsageError(f"run {run_id} goes on: a process on this machine works on it")
        if by:
            wanted = {"what": "to be taken up again", "by": by}
            self._journal.append(run_id, Event(kind="noted", at=self._now(), data=wanted))
        self._go_on(run_id)

    def close(self, run_id: str, status: str, reason: str, hint: str = "") -> None:
        """End a run that has no process, and say why.

        Raises:
            Locked: when a process works on it after all.
        """
        with self._processes.hold(run_id):
            said = {"status": status, "reason": reason, "hint": hint}
            self._journal.append(run_id, Event(kind="finished", at=self._now(), data=said))
            self._journal.end(run_id, status, self._now())

    def view(self, run_id: str) -> RunView:
        """Return one run; see `Executor`."""
        return self._view(self._kept(run_id))

    def list(self, *, open_only: bool = True) -> Sequence[RunView]:
        """Return runs, the newest first."""
        records = self._journal.runs(_LISTED)
        wanted = [r for r in records if not open_only or r.ended_at is None]
        return [self.view(record.run_id) for record in wanted]

    def wait(self, run_id: str, timeout_s: float) -> RunView:
        """Return once the run has ended or waits for an answer, or the time is over."""
        until = time.monotonic() + timeout_s
        while True:
            view = self.view(run_id)
            # A question that was answered meanwhile is on its way to be gone on with.
            if view.record.ended_at is not None or view.waiting is not None:
                return view
            left = until - time.monotonic()
            if left <= 0:
                return view
            time.sleep(min(_LOOK_S, left))

    def _go_on(self, run_id: str) -> None:
        if self._start is not None:
            self._start(run_id)

    def _kept(self, run_id: str) -> KeptRun:
        kept = self._journal.run(run_id)
        if kept is None:
            raise UsageError(f"there is no run {run_id!r}", hint="`runbook runs list` shows them")
        return kept

    def _question(self, run_id: str, key: str) -> Mapping[str, Any]:
        kept = self._kept(run_id)
        question = open_question(kept.events)
        if kept.record.status != "waiting" or question is None or question.get("key") != key:
            raise UsageError(
                f"run {run_id} has no open question {key!r}",
                hint=f"`runbook runs show {run_id}` tells what was asked and answered",
            )
        asked = Event(kind="asked", at=float(question["at"]), data=dict(question))
        if not in_time(asked, self._now()):
            raise UsageError(
                f"the question {key!r} of run {run_id} has expired",
                hint=f"`runbook runs resume {run_id}` asks it anew",
            )
        return question

    def _view(self, kept: KeptRun) -> RunView:
        record = kept.record
        waiting = open_question(kept.events) if record.status == "waiting" else None
        ended = (event for event in kept.events if event.kind == "task_finished")
        return RunView(
            record=record,
            alive=record.ended_at is None and self._processes.alive(record.run_id),
            waiting=waiting,
            results={event.task or "": event.data["result"] for event in ended},
        )

    def _record(self, run_id: str, plan: dict[str, Any], request: Request) -> RunRecord:
        frozen = plan_from_json(plan)
        return RunRecord(
            run_id=run_id,
            playbook=frozen.playbook,
            target=frozen.target,
            rehearsal=frozen.rehearsal,
            status="running",
            started_at=self._now(),
            ended_at=None,
            who=self._who,
            incident=request.incident,
            plan_hash=frozen.hash,
        )
