"""The local executor takes a run up: a real journal, a world in memory, deaths at every effect."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runbook.adapters.journal import SqliteJournal
from runbook.engine.executor import RunOutcome
from runbook.engine.perform import Performer
from runbook.engine.resume import answers, open_question
from runbook.model.effects import ChangeCommand, Drive, Effect, Note, Owe, Paid, ReadCommand, ask
from runbook.model.errors import DoorError, Refused
from runbook.model.events import Event
from runbook.model.plan import Obligation, Plan, Result, Retry
from runbook.model.step import StepContext, StepType
from unit.engine.fakes import TOUCH, MemoryDoor, TouchArgs, touch
from unit.engine.plans import plan, single_node
from unit.engine.test_executor import Setting, changes, touch_plan


class Died(BaseException):
    """The process is killed: nothing in it is asked any more."""


class Dying(MemoryDoor):
    """A door in front of which the process dies at its n-th change, before or after it is made."""

    def __init__(self, at: int, *, made: bool) -> None:
        super().__init__()
        self._at, self._made, self.count = at, made, 0

    def perform(self, effect: Effect[Any]) -> Any:
        """Die when it is time."""
        if isinstance(effect, ChangeCommand):
            self.count += 1
            if self.count == self._at:
                if self._made:
                    super().perform(effect)
                raise Died
        return super().perform(effect)


def one_by_one(made: Plan) -> Plan:
    """Return the same plan, one task at a time."""
    return replace(made, parallel=1)


class Kept(Setting):
    """A run that may be begun, lost and taken up, with a step type of one's own."""

    def __init__(self, folder: Path, door: MemoryDoor, step: StepType = TOUCH) -> None:
        super().__init__(folder, door)
        self.step = step
        self.answer: bool | None = True
        self.clock: Callable[[], float] = time.time
        self.thinking: Callable[[], object] = lambda: None

    def begin(self, made: Plan) -> RunOutcome | None:
        """Begin a run; None when its process died."""
        try:
            return self.run(made)
        except Died:
            # What was not on disk yet is gone with the process.
            self.journal._waiting.clear()
            self.journal = SqliteJournal(self.path)
            return None

    def executor(self, **more: Any) -> Any:
        """Return an executor that listens to the journal."""
        made = super().executor(**more)
        made._mailbox = self.journal
        made._now = self.clock
        performer: Performer = made._performer
        made._performer = replace(performer, steps={"touch": self.step})
        return made

    def take_up(self, made: Plan, **choices: Sequence[str]) -> RunOutcome:
        """Resume it as another process would."""
        kept = self.journal.run("run-1")
        assert kept is not None
        self.journal.take_up("run-1")
        outcome: RunOutcome = self.executor().resume(made, kept.events, by="ada@desk", **choices)
        self.journal.end("run-1", outcome.finish.status, 3.0)
        return outcome

    def events(self) -> Sequence[Event]:
        """Return what the journal has of the run."""
        kept = self.journal.run("run-1")
        assert kept is not None
        return kept.events

    def _confirm(self, confirm: Any, *_rest: Any) -> Any:
        self.asked.append(confirm)
        self.thinking()
        return self.answer, "ada"


def looking(args: TouchArgs, ctx: StepContext) -> Drive[Result]:
    """Act as a verb that looks after a crash: what was made is not made again."""
    crashed = ctx.given.get("crashed") or {}
    for word in args.words:
        change = touch(ctx.target, word)
        if change.sentence() in crashed.get("intended", ()):
            made = yield from ask(ReadCommand(host=ctx.target, argv=("was", word)))
            if made.ok:
                continue
        yield from ask(change)
    return Result(status="ok", summary="touched")


LOOKING = replace(TOUCH, phases={**TOUCH.phases, "act": looking}, after_crash="probe")


class World(Dying):
    """Hosts that remember what was done to them."""

    def perform(self, effect: Effect[Any]) -> Any:
        """Answer a look at what was done."""
        outcome = super().perform(effect)
        if isinstance(effect, ReadCommand) and effect.argv[0] == "was":
            word = touch(effect.host, effect.argv[1])
            return replace(outcome, exit_code=0 if word in self.asked else 1)
        return outcome


@pytest.mark.parametrize("at", range(1, 5))
@pytest.mark.parametrize("made", [False, True])
def test_killed_at_any_change_each_is_made_exactly_once(
    tmp_path: Path, at: int, made: bool
) -> None:
    door = World(at, made=made)
    kept = Kept(tmp_path, door, LOOKING)
    planned = one_by_one(probing(words=("a", "b")))
    assert kept.begin(planned) is None
    outcome = kept.take_up(planned)
    assert outcome.finish.status == "done"
    hosts = ("web-0", "web-1")
    assert changes(door) == [touch(host, word) for host in hosts for word in ("a", "b")]
    assert list(kept.journal.verify()) == []


