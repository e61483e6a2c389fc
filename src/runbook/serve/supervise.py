"""Sees to it that every run of a rule goes on, or that a person learns why it does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from runbook.engine.resume import expiry, open_question
from runbook.model.errors import DoorError, RunbookError
from runbook.model.events import Event
from runbook.model.ports import KeptRun
from runbook.model.units import format_duration
from runbook.serve.log import Log
from runbook.serve.metrics import Metrics
from runbook.serve.open_runs import OpenRun, OpenRuns, begun_since_rest

#: Seconds between two looks: an answer from a command line is gone on with after so long.
_LOOK_S = 1.0
#: How often a run that has changed nothing is begun again after its process died: a defect that
#: kills it would do so for ever.
_AGAIN = 3


_WHY = {
    "answered": "its question was answered",
    "resting": "it has no process, and has changed nothing",
}


class Supervisor:
    """Looks at the runs that have no end, one step at a time; used from one thread."""

    def __init__(
        self,
        runs: OpenRuns,
        *,
        close: Callable[[str, str, str], None],
        log: Log,
        metrics: Metrics,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; `close` ends a run that has no process: with which status, and why."""
        self._runs = runs
        self._close = close
        self._log = log
        self._metrics = metrics
        self._now = now
        #: How often each run was begun here.
        self._begun: dict[str, int] = {}
        #: Runs that a person has to look at.
        self.left: tuple[str, ...] = ()

    def step(self) -> float:
        """Look at all of them once; return when to look again, in seconds."""
        open_runs = self._runs.look()
        self._begun = {r.run_id: self._begun.get(r.run_id, 0) for r in open_runs}
        self._tell_left(tuple(run.run_id for run in open_runs if run.standing == "left"))
        for run in open_runs:
            try:
                self._see_to(run)
            except DoorError:
                raise
            except RunbookError as error:  # it has gone on by itself meanwhile
                self._log.say("left alone", run=run.run_id, why=error.message)
        return _LOOK_S

    def _see_to(self, run: OpenRun) -> None:
        if run.kept is None:
            return
        if run.standing == "asking":
            self._give_up_late(run.kept)
        elif run.standing in {"answered", "resting"}:
            self._begin(run, run.kept)

    def _begin(self, run: OpenRun, kept: KeptRun) -> None:
        run_id = kept.record.run_id
        before = max(self._begun[run_id], begun_since_rest(kept.events))
        if before > _AGAIN:
            why = f"its process died {before} times"
            self._log.say("given up", run=run_id, why=why)
            self._close(run_id, "interrupted", f"given up: {why}")
            return
        self._begun[run_id] += 1
        self._log.say("taken up", run=run_id, why=_WHY[run.standing])
        self._runs.start(run_id)

    def _give_up_late(self, kept: KeptRun) -> None:
        question = open_question(kept.events)
        within_s = kept.request.answer_within_s if kept.request else None
        until = _until(question, within_s)
        if question is None or until is None or self._now() <= until:
            return
        why = f"nobody answered within {format_duration(until - float(question['at']))}"
        self._log.say("expired", run=kept.record.run_id, why=why)
        self._close(kept.record.run_id, "interrupted", f"given up: {why}")

    def _tell_left(self, left: tuple[str, ...]) -> None:
        for run_id in left:
            if run_id not in self.left:
                why = "its process died after a change was intended: a person must look"
                self._log.say("left", run=run_id, why=why, then=f"runbook runs resume {run_id}")
        self.left = left
        self._metrics.left.set(len(left))


def _until(question: Mapping[str, Any] | None, within_s: float | None) -> float | None:
    """Return until when an answer counts: as the question says, else as the rule does."""
    if question is None:
        return None
    asked = Event(kind="asked", at=float(question["at"]), data=dict(question))
    own = expiry(asked)
    return own if own is not None or within_s is None else asked.at + within_s
