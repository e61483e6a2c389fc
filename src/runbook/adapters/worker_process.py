"""Starts the process that works on a run: a runbook of its own, which outlives whoever asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from runbook.model.errors import DoorError


class Workers:
    """Processes of this runbook, one for each run that is begun or taken up."""

    def __init__(self, log: Path) -> None:
        """Prepare; what a process has to say besides the journal goes to the end of `log`."""
        self._log = log
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, run_id: str) -> None:
        """Start the process of a run.

        Raises:
            DoorError: when it cannot be started.
        """
        # Those that have ended are taken off the kernel's hands.
        self._started = [process for process in self._started if process.poll() is None]
        argv = [sys.executable, "-m", "runbook", "runs", "work", run_id]
        try:
            with self._log.open("ab") as log:
                self._started.append(
                    subprocess.Popen(
                        argv,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
        except OSError as error:
            raise DoorError(
                f"no process could be started for run {run_id}: {error.strerror}",
                hint=f"`runbook runs resume {run_id}` begins it from here",
            ) from error