def probing(words: tuple[str, ...] = ("a",)) -> Plan:
    """Return the touching plan with a verb that can look."""
    made = touch_plan(words=words)
    return replace(made, nodes=(replace(made.nodes[0], after_crash="probe"),))


def test_who_confirmed_is_not_asked_again(tmp_path: Path) -> None:
    kept = Kept(tmp_path, World(1, made=True), LOOKING)
    kept.begin(one_by_one(probing()))
    kept.take_up(one_by_one(probing()))
    assert len(kept.asked) == 1


def test_what_was_shown_otherwise_is_asked_anew(tmp_path: Path) -> None:
    """The answer binds to the lines that were shown, not to the run."""
    kept = Kept(tmp_path, World(1, made=True), LOOKING)
    planned = one_by_one(probing())
    kept.begin(planned)
    before = kept.journal.run("run-1")
    assert before is not None
    events = [e for e in before.events if e.task != "touch/prepare/web-1"]
    other = (*TOUCH.phases.items(), ("prepare", _prepare_more))
    kept.step = replace(LOOKING, phases={**dict(other), "act": looking})
    kept.journal.take_up("run-1")
    kept.executor().resume(planned, events, by="ada@desk")
    assert len(kept.asked) == 2


def _prepare_more(args: TouchArgs, ctx: StepContext) -> Drive[Result]:
    yield from ()
    lines = [line for word in ("a", "z") for line in touch(ctx.target, word).footprint()]
    return Result(status="ok", touches=tuple(lines))


def test_what_cannot_look_is_unknown_until_a_person_says(tmp_path: Path) -> None:
    door = World(1, made=True)
    kept = Kept(tmp_path, door)
    planned = one_by_one(touch_plan())
    kept.begin(planned)
    left = kept.take_up(planned)
    assert left.finish.status == "unknown"
    assert len(changes(door)) == 1
    assert kept.take_up(planned, done=["touch/act/web-0"]).finish.status == "done"
    assert changes(door) == [touch("web-0", "a"), touch("web-1", "a")]


def test_done_again_when_a_person_says_so(tmp_path: Path) -> None:
    door = World(1, made=False)
    kept = Kept(tmp_path, door)
    planned = one_by_one(touch_plan())
    kept.begin(planned)
    assert kept.take_up(planned, again=["touch/act/web-0"]).finish.status == "done"
    assert changes(door) == [touch("web-0", "a"), touch("web-1", "a")]


def test_what_the_end_may_have_undone_stops_a_resume_before_anything_begins(
    tmp_path: Path,
) -> None:
    door = World(2, made=True)
    kept = Kept(tmp_path, door)
    one = replace(touch_plan().nodes[0], targets=("web-0",))
    after = replace(one, key="start", name="start", role="always")
    broken = replace(one, key="work", name="work", targets=("web-1",), after_crash="repeat")
    made = plan(one, broken, after)
    kept.begin(made)  # it dies in the second step, and a person ends it by hand
    kept.journal.append(
        "run-1",
        Event(
            kind="intended",
            at=4.0,
            task="start/act/web-0",
            data={"sentence": "start", "footprint": []},
        ),
    )
    before = len(kept.kinds())
    with pytest.raises(Refused, match="then start ran"):
        kept.take_up(made)
    assert len(kept.kinds()) == before
    assert len(changes(door)) == 2


# ---- debts -------------------------------------------------------------------------------------


def owing(_args: TouchArgs, ctx: StepContext) -> Drive[Result]:
    """Owe an undoing, do it, act, undo it."""
    key = f"undo {ctx.target}"
    yield from ask(Note(data={"seen": 7}))
    yield from ask(Owe(key=key, what=key, by_hand=(f"hand {key}",), data={"of": ctx.target}))
    yield from ask(touch(ctx.target, "a"))
    yield from ask(touch(ctx.target, "b"))
    yield from ask(touch(ctx.target, "undo"))
    yield from ask(Paid(key=key))
    return Result(status="ok")


def settling(_args: TouchArgs, ctx: StepContext) -> Drive[Result]:
    """Undo what is owed."""
    yield from ask(touch(ctx.given["owed"]["data"]["of"], "undo"))
    yield from ask(Paid(key=ctx.given["owed"]["key"]))
    return Result(status="ok")


