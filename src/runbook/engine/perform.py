"""`perform`: the one impure function of the engine; the same wherever a task runs."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from runbook.engine.drive import Notice, World, drive
from runbook.model.errors import DoorError, Locked, Unreachable
from runbook.model.fleet import Fleet
from runbook.model.plan import Result, Status, Task
from runbook.model.ports import HeldLock, Judge, TargetLocks
from runbook.model.redaction import Mask, redacted, redacted_data, redacted_result
from runbook.model.step import StepContext, StepType


@dataclass(frozen=True, kw_only=True)
class Performer:
    """All that tasks need: step types, doors, the inventory, the judge."""

    steps: Mapping[str, StepType]
    world: World
    fleet: Fleet
    judge: Judge
    run_id: str
    #: Locks on the targets themselves; None where only this machine's locks are taken.
    target_locks: TargetLocks | None = None
    #: Takes secrets out of all that is kept or shown of a task.
    mask: Mask = redacted

    def perform(self, task: Task, notice: Notice) -> Result:
        """Run one task through its step type's drive and return what came of it.

        Never raises: a defect in a step becomes a failed result with its traceback in the journal,
        so that the hosts in flight beside it are still looked after.
        """
        notice = self._masked(notice)
        notice("task_started", {"verb": task.verb, "phase": task.phase, "target": task.target})
        try:
            result = self._locked(task, notice)
        except Exception as error:  # noqa: BLE001 - a defect must not take the run down
            where = traceback.format_exc(limit=-4)
            result = Result(
                status="unknown" if task.changes else "failed",
                summary=f"internal error: {type(error).__name__}: {error}",
                data={"traceback": where},
            )
        return redacted_result(result, self.mask)

    def _masked(self, notice: Notice) -> Notice:
        """Tell everything without secrets, but for what a resume builds on: notes and debts."""

        def tell(kind: str, data: dict[str, Any]) -> None:
            kept = kind in {"noted", "owed", "paid", "locked"}
            notice(kind, data if kept else redacted_data(data, self.mask))

        return tell

    def _locked(self, task: Task, notice: Notice) -> Result:
        """Hold the lock on the target around a task that changes something there."""
        locks, kind = self.target_locks, task.target_kind
        if locks is None or kind == "none" or not task.changes or self.world.rehearsal:
            return self._drive(task, notice, None)
        result: Result | None = None
        try:
            with locks.hold(kind, task.target, self.run_id) as held:
                notice("locked", dict(held.taken()))
                result = self._drive(task, notice, held)
        except (Locked, DoorError) as error:
            # A lock that could not be given back does not undo what was done under it.
            return result or _not_locked(task, error)
        return result

    def _drive(self, task: Task, notice: Notice, held: HeldLock | None) -> Result:
        step = self.steps[task.verb]
        context = StepContext(
            fleet=self.fleet,
            judge=self.judge,
            target=task.target,
            given=task.given,
            run_id=self.run_id,
            rehearsal=self.world.rehearsal,
        )
        try:
            args = step.args.model_validate(task.args)
        except ValidationError as error:
            # What an earlier step has found, and does not fit; the value itself is not repeated.
            why = "; ".join(dict.fromkeys(each["msg"] for each in error.errors()))
            return Result(status="failed", summary=f"nothing was done: {why}")
        return drive(step.phases[task.phase](args, context), task, self.world, notice, held)


def _not_locked(task: Task, error: Locked | DoorError) -> Result:
    """Nothing was done now; what an earlier process has left in doubt is still in doubt."""
    crashed = task.given.get("crashed") or {}
    doubtful = len(crashed.get("intended", ())) > len(crashed.get("changed", ()))
    status: Status = "unreachable" if isinstance(error, Unreachable) else "refused"
    return Result(
        status="unknown" if doubtful else status,
        summary=f"nothing was done: {error.message}",
        hint=error.hint or "",
        data={"error": type(error).__name__},
    )
