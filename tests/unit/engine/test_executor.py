"""The local executor: a real journal, real locks, a world in memory."""

from __future__ import annotations

import signal
import sqlite3
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pytest

from runbook.adapters.journal import SqliteJournal
from runbook.adapters.locks import FileLocks
from runbook.engine.drive import World
from runbook.engine.executor import LocalExecutor, RunOutcome
from runbook.engine.perform import Performer
from runbook.model.effects import ChangeCommand, Effect, ReadCommand
from runbook.model.errors import DoorError, Locked
from runbook.model.events import Event
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.plan import Confirm, Plan, Result
from runbook.model.ports import RunRecord
from unit.engine.fakes import TOUCH, MemoryDoor, fine, touch
from unit.engine.plans import plan, single_node

FLEET = Fleet(Inventory.model_validate({"version": 1, "hosts": {"web-0": {}, "web-1": {}}}))


def touch_plan(*, rehearsal: bool = False, words: tuple[str, ...] = ("a",)) -> Plan:
    """Touch words on both hosts."""
    node = single_node(
        "touch",
        changes=True,
        verb="touch",
        args={"words": list(words), "shown": list(words)},
        targets=("web-0", "web-1"),
        lock="service shop",
    )
    return plan(node, rehearsal=rehearsal)


class Setting:
    """An executor with everything around it."""

    def __init__(self, folder: Path, door: MemoryDoor, *, yes: bool = True) -> None:
        self.journal = SqliteJournal(folder / "state" / "journal.db")
        self.path = folder / "state" / "journal.db"
        self.asked: list[Confirm] = []
        self.door, self._yes, self._folder = door, yes, folder

    def executor(self, *, rehearsal: bool = False, run_id: str = "run-1") -> LocalExecutor:
        """Return an executor for one run."""
        doors: Mapping[type[Effect[Any]], Any] = {ReadCommand: self.door, ChangeCommand: self.door}
        performer = Performer(
            steps={"touch": TOUCH},
            world=World(doors=doors, rehearsal=rehearsal),
            fleet=FLEET,
            judge=None,  # type: ignore[arg-type]
            run_id=run_id,
        )
        locks = FileLocks(self._folder / "locks", who="ada@desk", incident="P123")
        return LocalExecutor(
            performer, keepers=(self.journal,), locks=locks, confirmer=self._confirm
        )

    def run(self, made: Plan) -> RunOutcome:
        """Begin, run and end a plan."""
        record = RunRecord(
            run_id="run-1",
            playbook=made.playbook,
            target=made.target,
            rehearsal=made.rehearsal,
            status="running",
            started_at=1.0,
            ended_at=None,
            who="ada@desk",
            incident=None,
            plan_hash=made.hash,
        )
        self.journal.begin(record, made.to_json())
        outcome = self.executor(rehearsal=made.rehearsal).run(made)
        self.journal.end("run-1", outcome.finish.status, 2.0)
        return outcome

    def _confirm(
        self, confirm: Confirm, _plan: Plan, _results: Mapping[str, Result]
    ) -> tuple[bool, str]:
        self.asked.append(confirm)
        return self._yes, "ada"

    def kinds(self) -> list[str]:
        """Return the kinds of the events that are on disk, as another process sees them."""
        with sqlite3.connect(self.path) as db:
            return [row[0] for row in db.execute("SELECT kind FROM events ORDER BY seq")]


def changes(door: MemoryDoor) -> list[Effect[Any]]:
    """Return the changes that a door was asked for."""
    return [effect for effect in door.asked if isinstance(effect, ChangeCommand)]


def test_a_run_is_confirmed_done_and_journaled(tmp_path: Path) -> None:
    setting = Setting(tmp_path, MemoryDoor())
    outcome = setting.run(touch_plan())
    assert outcome.finish.status == "done"
    assert len(changes(setting.door)) == 2
    found = setting.journal.run("run-1")
    assert found is not None
    assert found.record.status == "done"
    assert found.plan == touch_plan().to_json()
    assert [event.kind for event in found.events] == setting.kinds()
    assert setting.path.stat().st_mode & 0o777 == 0o600


