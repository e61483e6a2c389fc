"""Says of a run that cannot be read because it was changed that this is why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runbook.model.errors import DoorError

if TYPE_CHECKING:
    from runbook.model.ports import Journal


@contextmanager
def damage_told(journal: Journal, run_id: str) -> Iterator[None]:
    """Turn what a damaged run causes into an error that names it.

    Raises:
        DoorError: when the run is not as it was written.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        faults = journal.verify(run_id)
        if not faults:
            raise
        raise DoorError(
            f"run {run_id} is not as it was written, and cannot be shown: {faults[0].what}",
            hint=f"`runbook runs verify {run_id}` tells where",
        ) from error
