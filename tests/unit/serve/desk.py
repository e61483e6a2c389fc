"""`runbook serve` as a process of its own, with a folder, real playbooks and real runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from conformance.harness import Workshop
from runbook.adapters.inbox import SqliteInbox
from runbook.adapters.journal import SqliteJournal
from runbook.adapters.run_locks import RunLocks
from runbook.engine.local_runs import LocalRuns
from runbook.model.ports import RunView
from unit.serve.house import eventually

SECRET = "correct-horse"  # pragma: allowlist secret


class Desk:
    """A folder with a configuration, and `serve` as a service manager would have it."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.shop = Workshop(folder)
        self.folder = folder
        self.state = folder / "state"
        (folder / "secret").write_text(SECRET)
        hook = {"source": "pagerduty-workflow", "secrets": [{"file": str(folder / "secret")}]}
        self.config = {
            "version": 1,
            "inventory": "inventory.yaml",
            "listen": {"port": 0},
            "hooks": {"flow": {**hook, "header": "X-Secret"}},
            "limits": {"runs": {"most": 1000, "per": "1h"}, "at_once": 2},
            **config,
        }
        self.env = {**os.environ, "RUNBOOK_STATE": str(self.state), "NO_COLOR": "1"}
        self.url = ""
        self.process: subprocess.Popen[str] | None = None
        self.lines: list[str] = []

    def rule(self, *names: str, **more: Any) -> dict[str, Any]:
        """Return a rule for a playbook whose steps run programs here; `look-…` only looks."""
        self.shop.playbook(*names)
        rate = {"most": 1000, "per": "1h"}
        said = {"hook": "flow", "mode": "real", "approval": "none", "cooldown": 0, "rate": rate}
        return {"name": names[0], "run": f"{'-'.join(names)}.yaml", **said, **more}

    def start(self) -> None:
        """Start `serve`, and return once it listens."""
        path = self.folder / "serve.yaml"
        path.write_text(json.dumps(self.config))
        argv = [sys.executable, "-m", "runbook", "serve", "--config", str(path)]
        self.process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=self.env)
        listening = threading.Event()
        threading.Thread(target=self._read, args=(self.process, listening), daemon=True).start()
        assert listening.wait(60), self.lines

    def _read(self, process: subprocess.Popen[str], listening: threading.Event) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.lines.append(line)
            if found := re.search(r"listening.*(http://[^\"\s]+)", line):
                self.url = found[1]
                listening.set()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.process = None
        return code

    def runbook(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside it."""
        command = [sys.executable, "-m", "runbook", *argv]
        return subprocess.run(
            command, capture_output=True, text=True, env=self.env, timeout=120, check=False
        )

    def post(self, incident: str, **labels: str) -> httpx.Response:
        """Call the hook as a workflow does."""
        return httpx.post(
            self.url + "/hooks/flow",
            json={"incident_id": incident, **labels},
            headers={"x-secret": SECRET},
            timeout=30,
        )

    def logged(self, event: str) -> list[Mapping[str, Any]]:
        """Return the lines of the log of one kind."""
        lines: list[Mapping[str, Any]] = [json.loads(line) for line in self.lines]
        return [line for line in lines if line["event"] == event]

    def health(self) -> Any:
        """Return what /healthz says."""
        return httpx.get(self.url + "/healthz", timeout=30).json()

    @contextmanager
    def store(self) -> Iterator[tuple[SqliteInbox, LocalRuns]]:
        """Read what is on disk, as another process."""
        inbox = SqliteInbox(self.state / "serve.db", limit=1)
        journal = SqliteJournal(self.state / "journal.db")
        try:
            yield inbox, LocalRuns(journal, RunLocks(self.state / "runs.lock"), who="test")
        finally:
            inbox.close()
            journal.close()

    def runs(self) -> list[RunView]:
        """Return all runs, the newest first."""
        with self.store() as (_, runs):
            return list(runs.list(open_only=False))

    def standing(self, status: str) -> bool:
        """Whether there is a run, and the newest one stands so."""
        runs = self.runs()
        return bool(runs) and runs[0].record.status == status

    def kill_worker(self) -> None:
        """Kill the process that works on the newest run, and what it has started."""
        run_id = self.runs()[0].record.run_id
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"work" in words and run_id.encode() in words:
                    os.killpg(int(entry.name), signal.SIGKILL)
        eventually(lambda: not self.runs()[0].alive)

    def close(self) -> None:
        """End what goes on."""
        if self.process is not None:
            self.stop(signal.SIGKILL)
        for name in list(self.folder.glob("hold-*")):
            name.unlink()
        eventually(lambda: not any(run.alive for run in self.runs()))


@contextmanager
def desk(folder: Path, *rules: tuple[str, ...], **config: Any) -> Iterator[Desk]:
    """Return a desk with rules for these playbooks, and `serve` started."""
    made = Desk(folder, **config)
    made.config["rules"] = [made.rule(*names) for names in rules]
    made.start()
    try:
        yield made
    finally:
        made.close()
