"""The findings' room behind one door, as steps and wiring see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings import classify, leak_proof, snapshot
from runbook.findings.protection import QUESTION as ADVISORY_LOCKS
from runbook.findings.table import FINDINGS
from runbook.findings.view import View

if TYPE_CHECKING:
    from runbook.model.diagnosis import Diagnosis
    from runbook.model.effects import Answers, Question
    from runbook.model.fleet import Fleet
    from runbook.model.leaks import LeakPolicy, TerminationPlan
    from runbook.model.sessions import Snapshot


class FindingsJudge:
    """Implements `runbook.model.ports.Judge` with the findings of `findings/table.py`."""

    def questions(self) -> tuple[Question, ...]:
        """Return every question that a diagnosis puts to the server, the needed ones first."""
        asked = (
            *snapshot.NEEDED,
            ADVISORY_LOCKS,
            *(q for kind in FINDINGS for q in kind.questions),
        )
        return tuple({question.name: question for question in asked}.values())

    def snapshot(self, database: str, answers: Answers) -> Snapshot:
        """Assemble what the server answered.

        Raises:
            DatabaseError: when who is connected, or how many may be, was not answered.
        """
        return snapshot.assemble(database, answers)

    def diagnose(self, snapshot: Snapshot, fleet: Fleet) -> Diagnosis:
        """Name the cause."""
        return classify.diagnose(snapshot, fleet)

    def leaks(self, snapshot: Snapshot, fleet: Fleet, policy: LeakPolicy) -> TerminationPlan:
        """Prove which sessions are leaked, and say which may be terminated, in order."""
        return leak_proof.prove(View(snapshot=snapshot, fleet=fleet), policy)
