"""What holds for every plan and every world: drawn plans, answered at random, watched throughout.

The model executor is `History`: it decides each moment twice (from a ledger, and from a mapping in
another order), refuses a task that has a result, and fails when a run does not come to an end.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from runbook.engine.decide import decide
from runbook.model.plan import (
    Finish,
    Node,
    Obligation,
    Plan,
    Result,
    Retry,
    Status,
    Task,
)
from unit.engine.plans import History, plan, rolling_node, single_node

ACTED = {"ok", "failed", "unknown"}
CONDITIONS = (
    None,
    "params.size == 1",
    "params.size == 2",
    "steps.s0.status == 'ok'",
    "steps.s1.status != 'failed'",
)


# ---- drawn plans ---------------------------------------------------------------------------


@st.composite
def singles(draw: st.DrawFn, number: int) -> Node:
    """Draw one step of the main line."""
    key = f"s{number}"
    changes = draw(st.booleans())
    more: dict[str, Any] = {
        "changes": changes,
        "targets": tuple(f"h{i}" for i in range(draw(st.integers(1, 4)))),
        "save": key,
        "when": draw(st.sampled_from(CONDITIONS)) if number > 1 else None,
        "on_failure": draw(st.sampled_from(("stop", "stop", "continue"))),
        "confirm": draw(st.sampled_from((None, None, None, "Go on?"))),
    }
    if draw(st.integers(0, 3)) == 0:
        until = draw(st.sampled_from((None, "result.n > 1")))
        more["retry"] = Retry(times=draw(st.integers(2, 3)), delay_s=1.0, until=until)
    if not changes and draw(st.integers(0, 4)) == 0:
        more |= {"flow": "approval", "args": {"prompt": "May it?"}, "retry": None}
    return single_node(key, **more)


@st.composite
def rollings(draw: st.DrawFn, number: int) -> Node:
    """Draw a rolling step whose batches cover its hosts."""
    hosts = draw(st.integers(1, 9))
    batches: list[int] = []
    while sum(batches) < hosts:
        batches.append(draw(st.integers(1, hosts - sum(batches))))
    return rolling_node(
        hosts,
        tuple(batches),
        max_failures=draw(st.integers(0, 3)),
        key=f"s{number}",
        name=f"s{number}",
        save=f"s{number}",
        on_failure=draw(st.sampled_from(("stop", "stop", "continue"))),
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Draw a plan: main steps, steps that follow a failure, steps that always run."""
    nodes: list[Node] = []
    for number in range(draw(st.integers(1, 5))):
        rolls = draw(st.integers(0, 2)) == 0
        node = draw(rollings(number) if rolls else singles(number))
        nodes.append(node)
        for which in range(draw(st.integers(0, 2)) if node.on_failure == "stop" else 0):
            changes = draw(st.booleans())
            key = f"after-{node.key}-{which}"
            nodes.append(single_node(key, changes=changes, role="on_failure", of=node.key))
            if draw(st.booleans()):
                nested = single_node(f"{key}-x", changes=True, role="on_failure", of=key)
                nodes.append(nested)
    always = draw(st.lists(st.booleans(), max_size=2))
    nodes += [single_node(f"a{n}", changes=c, role="always") for n, c in enumerate(always)]
    made = plan(*nodes, size=1, rehearsal=draw(st.integers(0, 4)) == 0)
    return replace(made, parallel=draw(st.integers(1, 4)))


