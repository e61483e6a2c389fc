"""Finds the run that a command's words mean, and says how it stands."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from runbook import wiring
from runbook.model.errors import DoorError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runbook.model.ports import Journal, KeptRun, RunRecord

#: Runs among which a shortened id is looked for.
_LOOKED_THROUGH = 10_000


def find_run(journal: Journal, given: str) -> KeptRun:
    """Return the run of an id, which may be cut short; `last` is the one that began last.

    Raises:
        UsageError: when there is none, or more than one.
    """
    found = journal.run(whole_id(given, journal.runs(_LOOKED_THROUGH)))
    if found is None:
        raise UsageError(f"there is no run {given!r}", hint="`runbook runs list` shows them")
    return found


def whole_id(given: str, records: Sequence[RunRecord]) -> str:
    """Return the whole id of a shortened one; one that fits none is returned as it is.

    Raises:
        UsageError: when it fits more than one.
    """
    if given == "last" and records:
        return records[0].run_id
    matches = [record.run_id for record in records if record.run_id.startswith(given)]
    if len(matches) > 1 and given not in matches:
        raise UsageError(f"{given!r} fits {len(matches)} runs", hint=f"such as {matches[0]}")
    return given if given in matches or not matches else matches[0]


@contextmanager
def damage_told(journal: Journal, kept: KeptRun) -> Iterator[None]:
    """Say of a run that cannot be read because it was changed that this is why.

    Raises:
        DoorError: when the run is not as it was written.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        run_id = kept.record.run_id
        faults = journal.verify(run_id)
        if not faults:
            raise
        raise DoorError(
            f"run {run_id} is not as it was written, and cannot be read: {faults[0].what}",
            hint=f"`runbook runs verify {run_id}` tells where",
        ) from error


def standing(record: RunRecord) -> str:
    """Say in a word or two how a run stands at this moment."""
    if record.ended_at is not None:
        return record.status
    if alive(record.run_id):
        return "goes on"
    return record.status if record.status == "waiting" else "lost its process"


def alive(run_id: str) -> bool:
    """Whether a process works on a run; False where that cannot be seen."""
    try:
        return wiring.run_locks().alive(run_id)
    except DoorError:
        return False


def open_runs(journal: Journal) -> list[RunRecord]:
    """Return the runs that somebody should take up: without an end, and without a process."""
    records = journal.runs(_LOOKED_THROUGH)
    return [r for r in records if r.ended_at is None and not r.rehearsal and not alive(r.run_id)]
