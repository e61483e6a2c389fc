"""The local executor in the suite: a journal, and a real process for each run."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from runbook.adapters.journal import SqliteJournal
from runbook.adapters.run_locks import RunLocks
from runbook.engine.local_runs import LocalRuns
from runbook.model.ports import Executor

_WRITES = ("INSERT ON runs", "UPDATE ON runs", "INSERT ON events")


class LocalHarness:
    """See `conformance.harness.Harness`."""

    def __init__(self, folder: Path) -> None:
        self._state = folder / "state"
        self._state.mkdir()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._full: sqlite3.Connection | None = None

    def executor(self) -> Executor:
        """Return the port over a connection of its own."""
        return LocalRuns(
            SqliteJournal(self._state / "journal.db"),
            RunLocks(self._state / "runs.lock"),
            who="ada@desk",
            start=self._start,
        )

    def _start(self, run_id: str) -> None:
        # As `runbook.adapters.worker_process` does, and the process is remembered.
        self._run(run_id, "work", run_id)

    def _run(self, run_id: str, *words: str) -> None:
        env = {**os.environ, "RUNBOOK_STATE": str(self._state)}
        with (self._state / "workers.log").open("ab") as log:
            self._processes[run_id] = subprocess.Popen(
                [sys.executable, "-m", "runbook", "runs", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                start_new_session=True,
            )

    def kill(self, run_id: str) -> None:
        """Kill the process alone: what it has started goes on, as it does in life."""
        self._processes[run_id].send_signal(signal.SIGKILL)
        self._processes[run_id].wait()

    def recover(self, run_id: str) -> None:
        """Take the run up in another process."""
        self._run(run_id, "resume", run_id, "--yes")
        self._processes[run_id].wait(60)

    def settle(self, run_id: str, **choices: str) -> None:
        """Say what became of a doubt."""
        words = [word for name, key in choices.items() for word in (f"--{name}", key)]
        self._run(run_id, "resume", run_id, "--yes", *words)
        self._processes[run_id].wait(60)

    def break_store(self) -> None:
        """Let every write fail at once, as on a full disk; everybody can read."""
        self._full = sqlite3.connect(self._state / "journal.db", isolation_level=None)
        for number, write in enumerate(_WRITES):
            self._full.execute(
                f"CREATE TRIGGER full_{number} BEFORE {write}"
                " BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
            )

    def mend_store(self) -> None:
        """Let go of it."""
        assert self._full is not None
        for number in range(len(_WRITES)):
            self._full.execute(f"DROP TRIGGER full_{number}")
        self._full.close()

    def close(self) -> None:
        """End every process that was started."""
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