OWING = replace(LOOKING, phases={**TOUCH.phases, "act": owing, "settle": settling})


def test_what_a_crash_left_owed_is_settled_before_anything_else(tmp_path: Path) -> None:
    door = World(2, made=True)
    kept = Kept(tmp_path, door, OWING)
    planned = one_by_one(probing(words=("a", "b", "undo")))
    planned = replace(
        planned,
        nodes=(replace(planned.nodes[0], args={"words": [], "shown": ["a", "b", "undo"]}),),
    )
    assert kept.begin(planned) is None
    done = len(changes(door))
    outcome = kept.take_up(planned)
    assert changes(door)[done] == touch("web-0", "undo")
    assert outcome.owed == ()
    assert outcome.finish.status == "done"


def test_a_debt_that_stays_open_is_told_with_what_pays_it(tmp_path: Path) -> None:
    def unpaid(_args: TouchArgs, _ctx: StepContext) -> Drive[Result]:
        yield from ()
        return Result(status="failed", summary="not well")

    door = World(2, made=True)
    step = replace(OWING, phases={**OWING.phases, "settle": unpaid, "act": _fail_owing})
    kept = Kept(tmp_path, door, step)
    outcome = kept.run(one_by_one(probing()))
    assert [debt.by_hand for debt in outcome.owed] == [("hand undo web-0",)]
    assert outcome.finish.status == "failed"


def _fail_owing(_args: TouchArgs, ctx: StepContext) -> Drive[Result]:
    key = f"undo {ctx.target}"
    yield from ask(Owe(key=key, what=key, by_hand=(f"hand {key}",)))
    yield from ask(touch(ctx.target, "a"))
    return Result(status="failed", summary="ill")


# ---- waiting -----------------------------------------------------------------------------------


def test_without_anybody_to_ask_a_run_waits_and_goes_on_by_an_answer(tmp_path: Path) -> None:
    kept = Kept(tmp_path, MemoryDoor())
    kept.answer = None
    outcome = kept.run(touch_plan())
    assert outcome.finish.status == "waiting"
    assert "runbook runs approve run-1" in outcome.finish.hint
    assert changes(kept.door) == []
    record = kept.journal.runs()[0]
    assert (record.status, record.ended_at) == ("waiting", None)

    assert kept.take_up(touch_plan()).finish.status == "waiting"
    assert kept.kinds().count("asked") == 1  # its time runs from when it was first asked

    answer = {"key": "confirm", "hash": kept.asked[0].hash, "yes": True, "by": "grace@desk"}
    kept.journal.append("run-1", Event(kind="answered", at=5.0, data=answer))
    kept.asked.clear()
    assert kept.take_up(touch_plan()).finish.status == "done"
    assert kept.asked == []
    assert len(changes(kept.door)) == 2
    assert list(kept.journal.verify()) == []


def test_a_run_that_waits_holds_no_lock(tmp_path: Path) -> None:
    kept = Kept(tmp_path, MemoryDoor())
    kept.answer = None
    kept.run(touch_plan())
    with kept.executor()._holding(touch_plan()):
        pass


def test_an_approval_that_is_used_too_late_is_asked_for_anew(tmp_path: Path) -> None:
    kept = Kept(tmp_path, MemoryDoor())
    kept.answer = None
    approve = single_node(
        "ok", verb="approve", flow="approval", args={"prompt": "Go?", "expires": 100}, targets=("",)
    )
    planned = plan(replace(approve, verb="touch"), touch_plan().nodes[0])
    clock = [1000.0]
    kept.clock = lambda: clock[0]
    kept.run(planned)
    asked = kept.asked[-1]
    assert asked.kind == "approval"
    answer = {"key": asked.key, "hash": asked.hash, "yes": True, "by": "grace@desk"}
    kept.journal.append("run-1", Event(kind="answered", at=1050.0, data=answer))
    clock[0] = 1200.0
    assert kept.take_up(planned).finish.status == "waiting"
    assert [each.kind for each in kept.asked] == ["approval", "approval"]
    assert kept.kinds().count("asked") == 2
    # The new question is open, and the old answer does not stand in its way.
    events = kept.events()
    assert open_question(events) is not None
    assert answers(events) == {}
    kept.journal.append("run-1", Event(kind="answered", at=1210.0, data=answer))
    clock[0] = 1220.0
    assert answers(kept.events())[asked.key, asked.hash].counts(1220.0)


