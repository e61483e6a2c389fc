"""The runs of rules that have no end: who works on them, and what they wait for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from runbook.engine.resume import open_question
from runbook.model.events import Event
from runbook.model.ports import Journal, KeptRun, RunRecord

#: Runs that are looked at, the newest first: what is older and open was left long ago.
_LOOKED_AT = 1000

#: working   a process works on it
#: asking    it waits for an answer, and has none in time
#: answered  it waited, and may go on
#: resting   no process works on it, and it has intended no change: it may be begun again
#: left      no process works on it, and it has intended a change: a person must look
Standing = Literal["working", "asking", "answered", "resting", "left"]


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenRun:
    """One of them."""

    run_id: str
    standing: Standing
    #: Read only where somebody has something to decide.
    kept: KeptRun | None = None


class OpenRuns:
    """Looks at the journal; used from several threads, one at a time each."""

    def __init__(
        self,
        journal: Journal,
        at_work: Callable[[str], bool],
        *,
        start: Callable[[str], None],
    ) -> None:
        """Prepare; `at_work` says whether a run has a process, or is about to have one.

        `start` begins one.
        """
        self._journal = journal
        self.start = start
        self._at_work = at_work
        #: Whether a rule asked for a run: that never changes.
        self._ruled: dict[str, bool] = {}

    def look(self) -> list[OpenRun]:
        """Return them, the oldest first.

        Raises:
            DoorError: when the journal cannot be read.
        """
        records = [r for r in self._journal.runs(_LOOKED_AT) if r.ended_at is None]
        known = self._ruled  # another thread may be here as well, and put another one in its place
        self._ruled = {r.run_id: known[r.run_id] for r in records if r.run_id in known}
        return [run for record in reversed(records) if (run := self._one(record)) is not None]

    def working(self) -> int:
        """Return how many take part in the work of this moment, or soon will."""
        return sum(run.standing in {"working", "answered", "resting"} for run in self.look())

    def _one(self, record: RunRecord) -> OpenRun | None:
        run_id = record.run_id
        ruled = self._ruled.get(run_id)
        if ruled is False:
            return None
        # Asked before the journal: a process that has ended by now has written its last word.
        working = self._at_work(run_id)
        if working and ruled:
            return OpenRun(run_id=run_id, standing="working")
        kept = self._journal.run(run_id)
        if kept is None or kept.record.ended_at is not None:
            return None
        self._ruled[run_id] = ruled = kept.request is not None and bool(kept.request.rule)
        if not ruled:
            return None
        return OpenRun(run_id=run_id, standing="working" if working else _standing(kept), kept=kept)


def _standing(kept: KeptRun) -> Standing:
    if kept.record.status == "waiting":
        return "answered" if open_question(kept.events) is None else "asking"
    return "left" if any(event.kind == "intended" for event in kept.events) else "resting"


def begun_since_rest(events: Sequence[Event]) -> int:
    """Return how often a process has begun to work on a run since it last came to a rest."""
    begun = 0
    for event in events:
        if event.kind in {"planned", "resumed"}:
            begun += 1
        elif event.kind in {"finished", "answered"}:
            begun = 0
    return begun
