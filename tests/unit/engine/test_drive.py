"""The driver: what was not shown is not touched; a rehearsal changes nothing."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from runbook.engine.drive import World, drive
from runbook.model.effects import (
    ChangeCommand,
    Drive,
    Effect,
    Interrupted,
    Note,
    Now,
    Owe,
    Paid,
    ReadCommand,
    Say,
    Sleep,
    Together,
    ask,
)
from runbook.model.errors import (
    ConnectionLost,
    DoorError,
    Refused,
    StateUnknown,
    StepFailed,
    Unreachable,
)
from runbook.model.plan import Result, Task
from unit.engine.fakes import MemoryDoor, touch

LOOK = ReadCommand(host="web-0", argv=("ls",))


def task(*shown: str, changes: bool = True, timeout_s: float = 60.0) -> Task:
    """A task that may touch these words."""
    lines = tuple(line for word in shown for line in touch("web-0", word).footprint())
    return Task(
        key="n/act/web-0",
        node="n",
        verb="touch",
        phase="act",
        target="web-0",
        args={},
        timeout_s=timeout_s,
        changes=changes,
        shown=lines,
    )


class Bench:
    """A driver on the bench: one door for everything, and what was noticed."""

    def __init__(self, door: MemoryDoor, *, rehearsal: bool = False) -> None:
        self.noticed: list[tuple[str, dict[str, Any]]] = []
        self.slept: list[float] = []
        self._clock = 0.0
        self.world = World(
            doors={ReadCommand: door, ChangeCommand: door},
            rehearsal=rehearsal,
            sleep=self._sleep,
            clock=lambda: self._clock,
        )

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._clock += seconds

    def run(self, steps: Drive[Result], for_task: Task) -> Result:
        """Drive the steps to their end."""
        return drive(
            steps, for_task, self.world, lambda kind, data: self.noticed.append((kind, data))
        )


def touching(*words: str) -> Drive[Result]:
    """A step that touches words, one after the other."""
    for word in words:
        yield from ask(touch("web-0", word))
    return Result(status="ok", summary="touched")


def test_a_change_is_announced_before_it_is_made() -> None:
    order: list[str] = []
    door = MemoryDoor(lambda _effect: order.append("made"))
    bench = Bench(door)
    drive(touching("a"), task("a"), bench.world, lambda kind, _data: order.append(kind))
    assert order == ["intended", "made", "changed"]


def test_what_was_not_shown_is_not_touched() -> None:
    door = MemoryDoor()
    result = Bench(door).run(touching("b"), task("a"))
    assert result.status == "refused"
    assert "b" in result.summary
    assert door.asked == []


def test_what_stops_half_way_was_not_refused_before_anything_changed() -> None:
    door = MemoryDoor()
    result = Bench(door).run(touching("a", "b"), task("a"))
    assert result.status == "failed"
    assert "b" in result.summary
    assert door.asked == [touch("web-0", "a")]


def test_a_task_that_may_not_change_anything_does_not_even_when_it_was_shown() -> None:
    door = MemoryDoor()
    assert Bench(door).run(touching("a"), task("a", changes=False)).status == "refused"
    assert door.asked == []


def test_a_rehearsal_looks_for_real_and_stops_at_the_first_change() -> None:
    def steps() -> Drive[Result]:
        yield from ask(LOOK)
        yield from ask(touch("web-0", "a"))
        yield from ask(touch("web-0", "never reached"))
        return Result(status="ok")

    door = MemoryDoor()
    bench = Bench(door, rehearsal=True)
    result = bench.run(steps(), task("a"))
    assert result.status == "rehearsed"
    assert result.touches == tuple(touch("web-0", "a").footprint())
    assert door.asked == [LOOK]
    assert [kind for kind, _ in bench.noticed] == ["assumed"]


def test_a_step_may_handle_what_the_world_does_to_it() -> None:
    def fail(_effect: Effect[Any]) -> Any:
        raise Unreachable("web-0 is away")

    def steps() -> Drive[Result]:
        try:
            yield from ask(LOOK)
        except Unreachable as error:
            return Result(status="ok", summary=f"noticed that {error.message}")
        return Result(status="failed")

    assert Bench(MemoryDoor(fail)).run(steps(), task()).summary == "noticed that web-0 is away"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unreachable("away"), "unreachable"),
        (ConnectionLost("cut"), "failed"),
        (StateUnknown("who knows"), "unknown"),
        (StepFailed("no"), "failed"),
        (DoorError("no"), "failed"),
    ],
)
def test_an_error_of_a_look_that_nobody_handles_is_the_result(error: Any, status: str) -> None:
    def fail(_effect: Effect[Any]) -> Any:
        raise error

    def steps() -> Drive[Result]:
        yield from ask(LOOK)
        return Result(status="ok")

    assert Bench(MemoryDoor(fail)).run(steps(), task()).status == status


def test_a_change_that_was_cut_off_is_unknown_not_failed() -> None:
    def fail(_effect: Effect[Any]) -> Any:
        raise ConnectionLost("cut half-way")

    bench = Bench(MemoryDoor(fail))
    assert bench.run(touching("a"), task("a")).status == "unknown"
    assert [kind for kind, _ in bench.noticed] == ["intended"]


def test_one_dead_host_does_not_hide_what_the_others_say() -> None:
    def answer(effect: Effect[Any]) -> Any:
        if isinstance(effect, ReadCommand) and effect.host == "web-1":
            raise Unreachable("web-1 is away")
        return "here"

    def steps() -> Drive[Result]:
        looks = tuple(ReadCommand(host=f"web-{i}", argv=("ls",)) for i in range(3))
        outcomes = yield from ask(Together(effects=looks))
        return Result(status="ok", data={"said": [str(outcome) for outcome in outcomes]})

    result = Bench(MemoryDoor(answer)).run(steps(), task())
    assert result.data["said"] == ["here", "web-1 is away", "here"]


def test_a_host_that_never_answers_does_not_keep_the_others_waiting() -> None:
    silent = threading.Event()

    def answer(effect: Effect[Any]) -> Any:
        if isinstance(effect, ReadCommand) and effect.host == "web-1":
            silent.wait(30)
        return "here"

    def steps() -> Drive[Result]:
        looks = tuple(ReadCommand(host=f"web-{i}", argv=("ls",)) for i in range(3))
        outcomes = yield from ask(Together(effects=looks, within_s=0.2))
        return Result(status="ok", data={"said": [str(outcome) for outcome in outcomes]})

    try:
        result = Bench(MemoryDoor(answer)).run(steps(), task())
        assert not silent.is_set()
    finally:
        silent.set()
    assert result.data["said"] == ["here", "web-1: no answer within 0.2s", "here"]


def test_a_defect_in_a_look_is_not_taken_for_an_answer() -> None:
    def answer(_effect: Effect[Any]) -> Any:
        raise KeyError("a defect")

    def steps() -> Drive[Result]:
        looks = tuple(ReadCommand(host=f"web-{i}", argv=("ls",)) for i in range(3))
        yield from ask(Together(effects=looks))
        return Result(status="ok")

    with pytest.raises(KeyError):
        Bench(MemoryDoor(answer)).run(steps(), task())


def test_a_step_that_waits_forever_is_ended_by_its_time_limit() -> None:
    def steps() -> Drive[Result]:
        yield from ask(Say(stage="waiting", text="for nothing"))
        while True:
            yield from ask(Sleep(seconds=1.0))

    bench = Bench(MemoryDoor())
    result = bench.run(steps(), task(timeout_s=5.0))
    assert result.status == "failed"
    assert "time limit of 5s" in result.summary
    assert bench.slept == [1.0] * 5


def test_the_clock_of_a_step_is_the_worlds() -> None:
    def steps() -> Drive[Result]:
        before = yield from ask(Now())
        yield from ask(Sleep(seconds=2.5))
        after = yield from ask(Now())
        return Result(status="ok", data={"took": after - before})

    assert Bench(MemoryDoor()).run(steps(), task()).data == {"took": 2.5}


# ---- what a resume will need -----------------------------------------------------------------


def draining() -> Drive[Result]:
    """A step that owes something from its first change on."""
    yield from ask(Note(data={"before": 7}))
    yield from ask(Owe(key="undrain web-0", what="web-0 in the pool", by_hand=("hand",)))
    yield from ask(touch("web-0", "a"))
    yield from ask(touch("web-0", "b"))
    yield from ask(Paid(key="undrain web-0"))
    return Result(status="ok")


def test_notes_and_debts_are_kept_in_the_order_in_which_they_came() -> None:
    bench = Bench(MemoryDoor())
    assert bench.run(draining(), task("a", "b")).status == "ok"
    kinds = [kind for kind, _ in bench.noticed]
    assert kinds == ["noted", "owed", "intended", "changed", "intended", "changed", "paid"]
    assert bench.noticed[0][1] == {"before": 7}
    assert bench.noticed[1][1] == {
        "key": "undrain web-0",
        "task": "n/act/web-0",
        "what": "web-0 in the pool",
        "by_hand": ("hand",),
        "data": {},
    }


def test_a_rehearsal_owes_nothing() -> None:
    bench = Bench(MemoryDoor(), rehearsal=True)
    assert bench.run(draining(), task("a", "b")).status == "rehearsed"
    assert [kind for kind, _ in bench.noticed] == ["assumed"]


def test_a_debt_that_cannot_be_kept_is_refused_before_the_change_that_causes_it() -> None:
    def notice(kind: str, _data: dict[str, Any]) -> None:
        if kind == "owed":
            raise DoorError("the disk is full")

    door = MemoryDoor()
    result = drive(draining(), task("a", "b"), Bench(door).world, notice)
    assert result.status == "refused"
    assert result.summary == "nothing was done: the disk is full"
    assert door.asked == []


def test_a_step_hears_of_the_first_interrupt() -> None:
    def steps() -> Drive[Result]:
        wanted = yield from ask(Interrupted())
        return Result(status="ok", data={"stop": wanted})

    bench = Bench(MemoryDoor())
    assert bench.run(steps(), task()).data == {"stop": False}
    bench.world.interrupted.set()
    assert bench.run(steps(), task()).data == {"stop": True}


class Lock:
    """A lock that is stolen once so many changes were made."""

    def __init__(self, door: MemoryDoor, after: int) -> None:
        self._door, self._after = door, after

    def lost(self) -> str | None:
        """Say who has it now."""
        return "grace has it" if len(self._door.asked) >= self._after else None

    def taken(self) -> dict[str, Any]:
        """Say how it was taken."""
        return {"lock": "host web-0", "how": "taken"}


@pytest.mark.parametrize(("after", "status", "made"), [(0, "refused", 0), (1, "failed", 1)])
def test_without_the_lock_no_further_change_is_made(after: int, status: str, made: int) -> None:
    door, bench = MemoryDoor(), Bench(MemoryDoor())
    bench.world = Bench(door).world
    lock = Lock(door, after)
    result = drive(touching("a", "b"), task("a", "b"), bench.world, lambda *_: None, lock)
    assert (result.status, len(door.asked)) == (status, made)
    assert "the lock on web-0 is no longer ours: grace has it" in result.summary


def test_a_step_that_is_refused_half_way_may_still_undo() -> None:
    def steps() -> Drive[Result]:
        yield from ask(touch("web-0", "a"))
        try:
            yield from ask(touch("web-0", "not shown"))
        except Refused:
            yield from ask(touch("web-0", "undo a"))
            raise
        return Result(status="ok")

    door = MemoryDoor()
    assert Bench(door).run(steps(), task("a", "undo a")).status == "failed"
    assert door.asked == [touch("web-0", "a"), touch("web-0", "undo a")]


@pytest.mark.parametrize("deep", [False, True])
def test_a_change_among_looks_is_not_made(deep: bool) -> None:
    def steps() -> Drive[Result]:
        hidden: Any = touch("web-0", "x")
        both = Together(effects=(LOOK, hidden))
        yield from ask(Together(effects=(both,)) if deep else both)
        return Result(status="ok")

    bench = Bench(door := MemoryDoor())
    result = bench.run(steps(), task("x"))
    assert result.status == "refused"
    assert "a change among its looks: on web-0: touch x" in result.summary
    assert door.asked == []