def test_an_answer_at_the_terminal_that_came_too_late_is_none(tmp_path: Path) -> None:
    kept = Kept(tmp_path, MemoryDoor())
    clock = [1000.0]
    kept.clock = lambda: clock[0]
    kept.thinking = lambda: clock.__setitem__(0, 1200.0)
    node = single_node(
        "ok", verb="touch", flow="approval", args={"prompt": "Go?", "expires": 100}, targets=("",)
    )
    assert kept.run(plan(node, touch_plan().nodes[0])).finish.status == "waiting"
    assert "answered" not in kept.kinds()


# ---- stopping ----------------------------------------------------------------------------------


def test_word_from_another_process_stops_it_as_an_interrupt_does(tmp_path: Path) -> None:
    def answer(effect: Effect[Any]) -> Any:
        if isinstance(effect, ChangeCommand):
            stop = Event(kind="interrupted", at=1.0, data={"by": "grace@desk"})
            kept.journal.append("run-1", stop)
            assert executor._interrupted.wait(10)

    kept = Kept(tmp_path, MemoryDoor(answer))
    kept.journal.begin(record_of(touch_plan()), {})
    executor = kept.executor()
    two = plan(*one_by_one(touch_plan()).nodes)
    outcome = executor.run(replace(two, parallel=1))
    assert outcome.finish.status == "interrupted"
    assert len(changes(kept.door)) == 1
    assert kept.kinds().count("interrupted") == 1


def record_of(made: Plan) -> Any:
    """Return the record of run-1."""
    from runbook.model.ports import RunRecord

    return RunRecord(
        run_id="run-1", playbook=made.playbook, target=made.target, rehearsal=False,
        status="running", started_at=1.0, ended_at=None, who="x", incident=None,
        plan_hash=made.hash,
    )  # fmt: skip


def test_an_interrupt_is_told_to_the_journal_with_who_it_was(tmp_path: Path) -> None:
    def answer(effect: Effect[Any]) -> Any:
        if isinstance(effect, ChangeCommand):
            executor.interrupt(by="SIGTERM")

    kept = Kept(tmp_path, MemoryDoor(answer))
    kept.journal.begin(record_of(touch_plan()), {})
    executor = kept.executor()
    executor.run(touch_plan())
    run = kept.journal.run("run-1")
    assert run is not None
    assert [e.data for e in run.events if e.kind == "interrupted"] == [{"by": "SIGTERM"}]


def test_a_retrys_wait_is_cut_short_by_an_interrupt_and_the_attempt_never_begun(
    tmp_path: Path,
) -> None:
    def answer(_effect: Effect[Any]) -> Any:
        threading.Timer(0.2, lambda: executor.interrupt(by="SIGINT")).start()
        raise DoorError("no")

    kept = Kept(tmp_path, MemoryDoor(answer))
    look = single_node(
        "look",
        verb="touch",
        args={"words": ["a"], "shown": ["a"]},
        targets=("web-0",),
        retry=Retry(times=3, delay_s=3600.0),
    )
    kept.step = replace(TOUCH, phases={"act": TOUCH.phases["prepare"]})
    executor = kept.executor()
    outcome = executor.run(plan(look))
    assert outcome.finish.status == "interrupted"
    assert len(kept.door.asked) == 1


def test_what_is_in_flight_is_told_in_words(tmp_path: Path) -> None:
    words: list[str] = []

    def answer(effect: Effect[Any]) -> Any:
        if isinstance(effect, ChangeCommand):
            words.extend(flight.words() for flight in executor.interrupt())

    kept = Kept(tmp_path, MemoryDoor(answer))
    executor = kept.executor()
    executor.run(one_by_one(touch_plan()))
    assert words == ["web-0 (act)"]


def test_tasks_are_given_plain_data(tmp_path: Path) -> None:
    """What a task is given may have to travel: lists, no tuples, nothing but JSON."""
    seen: list[dict[str, Any]] = []

    def see(args: TouchArgs, ctx: StepContext) -> Drive[Result]:
        seen.append(dict(ctx.given))
        return (yield from looking(args, ctx))

    kept = Kept(
        tmp_path, World(1, made=True), replace(LOOKING, phases={**TOUCH.phases, "act": see})
    )
    kept.begin(one_by_one(probing()))
    kept.take_up(one_by_one(probing()))
    crashed = seen[1]["crashed"]
    assert crashed["intended"] == [touch("web-0", "a").sentence()]
    assert crashed["changed"] == []


