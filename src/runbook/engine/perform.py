"""`perform`: the one impure function of the engine; the same wherever a task runs."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from runbook.engine.drive import Notice, World, drive
from runbook.model.fleet import Fleet
from runbook.model.plan import Result, Task
from runbook.model.ports import Judge
from runbook.model.step import StepContext, StepType


@dataclass(frozen=True, kw_only=True)
class Performer:
    """All that tasks need: step types, doors, the inventory, the judge."""

    steps: Mapping[str, StepType]
    world: World
    fleet: Fleet
    judge: Judge
    run_id: str

    def perform(self, task: Task, notice: Notice) -> Result:
        """Run one task through its step type's drive and return what came of it.

        Never raises: a defect in a step becomes a failed result with its traceback in the journal,
        so that the hosts in flight beside it are still looked after.
        """
        notice("task_started", {"verb": task.verb, "phase": task.phase, "target": task.target})
        try:
            result = self._drive(task, notice)
        except Exception as error:  # noqa: BLE001 - a defect must not take the run down
            where = traceback.format_exc(limit=-4)
            result = Result(
                status="unknown" if task.changes else "failed",
                summary=f"internal error: {type(error).__name__}: {error}",
                data={"traceback": where},
            )
        return result

    def _drive(self, task: Task, notice: Notice) -> Result:
        step = self.steps[task.verb]
        context = StepContext(
            fleet=self.fleet,
            judge=self.judge,
            target=task.target,
            given=task.given,
            run_id=self.run_id,
        )
        args = step.args.model_validate(task.args)
        return drive(step.phases[task.phase](args, context), task, self.world, notice)
