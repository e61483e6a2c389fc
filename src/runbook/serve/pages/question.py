"""The question of a run as it is put to a person: the act, the count, every line it stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook.engine.resume import may_answer
from runbook.serve.pages.standing import until

if TYPE_CHECKING:
    from runbook.model.history import Asked, History
    from runbook.model.plan import Plan
    from runbook.model.ports import RunView

#: Characters of an act in a button; on a phone that is three lines.
_ACT = 70


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked."""

    key: str
    digest: str
    title: str
    #: What the button says: the act and how much of it.
    button: str
    lines: tuple[str, ...]
    by: tuple[str, ...]
    until: float | None
    asked_at: float

    def is_for(self, name: str) -> bool:
        """Whether somebody may answer it in the browser."""
        return may_answer(self.by, f"{name}@browser")


def question_of(plan: Plan, view: RunView, now: float) -> Question | None:
    """Return what a run asks at a moment, or None."""
    asked = view.waiting
    if asked is None:
        return None
    end = until(asked)
    if end is not None and now > end:
        return None
    lines = tuple(map(str, asked["touches"]))
    act = str(asked.get("prompt") or "") or _acts(plan)
    count = _count(len(lines))
    return Question(
        key=str(asked.get("key")),
        digest=str(asked["hash"]),
        title=act if act.endswith("?") else f"{act}?",
        button=f"Approve {count}: {_cut(act)}" if lines else f"Approve: {_cut(act)}",
        lines=lines,
        by=tuple(map(str, asked.get("by") or ())),
        until=end,
        asked_at=float(asked["at"]),
    )


def last_answer(history: History) -> Asked | None:
    """Return the last question that was answered, with its answer."""
    answered = [asked for asked in history.questions if asked.yes is not None]
    return max(answered, key=lambda asked: asked.answered_at or 0.0, default=None)


def _acts(plan: Plan) -> str:
    return "; then ".join(f"{n.name} ({_briefly(n.targets)})" for n in plan.nodes if n.changes)


def _count(number: int) -> str:
    return "1 change" if number == 1 else f"{number} changes"


def _briefly(targets: tuple[str, ...]) -> str:
    more = f" and {len(targets) - 3} more" if len(targets) > 3 else ""
    return ", ".join(targets[:3]) + more


def _cut(text: str) -> str:
    return text if len(text) <= _ACT else f"{text[: _ACT - 1]}…"
