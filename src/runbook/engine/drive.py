"""Drives a step: takes its effects one by one, has them performed, sends the outcomes back.

The same drive serves a real run and a rehearsal. In a rehearsal an Observe is performed against
the real world; at the first Change the drive ends: the change is shown, and whatever would follow
depends on an answer that nobody has. In a real run a Change is performed only when every line of
its footprint was shown and confirmed, only while the target's lock is still ours, and only after
its intent is on disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from runbook.engine.side_by_side import side_by_side
from runbook.model.effects import (
    Change,
    Drive,
    Effect,
    Interrupted,
    Note,
    Now,
    Observe,
    Owe,
    Paid,
    Say,
    Sleep,
    Together,
)
from runbook.model.errors import (
    ConnectionLost,
    DoorError,
    NotStarted,
    Refused,
    RunbookError,
    StateUnknown,
    StepFailed,
    Unreachable,
)
from runbook.model.plan import Obligation, Result, Status, Task
from runbook.model.ports import Door, HeldLock

#: Tells what happens: kind, data.
Notice = Callable[[str, dict[str, Any]], object]


@dataclass(frozen=True, kw_only=True)
class World:
    """The doors that a drive's effects go through."""

    doors: Mapping[type[Effect[Any]], Door]
    rehearsal: bool
    #: Set by the first interrupt.
    interrupted: threading.Event = field(default_factory=threading.Event)
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


def drive(
    steps: Drive[Result], task: Task, world: World, notice: Notice, held: HeldLock | None = None
) -> Result:
    """Run a step to its end and return its result; errors of the world become results.

    `held` is the lock on the task's target, asked right before each change.
    """
    return _Driver(steps, task, world, notice, held).run()


