"""Opens what looks without a run of its own: captures, earlier looks, a watch."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from runbook import wiring
from runbook.model.errors import DoorError, InvalidDocument
from runbook.model.times import stamp

if TYPE_CHECKING:
    from runbook.engine.perform import Performer
    from runbook.model.diagnosis import Diagnosis
    from runbook.model.fleet import Fleet
    from runbook.model.leaks import LeakPolicy
    from runbook.model.plan import Result, Task
    from runbook.model.pool_facts import PoolFacts
    from runbook.model.sessions import Snapshot


def earlier_diagnosis(fleet: Fleet, target: str, before: str) -> tuple[str, Diagnosis] | None:
    """Return the last diagnosis of a database's server that the journal has, and its run's id.

    None when there is none, or none that this runbook can read: a comparison is never worth an
    error. `before` is the run that asks.
    """
    from pydantic import ValidationError

    from runbook.findings.seats import same_server
    from runbook.model.diagnosis import Diagnosis

    try:
        journal = wiring.open_journal()
        try:
            names = same_server(target, fleet)
            for run_id, data in journal.last_results("diagnose-saturation", names, before):
                if "diagnosis" in data:
                    return run_id, Diagnosis.model_validate(data["diagnosis"])
        finally:
            journal.close()
    except (DoorError, ValidationError, ValueError, KeyError, TypeError):
        return None
    return None


def earlier_pool_facts(fleet: Fleet, target: str, before: str) -> tuple[PoolFacts | Diagnosis, ...]:
    """Return what the journal has of earlier looks at a database's server, the newest first.

    Both kinds of looks count sessions: `pool_plan` over a window, `diagnose` at one moment, and
    most of all on a bad day. What this runbook cannot read is left out. `before` is the run that
    asks.
    """
    from pydantic import ValidationError

    from runbook.findings.seats import same_server
    from runbook.model.diagnosis import Diagnosis
    from runbook.model.pool_facts import PoolFacts

    kinds = (("pool-plan", "facts", PoolFacts), ("diagnose-saturation", "diagnosis", Diagnosis))
    found: list[PoolFacts | Diagnosis] = []
    names = same_server(target, fleet)
    try:
        journal = wiring.open_journal()
        try:
            for playbook, key, model in kinds:
                for _, data in journal.last_results(playbook, names, before):
                    with suppress(ValidationError, ValueError, KeyError, TypeError):
                        found.append(model.model_validate(data[key]))
        finally:
            journal.close()
    except (DoorError, ValueError, KeyError, TypeError):
        return tuple(found)
    return tuple(found)


def check_capture(name: str, *, force: bool) -> None:
    """Look whether a capture may be written to a file, `-` for stdout.

    Raises:
        UsageError, DoorError: when it may not.
    """
    from runbook.adapters.capture_file import check_writable

    check_writable(name, force=force)


def save_capture(name: str, snapshot: Snapshot, fleet: Fleet) -> None:
    """Write what was seen to a file, with what judging it needs and no secret.

    Raises:
        DoorError: when it cannot be written.
    """
    from runbook import __version__
    from runbook.adapters.capture_file import write
    from runbook.findings.capturing import capture

    now = stamp(time.time())
    write(name, capture(snapshot, fleet, saved_at=now, version=__version__))


def judge_capture(name: str, policy: LeakPolicy) -> Diagnosis:
    """Read a capture and judge it as if it had been seen just now; nothing else is looked at.

    Raises:
        InvalidDocument: when it is no capture, or none that can be judged.
        UsageError: when its inventory names what it does not have.
    """
    from runbook.adapters.capture_file import read
    from runbook.findings.judge import FindingsJudge
    from runbook.model.document import Problem, visible
    from runbook.model.fleet import Fleet

    capture = read(name)
    fleet = Fleet(capture.inventory, name)
    try:
        return FindingsJudge().diagnose(capture.snapshot, fleet, policy)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        # The rows of single questions have no declared shape: a file may hold anything there.
        what = f"{visible(name)} cannot be judged: {type(error).__name__}: {visible(str(error))}"
        hint = f"it was saved by runbook {capture.runbook_version}, and may have been changed since"
        raise InvalidDocument([Problem(what, None, visible(hint))]) from error


class Looks:
    """Diagnoses of one database, one after the other, over a connection that is kept."""

    def __init__(self, performer: Performer, task: Task) -> None:
        self._performer = performer
        self._task = task

    def look(self) -> Result:
        """Look once; a database that does not answer is a result as well."""
        return self._performer.perform(self._task, lambda _kind, _data: None)

    def give_back(self) -> None:
        """Close the connection; the next look opens one."""
        from runbook.model.effects import AskDatabase

        self._performer.world.doors[AskDatabase].close()


def open_looks(fleet: Fleet, target: str, policy: LeakPolicy) -> Looks:
    """Return looks at a database and at nothing over SSH beyond it; no journal is kept."""
    from runbook.doors import LateJudge, open_doors
    from runbook.engine.drive import World
    from runbook.engine.perform import Performer
    from runbook.model.plan import Task

    args = {
        "database": target,
        "hosts": False,
        "idle_in_transaction": policy.idle_in_transaction_s,
    }
    performer = Performer(
        steps=wiring.step_types(),
        # A rehearsal's doors refuse every change: here nobody could have confirmed one.
        world=World(doors=open_doors(fleet, rehearsal=True), rehearsal=True),
        fleet=fleet,
        judge=LateJudge(),
        run_id="",
    )
    task = Task(
        key=f"watch/act/{target}",
        node="watch",
        verb="diagnose",
        phase="act",
        target=target,
        args=args,
        timeout_s=60.0,
    )
    return Looks(performer, task)