def test_a_task_knows_who_answered_its_own_question(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def see(args: TouchArgs, ctx: StepContext) -> Drive[Result]:
        seen.append(dict(ctx.given))
        return (yield from looking(args, ctx))

    kept = Kept(tmp_path, MemoryDoor(), replace(LOOKING, phases={**TOUCH.phases, "act": see}))
    node = replace(touch_plan().nodes[0], confirm="Sure?", targets=("web-0",))
    assert kept.run(plan(node)).finish.status == "done"
    assert [asked.kind for asked in kept.asked] == ["plan", "step"]
    assert (seen[0]["answer"]["yes"], seen[0]["answer"]["by"]) == (True, "ada")


def test_a_debt_that_cannot_be_kept_is_not_made(tmp_path: Path) -> None:
    class FullDisk:
        def notice(self, event: Event) -> None:
            if event.kind == "owed":
                raise DoorError("the journal cannot be written: disk full")

    kept = Kept(tmp_path, MemoryDoor(), OWING)
    executor = kept.executor()
    executor._keepers = (FullDisk(),)
    outcome = executor.run(probing())
    assert outcome.finish.status == "refused"
    assert "disk full" in outcome.finish.reason
    assert changes(kept.door) == []


def test_a_full_journal_does_not_keep_a_host_out_that_is_owed_its_return(tmp_path: Path) -> None:
    """The debt is on disk; the intent to pay it is not needed there as well."""

    class Full:
        full = False

        def notice(self, event: Event) -> None:
            if event.kind == "changed" and "touch a" in event.data["sentence"]:
                self.full = True
            elif self.full:
                raise DoorError("the disk is full")

    kept = Kept(tmp_path, MemoryDoor(), OWING)
    kept.journal.begin(record_of(probing()), {})
    node = replace(
        probing().nodes[0],
        args={"words": [], "shown": ["a", "b", "undo"]},
        targets=("web-0",),
    )
    executor = kept.executor()
    executor._keepers = (Full(),)
    outcome = executor.run(plan(node))
    assert changes(kept.door) == [touch("web-0", word) for word in ("a", "undo")]
    assert outcome.owed == ()
    assert outcome.finish.status == "failed"
    assert "the disk is full" in executor.complaints


@pytest.mark.parametrize("place", ["decide", "_ask", "_perform_all"])
def test_a_second_interrupt_anywhere_is_an_end_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The end, and what is owed, are told; nothing leaves the executor as an exception."""

    def struck(*_args: Any, **_more: Any) -> Any:
        raise KeyboardInterrupt

    kept = Kept(tmp_path, MemoryDoor())
    kept.journal.begin(record_of(touch_plan()), {})
    executor = kept.executor()
    executor._owed = {"undo": Obligation(key="undo", task="x/act/y", what="w", by_hand=("hand",))}
    if place == "decide":
        monkeypatch.setattr("runbook.engine.executor.decide", struck)
    else:
        setattr(executor, place, struck)
    outcome = executor.run(touch_plan())
    assert outcome.finish.status == "interrupted"
    assert [debt.by_hand for debt in outcome.owed] == [("hand",)]
    assert kept.kinds()[-1] == "finished"
    assert executor.over.is_set()


def test_what_has_ended_before_a_second_interrupt_stays_known(tmp_path: Path) -> None:
    kept = Kept(tmp_path, MemoryDoor())
    kept.journal.begin(record_of(touch_plan()), {})
    executor = kept.executor()
    performed = executor._perform_all

    def struck(*args: Any, **more: Any) -> Any:
        performed(*args, **more)
        raise KeyboardInterrupt

    executor._perform_all = struck
    outcome = executor.run(touch_plan())
    assert outcome.results["touch/prepare/web-0"].good
    assert executor.abandoned == ()


def test_a_result_that_cannot_be_kept_is_a_defect_and_no_crash(tmp_path: Path) -> None:
    def odd(_args: TouchArgs, ctx: StepContext) -> Drive[Result]:
        yield from ask(touch(ctx.target, "a"))
        return Result(status="ok", data={"set": {1}})

    kept = Kept(tmp_path, MemoryDoor(), replace(LOOKING, phases={**TOUCH.phases, "act": odd}))
    outcome = kept.run(touch_plan())
    result = outcome.results["touch/act/web-0"]
    assert result.status == "unknown"
    assert "set is not JSON serializable" in result.summary


def test_a_run_that_hears_nobody_any_more_says_so(tmp_path: Path) -> None:
    class Garbled:
        def news(self) -> Sequence[Event]:
            raise ValueError("garbled")

    kept = Kept(tmp_path, MemoryDoor())
    executor = kept.executor()
    executor._mailbox = Garbled()
    executor._listen()
    assert ["garbled" in what for what in executor.complaints] == [True]
