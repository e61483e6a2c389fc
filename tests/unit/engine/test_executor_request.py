"""Runs that a rule asked for: to whom their question is put, for how long, and who has said yes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runbook.engine.asking import put_to
from runbook.engine.executor import RunOutcome
from runbook.model.events import Event
from runbook.model.plan import Confirm, Plan
from runbook.model.ports import Request
from unit.engine.fakes import MemoryDoor
from unit.engine.plans import single_node
from unit.engine.test_executor import changes, touch_plan
from unit.engine.test_executor_resume import Kept

ASKED = Request(playbook="touch", rule="relieve", approvers=("dana", "eve"), answer_within_s=600.0)
CONFIRM = Confirm(key="confirm", touches=("a",), hash="0123456789ab")


@dataclass
class Clock:
    """A clock that is set by hand."""

    at: float = 1000.0

    def __call__(self) -> float:
        return self.at


class Asked(Kept):
    """A run with a request, and nobody here to answer."""

    def __init__(self, folder: Path, request: Request) -> None:
        super().__init__(folder, MemoryDoor())
        self.request = request
        self.answer = None
        self.hands = Clock()
        self.clock = self.hands

    def executor(self, **more: Any) -> Any:
        """Return an executor that knows the request."""
        made = super().executor(**more)
        made._request = self.request
        return made

    def answered(self, by: str, at: float) -> None:
        """Let somebody say yes to what is asked."""
        question = next(event for event in reversed(self.events()) if event.kind == "asked").data
        said = {"key": question["key"], "hash": question["hash"], "yes": True, "by": by}
        self.journal.append("run-1", Event(kind="answered", at=at, data=said))

    def kinds_of(self, kind: str) -> list[dict[str, Any]]:
        """Return the data of the events of a kind."""
        return [event.data for event in self.events() if event.kind == kind]


def waiting(folder: Path, plan: Plan) -> tuple[Asked, RunOutcome]:
    """Return a run that waits."""
    kept = Asked(folder, ASKED)
    outcome = kept.begin(plan)
    assert outcome is not None
    assert outcome.finish.status == "waiting"
    return kept, outcome


def test_the_plans_question_says_whom_it_is_for_and_for_how_long(tmp_path: Path) -> None:
    kept, outcome = waiting(tmp_path, touch_plan())
    [question] = kept.kinds_of("asked")
    assert (question["by"], question["expires_s"]) == (["dana", "eve"], 600.0)
    assert "by dana or eve" in outcome.finish.reason
    assert "`runbook serve` goes on" in outcome.finish.hint
    assert changes(kept.door) == []


def test_whom_it_is_for_changes_nothing_of_what_a_yes_binds_to(tmp_path: Path) -> None:
    kept, _ = waiting(tmp_path / "a", touch_plan())
    other = Asked(tmp_path / "b", Request(playbook="touch"))
    other.begin(touch_plan())
    assert kept.kinds_of("asked")[0]["hash"] == other.kinds_of("asked")[0]["hash"]


def test_a_yes_in_time_is_gone_on_with(tmp_path: Path) -> None:
    kept, _ = waiting(tmp_path, touch_plan())
    kept.answered("dana@browser", at=1500.0)
    kept.hands.at = 1599.0
    assert kept.take_up(touch_plan()).finish.status == "done"
    assert len(changes(kept.door)) == 2


def test_a_yes_that_comes_to_be_used_too_late_is_asked_for_anew(tmp_path: Path) -> None:
    kept, _ = waiting(tmp_path, touch_plan())
    kept.answered("dana@browser", at=1500.0)
    kept.hands.at = 1601.0
    assert kept.take_up(touch_plan()).finish.status == "waiting"
    assert len(kept.kinds_of("asked")) == 2
    assert changes(kept.door) == []


def test_a_process_that_comes_back_leaves_the_question_its_time(tmp_path: Path) -> None:
    kept, _ = waiting(tmp_path, touch_plan())
    kept.hands.at = 1300.0
    kept.take_up(touch_plan())
    assert len(kept.kinds_of("asked")) == 1


def test_a_rule_that_needs_no_approval_has_said_yes_by_its_name(tmp_path: Path) -> None:
    kept = Asked(tmp_path, Request(playbook="touch", confirmed_by="rule relieve (approval: none)"))
    outcome = kept.begin(touch_plan())
    assert outcome is not None
    assert outcome.finish.status == "done"
    [said] = kept.kinds_of("answered")
    assert (said["yes"], said["by"]) == (True, "rule relieve (approval: none)")
    assert kept.asked == []


def test_it_has_said_yes_to_a_steps_own_question_as_well(tmp_path: Path) -> None:
    kept = Asked(tmp_path, Request(playbook="touch", confirmed_by="rule relieve"))
    made = touch_plan()
    made = replace(made, nodes=tuple(replace(n, confirm="Really?") for n in made.nodes))
    outcome = kept.begin(made)
    assert outcome is not None
    assert outcome.finish.status == "done"
    assert [q["kind"] for q in kept.kinds_of("asked")] == ["plan", "step"]


def test_an_approval_is_never_given_by_a_rule(tmp_path: Path) -> None:
    kept = Asked(tmp_path, Request(playbook="touch", confirmed_by="rule relieve"))
    made = touch_plan()
    args = {"prompt": "Shall it?", "by": ["grace"]}
    gate = single_node("go", verb="approve", flow="approval", args=args, targets=("run",))
    outcome = kept.begin(replace(made, nodes=(gate, *made.nodes)))
    assert outcome is not None
    assert outcome.finish.status == "waiting"
    [question] = kept.kinds_of("asked")
    assert (question["kind"], question["by"]) == ("approval", ["grace"])
    assert changes(kept.door) == []


def test_steps_questions_and_approvals_say_for_themselves_whom_they_are_for() -> None:
    for kind in ("step", "approval"):
        confirm = replace(CONFIRM, kind=kind, by=("grace",), expires_s=5.0)
        assert put_to(confirm, ASKED) == confirm
    assert put_to(CONFIRM, None) == CONFIRM
