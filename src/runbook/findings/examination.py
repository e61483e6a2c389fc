"""The way of one examination: the server, then the witnesses whom its answers make worth asking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from runbook.findings import snapshot as snapshots
from runbook.findings.protection import QUESTION as ADVISORY_LOCKS
from runbook.findings.table import FINDINGS, WITNESSES
from runbook.findings.view import View
from runbook.findings.witness import WAIT_S, Told
from runbook.model.effects import AskDatabase, Drive, Effect, Question, Sleep, Together, ask

if TYPE_CHECKING:
    from collections.abc import Generator

    from runbook.findings.witness import Witness
    from runbook.model.fleet import Fleet
    from runbook.model.sessions import Snapshot

#: Seconds for all witnesses of a stage: who is away must not keep the answer from whoever waits for
#: it. A host takes 0.3 s, login and all; twenty at once, forty take two rounds.
WITHIN_S = 4.0


def questions() -> tuple[Question, ...]:
    """Return every question that a diagnosis puts to the server, the needed ones first."""
    asked = (
        *snapshots.NEEDED,
        ADVISORY_LOCKS,
        *(question for kind in FINDINGS for question in kind.questions),
    )
    return tuple({question.name: question for question in asked}.values())


def examine(database: str, fleet: Fleet, *, hosts: bool = True) -> Drive[Snapshot]:
    """Ask the server, then the witnesses, in two stages; see `runbook.model.ports.Judge.examine`.

    Raises (through the drive):
        DoorError: when no rung of the ladder lets us in.
        DatabaseError: when who is connected, or how many may be, was not answered.
    """
    answers = yield from ask(AskDatabase(database=database, questions=questions()))
    snapshot = snapshots.assemble(database, answers)
    witnesses = [witness for witness in WITNESSES if hosts or not witness.by_ssh]
    snapshot = yield from _hear(witnesses, "now", snapshot, fleet)
    return (yield from _hear(witnesses, "later", snapshot, fleet))


def _hear(
    witnesses: list[Witness], stage: Literal["now", "later"], snapshot: Snapshot, fleet: Fleet
) -> Generator[Effect[Any], Any, Snapshot]:
    """Ask all witnesses of a stage side by side, and take down what they say."""
    view = View(snapshot=snapshot, fleet=fleet)
    wanted = [(w, w.looks(view)) for w in witnesses if w.stage == stage]
    asked = [(witness, looks) for witness, looks in wanted if looks]
    if not asked:
        return snapshot
    if stage == "later":
        yield from ask(Sleep(seconds=WAIT_S))
    every = tuple(look for _, looks in asked for look in looks)
    outcomes = yield from ask(Together(effects=every, within_s=WITHIN_S))
    told = iter([Told(look, outcome) for look, outcome in zip(every, outcomes, strict=True)])
    for witness, looks in asked:
        snapshot = witness.take(snapshot, tuple(next(told) for _ in looks))
    return snapshot