def test_the_intent_is_on_disk_when_the_change_is_made(tmp_path: Path) -> None:
    seen: list[bool] = []

    def answer(effect: Effect[Any]) -> Any:
        if isinstance(effect, ChangeCommand):
            seen.append("intended" in setting.kinds())

    setting = Setting(tmp_path, MemoryDoor(answer))
    setting.run(touch_plan())
    assert seen == [True, True]


def test_no_changes_nothing(tmp_path: Path) -> None:
    setting = Setting(tmp_path, MemoryDoor(), yes=False)
    assert setting.run(touch_plan()).finish.status == "refused"
    assert changes(setting.door) == []


def test_a_rehearsal_asks_nothing_and_changes_nothing(tmp_path: Path) -> None:
    setting = Setting(tmp_path, MemoryDoor())
    outcome = setting.run(touch_plan(rehearsal=True))
    assert outcome.finish.status == "rehearsed"
    assert setting.asked == []
    assert changes(setting.door) == []
    assert {line for r in outcome.results.values() for line in r.touches} == {
        *touch("web-0", "a").footprint(),
        *touch("web-1", "a").footprint(),
    }


def test_a_second_run_on_the_same_service_is_refused_with_the_holder(tmp_path: Path) -> None:
    inside, leave = threading.Event(), threading.Event()

    def wait(effect: Effect[Any]) -> Any:
        if isinstance(effect, ChangeCommand):
            inside.set()
            leave.wait(10)

    first = Setting(tmp_path / "a", MemoryDoor(wait))
    first._folder = tmp_path
    other = Setting(tmp_path / "b", MemoryDoor())
    other._folder = tmp_path
    worker = threading.Thread(target=lambda: first.run(touch_plan()))
    worker.start()
    assert inside.wait(10)
    with pytest.raises(Locked, match=r"service shop is held by ada@desk for P123: run run-1"):
        other.executor(run_id="run-2").run(touch_plan())
    rehearsed = other.executor(run_id="run-3", rehearsal=True).run(touch_plan(rehearsal=True))
    leave.set()
    worker.join(10)
    assert rehearsed.finish.status == "rehearsed"
    assert changes(other.door) == []


def test_a_change_whose_intent_cannot_be_kept_is_not_made(tmp_path: Path) -> None:
    class FullDisk:
        def notice(self, event: Event) -> None:
            if event.kind == "intended":
                raise DoorError("the journal cannot be written: disk full")

    setting = Setting(tmp_path, MemoryDoor())
    executor = setting.executor()
    executor._keepers = (FullDisk(),)
    outcome = executor.run(touch_plan())
    assert outcome.finish.status == "refused"
    assert "nothing was done: the journal cannot be written: disk full" in outcome.finish.reason
    assert changes(setting.door) == []


def test_a_watcher_that_fails_later_does_not_abandon_hosts_in_flight(tmp_path: Path) -> None:
    class Failing:
        def notice(self, event: Event) -> None:
            if event.kind == "task_finished":
                raise DoorError("the journal cannot be written: disk full")

    setting = Setting(tmp_path, MemoryDoor())
    executor = setting.executor()
    executor._keepers = (Failing(),)
    assert executor.run(touch_plan()).finish.status == "done"
    assert list(executor.complaints) == ["the journal cannot be written: disk full"]


def test_an_interrupt_lets_the_hosts_in_flight_finish(tmp_path: Path) -> None:
    stop: list[Callable[[], object]] = []
    both = threading.Barrier(2)

    def answer(effect: Effect[Any]) -> Any:
        if isinstance(effect, ChangeCommand):
            both.wait(10)
            stop[0]()

    setting = Setting(tmp_path, MemoryDoor(answer))
    two = plan(*touch_plan().nodes, single_node("after"))
    executor = setting.executor()
    stop.append(executor.interrupt)
    outcome = executor.run(two)
    assert outcome.finish.status == "interrupted"
    assert len(changes(setting.door)) == 2
    assert outcome.steps[1].result is None


