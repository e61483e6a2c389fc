"""Starts the process that works on a run: a runbook of its own, which outlives whoever asked."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from runbook.model.errors import DoorError


class Workers:
    """Processes of this runbook, one for each run that is begun or taken up."""

    def __init__(self, log: Path) -> None:
        """Prepare; what a process has to say besides the journal goes to the end of `log`."""
        self._log = log
        self._lock = threading.Lock()
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, run_id: str) -> None:
        """Start the process of a run; used from several threads.

        Raises:
            DoorError: when it cannot be started.
        """
        argv = [sys.executable, "-m", "runbook", "runs", "work", run_id]
        with self._lock:
            self._let_go()
            try:
                self._started[run_id] = self._process(argv)
            except OSError as error:
                raise DoorError(
                    f"no process could be started for run {run_id}: {error.strerror}",
                    hint=f"`runbook runs resume {run_id}` begins it from here",
                ) from error

    def at_work(self, run_id: str) -> bool:
        """Whether a process that was started here for a run is there, or about to be."""
        with self._lock:
            self._let_go()
            return run_id in self._started

    def _process(self, argv: list[str]) -> subprocess.Popen[bytes]:
        # What a run saw is for its owner alone, as the journal is.
        self._log.touch(mode=0o600)
        with self._log.open("ab") as log:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _let_go(self) -> None:
        """Take those that have ended off the kernel's hands."""
        self._started = {
            run_id: process for run_id, process in self._started.items() if process.poll() is None
        }
