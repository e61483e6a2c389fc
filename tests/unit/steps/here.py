"""This machine as a host, for verbs that are tested with real processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runbook.adapters.local_command import LocalDoor
from runbook.model.effects import Change, Drive, Effect, Now, Say, Sleep
from runbook.model.errors import DoorError
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.plan import Result
from runbook.model.step import StepContext, StepType

FLEET = Fleet(
    Inventory.model_validate(
        {"version": 1, "hosts": {"me": {"connection": "local", "vars": {"port": 8000}}}}
    )
)

#: Called with every Change right before it is made.
Meddler = Callable[[Any], None]


def context(target: str = "me", **given: Any) -> StepContext:
    judge: Any = None
    return StepContext(fleet=FLEET, judge=judge, target=target, given=given, run_id="R1")


class Here:
    """Drives steps on this machine as the engine does: what was not shown is not made."""

    def __init__(self, meddle: Meddler = lambda _change: None) -> None:
        self.said: list[str] = []
        self.slept: list[float] = []
        self.changes: list[Change[Any]] = []
        self.now = 100.0
        self.doors: dict[type[Effect[Any]], Any] = {}
        self._meddle = meddle
        self._local = LocalDoor(FLEET, rehearsal=False)

    def run(self, step: StepType, target: str = "me", /, **given: Any) -> Result:
        """Prepare and act; a prepare that says no is the result."""
        args = step.args.model_validate(given)
        prepared = self.prepare(step, target, **given)
        if not prepared.good:
            return prepared
        # What the journal keeps of a plan must be enough to do it.
        args = step.args.model_validate(args.model_dump(mode="json"))
        return self.act(step, args, context(target, prepared=prepared.data), prepared.touches)

    def prepare(self, step: StepType, target: str = "me", /, **given: Any) -> Result:
        args = step.args.model_validate(given)
        return self.drive(step.phases["prepare"](args, context(target)), None)

    def act(self, step: StepType, args: Any, ctx: StepContext, shown: tuple[str, ...]) -> Result:
        return self.drive(step.phases["act"](args, ctx), shown)

    def drive(self, drive: Drive[Result], shown: tuple[str, ...] | None) -> Result:
        send: Any = drive.send
        value: Any = None
        while True:
            try:
                effect = send(value)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            try:
                value, send = self._perform(effect, shown), drive.send
            except DoorError as error:
                value, send = error, drive.throw

    def _perform(self, effect: Any, shown: tuple[str, ...] | None) -> Any:
        match effect:
            case Say(stage=stage, text=text):
                return self.said.append(f"{stage}: {text}")
            case Now():
                return self.now
            case Sleep(seconds=seconds):
                self.slept.append(seconds)
                self.now += seconds
                return True
            case Change():
                assert shown is not None, "a prepare makes no change"
                assert effect.footprint() <= set(shown), "not shown"
                self.changes.append(effect)
                self._meddle(effect)
        return self.doors.get(type(effect), self._local).perform(effect)