def test_a_change_that_has_not_begun_when_the_interrupt_comes_does_not_begin(
    tmp_path: Path,
) -> None:
    """Both hosts are handed out; one is at work, the other still waits for a thread."""
    stop: list[Callable[[], object]] = []

    def answer(effect: Effect[Any]) -> Any:
        if isinstance(effect, ChangeCommand):
            stop[0]()

    class OneAtATime(ThreadPoolExecutor):
        def __init__(self, **_workers: int) -> None:
            super().__init__(max_workers=1)

    setting = Setting(tmp_path, MemoryDoor(answer))
    executor = setting.executor()
    stop.append(executor.interrupt)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runbook.engine.executor.ThreadPoolExecutor", OneAtATime)
        outcome = executor.run(touch_plan())
    assert outcome.finish.status == "interrupted"
    assert len(changes(setting.door)) == 1
    assert "touch/act/web-1" not in outcome.results
    assert setting.kinds().count("task_started") == 3  # both were looked at


def test_a_defect_in_a_step_is_a_result_with_its_traceback(tmp_path: Path) -> None:
    def explode(_effect: Effect[Any]) -> Any:
        raise ZeroDivisionError

    setting = Setting(tmp_path, MemoryDoor(explode))
    outcome = setting.run(touch_plan())
    assert outcome.finish.status == "refused"  # it exploded while it only looked
    assert "internal error: ZeroDivisionError" in outcome.finish.reason


def test_a_screen_that_has_gone_costs_no_host_its_care(tmp_path: Path) -> None:
    class Hangup:
        def notice(self, _event: Event) -> None:
            raise OSError(5, "Input/output error")

    setting = Setting(tmp_path, MemoryDoor())
    executor = setting.executor()
    executor._views = [Hangup()]
    assert executor.run(touch_plan()).finish.status == "done"
    assert len(changes(setting.door)) == 2


def test_a_signal_that_another_thread_got_is_heard_while_a_host_is_in_flight(
    tmp_path: Path,
) -> None:
    """The kernel gives a process's signal to any thread of it that does not block it."""
    heard = threading.Event()
    in_time: list[bool] = []

    def answer(effect: Effect[Any]) -> Any:
        if isinstance(effect, ChangeCommand):
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
            in_time.append(heard.wait(20))
        return fine(effect)

    before = signal.signal(signal.SIGUSR1, lambda *_: heard.set())
    try:
        Setting(tmp_path, MemoryDoor(answer)).run(touch_plan())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert in_time == [True, True]


def test_a_second_interrupt_tells_what_is_known_and_what_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, leave = threading.Event(), threading.Event()

    def answer(effect: Effect[Any]) -> Any:
        if isinstance(effect, ChangeCommand) and effect.host == "web-1":
            inside.set()
            leave.wait(10)

    def interrupted(futures: Any) -> Any:
        """Wait as the real one does, until both hosts are at work; then the second Ctrl-C."""
        real = as_completed(futures)
        yield next(real)
        if inside.wait(1):  # never during the looks before, where nothing is changed
            raise KeyboardInterrupt
        yield from real

    monkeypatch.setattr("runbook.engine.executor.each_ended", interrupted)
    executor = Setting(tmp_path, MemoryDoor(answer)).executor()
    try:
        outcome = executor.run(touch_plan())
    finally:
        leave.set()
    assert outcome.finish.status == "interrupted"
    assert executor.abandoned == ("touch/act/web-1",)
    assert outcome.results["touch/act/web-0"].status == "ok"
    assert outcome.results["touch/act/web-1"].status == "unknown"