class _Driver:
    def __init__(
        self,
        steps: Drive[Result],
        task: Task,
        world: World,
        notice: Notice,
        held: HeldLock | None,
    ) -> None:
        self._steps = steps
        self._task = task
        self._world = world
        self._notice = notice
        self._deadline = world.clock() + task.timeout_s
        #: The sentence of a Change whose outcome is not known (yet).
        self._in_doubt: str | None = None
        self._held = held
        #: Whether anything was changed, or may have been: then nothing can be refused any more.
        self._acted = False

    def run(self) -> Result:
        try:
            return self._loop()
        except RunbookError as error:
            return self._judge(error)
        finally:
            self._steps.close()

    def _loop(self) -> Result:
        send: Callable[[Any], Any] = self._steps.send
        value: Any = None
        while True:
            try:
                effect = send(value)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            if isinstance(effect, Change) and self._world.rehearsal:
                return self._assume(effect)
            try:
                self._check_time()
                value, send = self._perform(effect), self._steps.send
            except (DoorError, StepFailed, Refused) as error:
                # A refusal too: a step that has drained a host must come to undrain it.
                value, send = error, self._steps.throw

    def _perform(self, effect: Effect[Any]) -> Any:
        if isinstance(effect, Change):
            return self._change(effect)
        return self._observe(effect)

    def _observe(self, effect: Effect[Any]) -> Any:
        match effect:
            case Say() | Note() | Owe() | Paid():
                return self._tell(effect)
            case Interrupted():
                return self._world.interrupted.is_set()
            case Now():
                return self._world.clock()
            case Sleep(seconds=seconds, cut_short=cut_short):
                return self._sleep(seconds, cut_short=cut_short)
            case Together(effects=effects):
                return self._together(effects, effect.within_s)
            case _:
                return self._door(effect).perform(effect)

    def _tell(self, effect: Say | Note | Owe | Paid) -> None:
        """Tell, or keep what a resume will need; a rehearsal changes nothing, so owes nothing."""
        match effect:
            case Say(stage=stage, text=text):
                self._notice("said", {"stage": stage, "text": text})
            case _ if self._world.rehearsal:
                return
            case Note(data=data):
                self._notice("noted", dict(data))
            case Paid(key=key):
                self._notice("paid", {"key": key})
            case Owe():
                self._intend("owed", _obligation(effect, self._task))

    def _intend(self, kind: str, data: dict[str, Any]) -> None:
        """Have something on disk before a change is made, or refuse the change."""
        try:
            self._notice(kind, data)
        except DoorError as error:
            if self._pays(kind):
                text = f"this is not kept, and done nevertheless: {error.message}"
                self._notice("said", {"stage": "settling", "text": text})
                return
            raise Refused(f"nothing was done: {error.message}", hint=error.hint) from error

    def _pays(self, kind: str) -> bool:
        """Whether a change pays what is owed: the debt is on disk, that is intent enough.

        A full disk must not keep a healthy host out of rotation.
        """
        return kind == "intended" and self._task.phase == "settle"

    def _sleep(self, seconds: float, *, cut_short: bool) -> bool:
        """Wait, but not beyond the task's time limit; say whether the whole time has passed."""
        left = max(0.0, self._deadline - self._world.clock())
        if cut_short:
            return not self._world.interrupted.wait(min(seconds, left))
        self._world.sleep(min(seconds, left))
        return seconds <= left

    def _together(
        self, effects: tuple[Observe[Any], ...], within_s: float | None
    ) -> tuple[Any, ...]:
        changes = [effect for effect in effects if isinstance(effect, Change)]
        if changes:
            raise Refused(
                f"this step wanted a change among its looks: {changes[0].sentence()}",
                hint="nothing was changed by it; this is a defect of the step: report it",
            )

        def look(effect: Observe[Any]) -> Any:
            try:
                return self._observe(effect)
            except DoorError as error:
                return error

        return side_by_side(effects, look, within_s)

    def _change(self, effect: Change[Any]) -> Any:
        footprint = sorted(effect.footprint())
        hidden = [line for line in footprint if line not in self._task.shown]
        if hidden or not self._task.changes:
            raise Refused(
                f"this step wanted to touch what was not shown: {'; '.join(hidden or footprint)}",
                hint="nothing was changed by it; this is a defect of the step: report it",
            )
        self._check_lock()
        sentence = effect.sentence()
        self._intend("intended", {"sentence": sentence, "footprint": footprint})
        outcome, seconds = self._make(effect, sentence)
        self._notice("changed", {"sentence": sentence, "seconds": seconds})
        return outcome

    def _check_lock(self) -> None:
        """Ask as late as can be: a process that was stopped for an hour wakes up right here."""
        lost = self._held.lost() if self._held is not None else None
        if lost is not None:
            raise Refused(
                f"nothing was done: the lock on {self._task.target} is no longer ours: {lost}",
                hint="somebody else may work there now: look before this run is resumed",
            )

    def _make(self, effect: Change[Any], sentence: str) -> tuple[Any, float]:
        self._in_doubt, acted, self._acted = sentence, self._acted, True
        started = self._world.clock()
        try:
            outcome = self._door(effect).perform(effect)
        except DoorError as error:
            # A refusal is an answer; only a connection that broke leaves the outcome open.
            if not isinstance(error, ConnectionLost):
                self._in_doubt = None
            if isinstance(error, Unreachable | NotStarted):
                self._acted = acted
            raise
        self._in_doubt = None
        return outcome, round(self._world.clock() - started, 3)

    def _assume(self, effect: Change[Any]) -> Result:
        footprint = tuple(sorted(effect.footprint()))
        self._notice("assumed", {"sentence": effect.sentence(), "footprint": list(footprint)})
        return Result(status="rehearsed", summary=f"would: {effect.sentence()}", touches=footprint)

    def _door(self, effect: Effect[Any]) -> Door:
        return self._world.doors[type(effect)]

    def _check_time(self) -> None:
        if self._world.clock() >= self._deadline:
            raise StepFailed(f"not done within its time limit of {self._task.timeout_s:g}s")

    def _judge(self, error: RunbookError) -> Result:
        """Turn an error that the step did not handle into its result; its kind is kept."""
        return Result(
            status=self._status(error),
            summary=error.message,
            hint=error.hint or "",
            data={"error": type(error).__name__},
        )

    def _status(self, error: RunbookError) -> Status:
        if isinstance(error, StateUnknown):
            return "unknown"
        if self._in_doubt is not None and isinstance(error, ConnectionLost):
            return "unknown"
        if isinstance(error, Unreachable):
            return "unreachable"
        # Refused means that nothing was changed; half-way through it is a failure.
        return "refused" if isinstance(error, Refused) and not self._acted else "failed"


def _obligation(owe: Owe, task: Task) -> dict[str, Any]:
    data = dict(owe.data)
    owed = Obligation(key=owe.key, task=task.key, what=owe.what, by_hand=owe.by_hand, data=data)
    return asdict(owed)
