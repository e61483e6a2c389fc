"""What an executor must bring along to be held to the suite: a store, workers that can be killed.

A second executor is held to it by a second `Harness`, and one line in `test_conformance.py`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from runbook import wiring
from runbook.engine.planning import make_plan
from runbook.model.plan import Plan
from runbook.model.ports import Executor, Request, RunView

#: A program that a step runs: it says when it begins and ends, and waits for the test in between.
PROGRAM = """
import pathlib, sys, time
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
def say(what):
    with (folder / "log").open("a") as log:
        log.write(f"{what} {name}\\n")
say("begin")
until = time.monotonic() + 60
while (folder / f"hold-{name}").exists() and time.monotonic() < until:
    time.sleep(0.02)
say("end")
"""


class Harness(Protocol):
    """One executor with its store and its workers, in a folder of its own."""

    def executor(self) -> Executor:
        """Return the port, as another process would have it: nothing is shared but the store."""

    def kill(self, run_id: str) -> None:
        """Kill the process that works on a run as kill -9 does, and return once it is gone."""

    def recover(self, run_id: str) -> None:
        """Do what brings a run whose worker was killed to another one."""

    def settle(self, run_id: str, **choices: str) -> None:
        """Take a run up with what a person says of a doubt: done=TASK or again=TASK."""

    def break_store(self) -> None:
        """Let nothing be written any more."""

    def mend_store(self) -> None:
        """Let it be written again."""

    def close(self) -> None:
        """End every process that was started."""


class Workshop:
    """Playbooks whose steps run a program here, and what these programs have said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inventory = folder / "inventory.yaml"
        self.inventory.write_text("version: 1\nhosts:\n  here: {connection: local, sudo: false}\n")
        (folder / "program.py").write_text(PROGRAM)

    def playbook(self, *names: str, before: str = "") -> tuple[dict[str, Any], Request]:
        """Return a plan and its request: one step for each name; `look-…` only looks."""
        steps = before + "".join(self._step(name) for name in names)
        path = self.folder / f"{'-'.join(names)}.yaml"
        path.write_text(
            f"version: 1\nname: {'-'.join(names)}\ntarget: {{kind: none}}\nsteps:\n{steps}"
        )
        request = Request(playbook=str(path), inventory=str(self.inventory), incident="P1")
        return self._plan(path).to_json(), request

    def _plan(self, path: Path) -> Plan:
        return make_plan(
            wiring.load_playbook(str(path)),
            fleet=wiring.load_fleet(str(self.inventory)),
            target=None,
            given={},
            rehearsal=False,
        )

    def _step(self, name: str) -> str:
        program = self.folder / "program.py"
        argv = json.dumps(["/usr/bin/env", "python3", str(program), str(self.folder), name])
        looks = "true" if name.startswith("look") else "false"
        return f"  - name: {name}\n    command: {{hosts: here, argv: {argv}, read_only: {looks}}}\n"

    def hold(self, name: str) -> None:
        """Let a step wait in its middle."""
        (self.folder / f"hold-{name}").touch()

    def let_go(self, name: str) -> None:
        """Let it go on."""
        (self.folder / f"hold-{name}").unlink(missing_ok=True)

    def said(self) -> list[str]:
        """Return what the programs have said, in order."""
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []


def as_plain_data(view: RunView) -> dict[str, Any]:
    """Return a view as it would cross a wire; what is no plain data does not."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(view)))
    return plain
