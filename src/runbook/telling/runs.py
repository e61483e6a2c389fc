"""Which runs tell anybody, and of which everything was told: what need not be read again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runbook.model.errors import DoorError
from runbook.model.history import History
from runbook.model.intake import Told
from runbook.model.ports import Journal, KeptRun, RunRecord
from runbook.telling.case import Links
from runbook.telling.due import due, recipients
from runbook.telling.lost import is_left

#: How far back is looked for runs that have ended, and for open ones, in seconds.
ENDED_S, _OPEN_S = 48 * 3600.0, 7 * 86400.0
#: Among how many, the newest first.
_RUNS = 1000


@dataclass(frozen=True, kw_only=True)
class TellingRun:
    """A run that somebody is told of."""

    history: History
    tell: Mapping[str, Any]
    #: Whether its process was lost after a change was intended.
    lost: bool = False

    @property
    def name(self) -> str:
        """Return what all that is told of it is kept under."""
        return self.history.record.run_id

    @property
    def recipients(self) -> tuple[str, ...]:
        """Return who is to be told."""
        return recipients(self.tell)

    def due(
        self, told: Iterable[Told], links: Links, now: float, recipient: str
    ) -> tuple[Told, ...]:
        """Return what is to be kept anew or otherwise; see `telling.due`."""
        return due(self.history, self.tell, told, links, now, recipient=recipient, lost=self.lost)


class Runs:
    """The journal's runs, as far as they tell anybody."""

    def __init__(
        self,
        journal: Journal,
        history_of: Callable[[KeptRun], History],
        alive: Callable[[str], bool],
        now: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._alive = alive
        self._history_of = history_of
        self._now = now
        #: Runs that tell nobody: what was asked for does not change.
        self._silent: set[str] = set()
        #: Ends of which all was told; a run that is gone on with ends anew.
        self._settled: dict[str, float] = {}

    def recent(self) -> list[str]:
        """Return the runs of the last days of which something may be due, the oldest first.

        Raises:
            DoorError: when the journal cannot be read.
        """
        now = self._now()
        records = self._journal.runs(_RUNS)[::-1]
        # Nothing is remembered of runs that nobody will look at again.
        ids = {record.run_id for record in records}
        self._silent &= ids
        self._settled = {run_id: at for run_id, at in self._settled.items() if run_id in ids}
        return [each.run_id for each in records if _recent(each, now) and not self._over(each)]

    def read(self, run_ids: Sequence[str]) -> list[TellingRun]:
        """Return those of these runs that tell anybody, as they stand."""
        wanted = (run_id for run_id in run_ids if run_id not in self._silent)
        return [run for run in map(self._run, wanted) if run is not None]

    def settle(self, record: RunRecord) -> None:
        """Take note that all was told of a run as it stands."""
        if record.ended_at is not None:
            self._settled[record.run_id] = record.ended_at

    def _over(self, record: RunRecord) -> bool:
        known = record.run_id in self._silent
        return known or (
            record.ended_at is not None and self._settled.get(record.run_id) == record.ended_at
        )

    def _run(self, run_id: str) -> TellingRun | None:
        try:
            # Asked before the journal: a process that has ended by now has written its last word.
            alive = self._alive(run_id)
            kept = self._journal.run(run_id)
            if kept is None:
                return None
            if kept.request is None or kept.request.tell is None:
                self._silent.add(run_id)
                return None
            history = self._history_of(kept)
            # And after it: somebody may have taken it up in between.
            lost = not alive and is_left(history) and not self._alive(run_id)
            return TellingRun(history=history, tell=kept.request.tell, lost=lost)
        except (DoorError, KeyError, TypeError, ValueError, AttributeError):
            return None  # one that is damaged must not keep the others from being told


def _recent(record: RunRecord, now: float) -> bool:
    if record.ended_at is None:
        return now - record.started_at < _OPEN_S
    return now - record.ended_at < ENDED_S
