"""Asks before a run changes anything: on the terminal, by --yes, or not at all (then it waits)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from threading import Event
from typing import TYPE_CHECKING

from runbook import wiring
from runbook.model.document import visible
from runbook.rendering.consoles import notes

if TYPE_CHECKING:
    from runbook.model.plan import Confirm, Plan, Result

NOBODY = "nobody: there is no terminal to ask at"


class Confirmer:
    """Answers a run's questions; see `runbook.engine.executor.Confirmer`."""

    def __init__(self, *, yes: bool, pause: Callable[[], None]) -> None:
        """Prepare; `yes` answers all but approvals, `pause` leaves the screen to a question."""
        self._yes = yes
        self._pause = pause
        #: Set while a question stands on the screen.
        self.asking = Event()

    def __call__(
        self, asked: Confirm, plan: Plan, results: Mapping[str, Result]
    ) -> tuple[bool | None, str]:
        """Show what would be touched and ask; None when nobody is here."""
        from runbook.engine.resume import may_answer

        try:
            self._pause()
            _show(asked, plan, results)
        except (OSError, SystemExit):
            return False, "nobody: what would be done could not be shown"
        ours = may_answer(asked.by, wiring.who())
        if self._yes and ours and asked.kind != "approval":
            notes().print(f"Confirmed by --yes (confirmation {asked.hash}).", highlight=False)
            return True, f"{wiring.who()} (--yes)"
        if not sys.stdin.isatty():
            return None, NOBODY
        if not ours:
            # What is somebody else's to answer waits for them.
            what = visible(asked.prompt) or "This"
            notes().print(f"\n{what} It is for {visible(' or '.join(asked.by))} to approve.")
            return None, wiring.who()
        self.asking.set()
        try:
            return _answer(asked, plan), wiring.who()
        finally:
            self.asking.clear()


def _show(asked: Confirm, plan: Plan, results: Mapping[str, Result]) -> None:
    from runbook.rendering.intentions import show_intentions

    if asked.kind == "plan":
        show_intentions(plan, results, notes())
        return
    for line in asked.touches:
        notes().print(f"  {visible(line)}", soft_wrap=True, highlight=False, markup=False)


def _answer(asked: Confirm, plan: Plan) -> bool | None:
    if asked.kind == "plan":
        return _yes_or_no(_question(asked, plan))
    prompt = visible(asked.prompt)
    if asked.kind == "step":
        return _yes_or_no(f"\n{prompt} Go ahead? [y/N] ")
    return _approval(prompt)


def _approval(prompt: str) -> bool | None:
    """Not to answer is to leave it to somebody else."""
    answer = _read(f"\n{prompt} Approve? [y]es, [n]o, anything else: later ")
    return {"y": True, "yes": True, "n": False, "no": False}.get(answer or "")


def _question(asked: Confirm, plan: Plan) -> str:
    """Ask with the act and its target in the question: what stands above may have scrolled off."""
    acts = [f"{n.name} ({_briefly(n.targets)})" for n in plan.nodes if n.changes]
    count = len(asked.touches)
    things = "1 change" if count == 1 else f"up to {count} changes"
    what = visible("; then ".join(acts))
    return f"\n{what}: {things}, as shown. Go ahead? [y/N] "


def _yes_or_no(question: str) -> bool:
    return (_read(question) or "") in {"y", "yes"}


def _read(question: str) -> str | None:
    """Return the answer in lower case; None when there was none, or Ctrl-C."""
    notes().print(question, end="", soft_wrap=True, markup=False)
    try:
        answer = input()
    except (EOFError, KeyboardInterrupt):
        notes().print()
        return None
    return answer.strip().lower()


def _briefly(targets: tuple[str, ...]) -> str:
    more = f" and {len(targets) - 3} more" if len(targets) > 3 else ""
    return ", ".join(targets[:3]) + more
