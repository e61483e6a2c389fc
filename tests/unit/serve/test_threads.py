"""What goes on beside requests: loops that survive trouble, runs that keep dying, secrets kept."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest

from conformance.harness import Workshop
from runbook.adapters.journal import SqliteJournal
from runbook.adapters.run_locks import RunLocks
from runbook.engine.local_runs import LocalRuns
from runbook.model.errors import DoorError, SecretMissing
from runbook.model.events import Event
from runbook.model.inventory import Secret
from runbook.model.ports import Request
from runbook.serve.hook_secrets import HookSecrets
from runbook.serve.log import Log
from runbook.serve.loops import Loop
from runbook.serve.metrics import Metrics
from runbook.serve.open_runs import OpenRuns
from runbook.serve.supervise import Supervisor
from unit.serve.house import eventually


def test_a_loop_outlives_what_its_step_raises() -> None:
    """It is told once, and forgotten when it is over."""
    text, outcomes = io.StringIO(), [DoorError("the disk is full"), ZeroDivisionError("words")]
    calls = threading.Semaphore(0)

    def step() -> float:
        calls.release()
        if outcomes:
            raise outcomes.pop(0)
        return 60.0

    loop = Loop("tell", step, Log(text, as_json=False))
    loop.start()
    for _ in range(3):
        calls.acquire()
        loop.wake()
    eventually(lambda: not loop.trouble)
    assert loop.stop(10)
    assert "the disk is full" in text.getvalue()
    assert "ZeroDivisionError at" in text.getvalue()
    assert "words" not in text.getvalue()
    assert "recovered" in text.getvalue()


class Hospital:
    """A journal with a run whose process dies whenever it is begun."""

    def __init__(self, folder: Path) -> None:
        shop = Workshop(folder)
        self.journal = SqliteJournal(folder / "journal.db")
        self.started: list[str] = []
        self.runs = LocalRuns(self.journal, RunLocks(folder / "runs.lock"), who="serve")
        plan, asked = shop.playbook("look-here")
        request = Request(playbook=asked.playbook, inventory=asked.inventory, rule="r")
        self.runs.submit("r1", plan, request)
        self.runs.submit("person", plan, asked)
        self.supervisor = Supervisor(
            OpenRuns(self.journal, lambda _: False, start=self.started.append),
            close=self.runs.close,
            log=Log(io.StringIO(), as_json=True),
            metrics=Metrics(),
        )

    def status(self) -> str:
        """Return how the run stands."""
        return self.runs.view("r1").record.status


def test_a_run_whose_process_dies_again_and_again_is_given_up(tmp_path: Path) -> None:
    """After the first one it is begun three times more; a person's own run is never touched."""
    hospital = Hospital(tmp_path)
    for _ in range(6):
        hospital.supervisor.step()
    assert hospital.started == ["r1"] * 4
    assert hospital.status() == "interrupted"


def test_deaths_are_counted_over_a_restart(tmp_path: Path) -> None:
    """By what the journal has of them."""
    hospital = Hospital(tmp_path)
    for _ in range(4):
        hospital.journal.append("r1", Event(kind="resumed", at=1.0, data={"by": "x", "pid": 1}))
    hospital.supervisor.step()
    assert hospital.started == []
    assert hospital.status() == "interrupted"


def test_a_run_that_intended_a_change_is_begun_by_nobody(tmp_path: Path) -> None:
    """A person resumes it."""
    hospital = Hospital(tmp_path)
    intended = {"sentence": "restart web-01", "footprint": "x"}
    hospital.journal.append("r1", Event(kind="intended", at=1.0, task="t", data=intended))
    for _ in range(3):
        hospital.supervisor.step()
    assert hospital.started == []
    assert hospital.supervisor.left == ("r1",)
    assert hospital.status() == "running"


def test_what_a_command_printed_is_kept_a_while() -> None:
    """It is asked anew for a caller who signs otherwise, but not by everybody all the time."""
    clock, asked = [0.0], []

    def follow(_: Secret) -> str:
        asked.append(clock[0])
        return f"value-{len(asked)}"

    secrets = HookSecrets(follow, now=lambda: clock[0])
    command = (Secret(command=("print-it",)),)
    assert secrets.known(command).values == ("value-1",)
    assert secrets.known(command, anew=True).values == ("value-1",)
    clock[0] = 6.0
    assert secrets.known(command).values == ("value-1",)
    assert secrets.known(command, anew=True).values == ("value-2",)
    clock[0] = 67.0
    assert secrets.known(command).values == ("value-3",)


def test_a_command_that_failed_is_asked_again_soon() -> None:
    """Its store may be back."""
    clock, there = [0.0], [False]

    def follow(_: Secret) -> str:
        if not there[0]:
            raise SecretMissing("the store is away")
        return "value"

    secrets = HookSecrets(follow, now=lambda: clock[0])
    command = (Secret(command=("print-it",)), Secret(env="OTHER"))
    assert [error.message for error in secrets.known(command).missing] == ["the store is away"] * 2
    there[0] = True
    assert len(secrets.known(command).missing) == 1
    clock[0] = 6.0
    assert secrets.known(command).values == ("value", "value")


@pytest.mark.parametrize("as_json", [True, False])
def test_a_log_masks_and_stops_nothing(as_json: bool) -> None:
    """Whoever reads it may have gone."""
    text = io.StringIO()
    log = Log(text, as_json=as_json, mask=lambda said: said.replace("hunter22", "…"))
    log.say("request", why="hunter22 is wrong", nothing=None)
    assert "hunter22" not in text.getvalue()
    assert "nothing" not in text.getvalue()
    text.close()
    log.say("request")
