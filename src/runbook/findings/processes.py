"""The server's processes in place of its own words: what a snapshot is made of on the last rung."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runbook.model.effects import Answers
    from runbook.model.processes import ServerProcesses
    from runbook.model.sessions import Snapshot


def from_processes(database: str, answers: Answers, processes: ServerProcesses) -> Snapshot:
    """Return the processes as a snapshot; what a process does not tell is None."""
    raise NotImplementedError