# ---- drawn worlds --------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """Answers each task by its key alone: the same one again is answered the same."""

    seed: int
    #: How often things go wrong, of 100.
    trouble: int
    rehearsal: bool

    def dice(self, *of: str) -> random.Random:
        """Return the chance that belongs to something."""
        return random.Random(zlib.crc32(f"{self.seed} {of}".encode()))

    def __call__(self, task: Task) -> Result:
        dice = self.dice(task.key)
        status: Status = "ok"
        if self.rehearsal and (task.changes or task.phase == "restart"):
            status = "rehearsed"
        if dice.randrange(100) < self.trouble // (4 if task.phase in LOOKING else 1):
            status = dice.choice(("failed", "failed", "unreachable", "unknown", "refused"))
        lines = (f"{task.phase} {task.key}",) if task.phase in LOOKING else ()
        data = {"healthy": dice.randrange(4) > 0, "n": dice.randrange(4)}
        return Result(status=status, summary=f"{task.key} is {status}", touches=lines, data=data)

    def owes(self, made: Plan) -> dict[str, Obligation]:
        """Return what restarts leave owed."""
        keys = [
            f"{n.key}/restart/{t}" for n in made.nodes if n.flow == "rolling" for t in n.targets
        ]
        return {
            key: Obligation(key=f"undrain {key}", task=key, what=f"undrain {key}")
            for key in keys
            if not made.rehearsal and self.dice("owes", key).randrange(100) < self.trouble
        }

    def answers(self) -> dict[str, bool]:
        """Return an answer for every question that may come."""
        keys = ["confirm", *(f"s{n}/{kind}" for n in range(5) for kind in ("confirm", "approval"))]
        return {key: self.dice("answer", key).randrange(100) >= self.trouble // 4 for key in keys}


LOOKING = {"prepare", "preflight", "admit"}


@st.composite
def cases(draw: st.DrawFn) -> tuple[Plan, World]:
    """Draw a plan and a world for it."""
    made = draw(plans())
    trouble = draw(st.sampled_from((0, 10, 30, 60)))
    return made, World(draw(st.integers(0, 10**6)), trouble, made.rehearsal)


# ---- the watch -----------------------------------------------------------------------------


class Watched(History):
    """Checks each task against what was known when it was begun."""

    def __init__(self, made: Plan, world: World, **more: Any) -> None:
        super().__init__(made, world, **{"answers": world.answers(), **more})
        self.made = made
        self.nodes = {node.key: node for node in made.nodes}
        self.given: Mapping[str, bool] = {}

    def decide(self, given: Mapping[str, bool]) -> Any:
        self.given = given
        return super().decide(given)

    def stopped(self) -> bool:
        """Whether somebody has pressed Ctrl-C before the latest Perform was decided."""
        after = self.interrupt_after
        return after is not None and len(self.performed) - 1 >= after

    def _perform(self, tasks: tuple[Task, ...]) -> None:
        for task in tasks:
            node = self.nodes[task.node]
            if task.changes and not self.made.rehearsal and task.phase != "settle":
                assert any(set(task.shown) <= set(yes.touches) for yes in self.yes), (
                    "a change that no yes stands for"
                )
                if node.confirm:
                    assert self.given.get(f"{node.key}/confirm"), "a change before the step's yes"
            if self.stopped():
                assert task.phase == "settle" or node.role == "always", "begun after Ctrl-C"
        acting = [task for task in tasks if task.changes and task.phase != "settle"]
        if not self.made.rehearsal:
            assert len(acting) <= self.made.parallel, "more than can run at once"
        if acting and acting[0].phase == "restart":
            self._check_restarts(self.nodes[acting[0].node], acting)
        super()._perform(tasks)

    def _check_restarts(self, node: Node, tasks: list[Task]) -> None:
        if self.made.rehearsal:
            return
        looked = {t: self.results[f"{node.key}/preflight/{t}"] for t in node.targets}
        done = {t: self.results.get(f"{node.key}/restart/{t}") for t in node.targets}
        bad = [t for t, r in done.items() if r is not None and not r.good]
        away = [t for t, r in looked.items() if r.status == "unreachable"]
        assert len(bad) + len(away) <= node.max_failures, "begun with the threshold exceeded"
        order = [t for t in node.targets if looked[t].good and not looked[t].data["healthy"]]
        order += [t for t in node.targets if looked[t].good and looked[t].data["healthy"]]
        start, number = 0, 1
        begun = {task.target for task in tasks}
        while not begun <= set(order[start : start + node.batches[number - 1]]):
            start += node.batches[number - 1]
            number += 1
            assert number <= len(node.batches), "hosts of two batches in flight"
        assert all(done[t] is not None for t in order[:start]), "a batch before the last was over"
        assert self.results[f"{node.key}/admit/{number}"].good, "a batch that was not admitted"
        assert not set(bad) & set(order[: node.batches[0]]) or number == 1
        if number > 1:
            assert not set(bad) & set(order[: node.batches[0]]), "begun after a bad canary"

    # ---- after the end -----------------------------------------------------------------------

    def acted(self) -> bool:
        """Whether anything but the always steps acted."""
        return any(
            self.results[key].status in ACTED
            for key, task in self.tasks.items()
            if task.changes and self.nodes[task.node].role != "always"
        )

    def check_end(self, finish: Finish) -> None:
        """Check what a run owes when it is over."""
        self.check_obligations(finish)
        if not self.made.rehearsal:
            self.check_always(finish)
            assert (finish.status == "refused") <= (not self.acted()), "refused, and it acted"
        restarts = [key for key in self.begun() if "/restart/" in key]
        assert len(restarts) == len(set(restarts))
        finals = {o.key: o for o in self.owed}
        assert (
            decide(
                self.made,
                self.results,
                self.given,
                interrupted=self.interrupt_after is not None
                and len(self.performed) >= self.interrupt_after,
                owed=tuple(finals.values()),
                confirmed=self.confirmed,
            )
            == finish
        ), "something after the end"

    def check_obligations(self, finish: Finish) -> None:
        """Every debt was paid, or it was tried and is told."""
        for owed in self.owed:
            node, _, target = owed.task.split("/")
            assert f"{node}/settle/{target}" in self.results, "owed, and never tried"
            assert f"still owed: {owed.what}" in finish.reason
            assert finish.status not in {"done", "rehearsed", "refused"}

    def check_always(self, finish: Finish) -> None:
        """An always step ran once when anything acted, or it is told why it could not."""
        for node in self.made.nodes:
            if node.role != "always":
                continue
            times = self.begun().count(f"{node.key}/act/db")
            could = self.results.get(f"{node.key}/prepare/db", Result(status="ok")).good
            if not self.acted():
                assert times == 0
            elif could:
                assert times == 1
            else:
                assert f"{node.key}: " in finish.reason


MANY = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@MANY
@given(cases())
def test_whatever_is_planned_and_whatever_happens(case: tuple[Plan, World]) -> None:
    made, world = case
    history = Watched(made, world, owes=world.owes(made))
    finish = history.play()
    event(finish.status)
    history.check_end(finish)


@MANY
@given(cases(), st.integers(0, 12))
def test_an_interrupt_at_any_moment(case: tuple[Plan, World], after: int) -> None:
    made, world = case
    history = Watched(made, world, owes=world.owes(made))
    history.interrupt_after = after
    finish = history.play()
    event(finish.status)
    history.check_end(finish)


@MANY
@given(cases(), st.integers(0, 12))
def test_a_run_that_is_cut_anywhere_ends_as_if_it_had_not_been(
    case: tuple[Plan, World], cut: int
) -> None:
    """What was in flight is dropped, and comes to the same when it is done anew."""
    made, world = case
    whole = Watched(made, world)
    finish = whole.play()
    assume(cut < len(whole.performed))
    kept = {key: whole.results[key] for batch in whole.performed[:cut] for key in batch}
    resumed = Watched(made, world, results=kept)
    again = resumed.play()
    assert again == finish
    assert dict(resumed.results) == dict(whole.results)


@MANY
@given(cases(), st.integers(0, 12), st.randoms(use_true_random=False))
def test_a_resume_does_nothing_again_that_ended_well(
    case: tuple[Plan, World], cut: int, dice: random.Random
) -> None:
    """As a resume does: what did not end well is dropped, and what the crash left owed is told."""
    made, world = case
    owes = world.owes(made)
    whole = Watched(made, world, owes=owes)
    whole.play()
    assume(cut < len(whole.performed))
    over = [key for batch in whole.performed[:cut] for key in batch]
    # Some of what was in flight was over when the process was lost.
    over += [key for key in whole.performed[cut] if dice.random() < 0.5]
    kept = {k: whole.results[k] for k in over if whole.results[k].good and "/settle/" not in k}
    owed = [debt for key, debt in owes.items() if key in set().union(*whole.performed[: cut + 1])]
    healed = replace(world, seed=world.seed + 1)
    resumed = Watched(made, healed, results=kept, owed=owed, answers=world.answers())
    finish = resumed.play()
    assert not set(kept) & set(resumed.begun())
    cut_off = [f"{d.task.replace('/restart/', '/settle/')}" for d in owed if d.task not in kept]
    assert set(resumed.performed[0] if cut_off else ()) == set(cut_off), "settled first"
    resumed.check_obligations(finish)
