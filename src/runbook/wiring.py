"""Opens files, chooses adapters, joins the rooms: the one place that knows them all."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook.model.errors import DoorError, Refused, UsageError

if TYPE_CHECKING:
    from runbook.engine.executor import Confirmer, LocalExecutor
    from runbook.engine.perform import Performer
    from runbook.engine.reading import Playbook
    from runbook.model.diagnosis import Diagnosis
    from runbook.model.fleet import Fleet
    from runbook.model.leaks import LeakPolicy
    from runbook.model.plan import Plan, Result, Task
    from runbook.model.ports import Journal, Judge, RunRecord, Watcher
    from runbook.model.sessions import Snapshot
    from runbook.model.step import StepType

_PACKAGE = Path(__file__).parent


# ---- files -----------------------------------------------------------------------------------


def state_directory() -> Path:
    """Return where the journal and the locks are: RUNBOOK_STATE, else the user's state folder."""
    if given := os.environ.get("RUNBOOK_STATE"):
        return Path(given)
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "runbook"


def lock_directory() -> Path:
    """Return where the locks are: one place for all users of this machine.

    Two people on one bastion must lock each other out. RUNBOOK_STATE keeps them beside its
    journal, for drills and tests.
    """
    if given := os.environ.get("RUNBOOK_STATE"):
        return Path(given) / "locks"
    shared = Path("/run/lock")
    base = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    return base / "runbook"


def find_inventory(given: str | None) -> Path:
    """Return the inventory's path: the one given, else the first that is there.

    Raises:
        UsageError: when none is found; the hint lists where was looked.
    """
    if given:
        return Path(given)
    if named := os.environ.get("RUNBOOK_INVENTORY"):
        return Path(named)
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = [
        Path("inventory.yaml"),
        config / "runbook" / "inventory.yaml",
        Path("/etc/runbook/inventory.yaml"),
    ]
    for place in places:
        if place.is_file():
            return place
    looked = ", ".join(str(place) for place in places)
    raise UsageError(
        "no inventory found",
        hint=f"looked for {looked}; name one with -i FILE or RUNBOOK_INVENTORY, or start from"
        " inventory.example.yaml",
    )


def load_fleet(given: str | None) -> Fleet:
    """Read and check the inventory.

    Raises:
        UsageError: when there is none.
        InvalidDocument: with all of its problems.
    """
    from runbook.adapters.yaml_reader import read_document
    from runbook.model.fleet import Fleet
    from runbook.model.inventory import Inventory
    from runbook.model.references import check_references
    from runbook.model.validation import validate

    path = find_inventory(given)
    document = read_document(path, kind="inventory")
    inventory = validate(Inventory, document)
    check_references(inventory, document)
    return Fleet(inventory, str(path))


def shipped_playbooks() -> dict[str, Path]:
    """Return the playbooks that come with runbook, by name."""
    return {path.stem: path for path in sorted((_PACKAGE / "playbooks").glob("*.yaml"))}


def load_playbook(name: str) -> Playbook:
    """Read and check a playbook: a path, or the name of a shipped one.

    Raises:
        UsageError: when there is none.
        InvalidDocument: with all of its problems.
    """
    from runbook.adapters.yaml_reader import read_document
    from runbook.engine.reading import read_playbook
    from runbook.model.document import nearest
    from runbook.steps import STEPS

    path = shipped_playbooks().get(name)
    if path is None:
        path = Path(name)
        if not path.exists() and path.suffix not in {".yaml", ".yml"} and path.name == name:
            shipped = shipped_playbooks()
            near = nearest(name, list(shipped))
            hint = f"did you mean {near!r}?" if near else f"shipped: {', '.join(shipped)}"
            raise UsageError(f"there is no playbook {name!r}", hint=f"{hint}; or give a path")
    return read_playbook(read_document(path, kind="playbook"), STEPS)


def step_types() -> Mapping[str, StepType]:
    """Return the verbs of the playbook language."""
    from runbook.steps import STEPS

    return STEPS


# ---- runs ------------------------------------------------------------------------------------


def who() -> str:
    """Return who is at the keyboard, as user@host; behind sudo, who that was."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"  # a container without an entry for us in passwd
    return f"{user}@{socket.gethostname()}"


def new_run_id() -> str:
    """Return an id that sorts by time and can be read out over the phone."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def open_journal() -> Journal:
    """Open the journal of this machine's runs.

    Raises:
        DoorError: when it cannot be opened.
    """
    from runbook.adapters.journal import SqliteJournal

    return SqliteJournal(state_directory() / "journal.db")


def run_without_end(plan: Plan) -> RunRecord | None:
    """Return the newest run that changed things on this plan's target, if it has no end.

    It was killed, or goes on at this moment (then the lock will say so).
    """
    try:
        journal = open_journal()
        records = journal.runs(200)
        journal.close()
    except DoorError:
        return None  # beginning the run will say what is wrong with the journal
    before = [r for r in records if not r.rehearsal and r.playbook == plan.playbook]
    newest = next((r for r in before if r.target == plan.target), None)
    return newest if newest is not None and newest.ended_at is None else None


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that is ready to go."""

    run_id: str
    executor: LocalExecutor
    #: Why the journal is not kept, for a run that changes nothing and goes on without.
    unjournaled: DoorError | None


@contextmanager
def open_run(
    plan: Plan,
    fleet: Fleet,
    *,
    watchers: Sequence[Watcher],
    confirmer: Confirmer,
    incident: str | None,
    keep: bool = True,
    judge: Judge | None = None,
) -> Iterator[Run]:
    """Open journal and doors for one run, and close them after it.

    Raises:
        DoorError: when the journal cannot be written and the plan changes something: a change
            that leaves no record is not made. A run that only looks goes on without.
    """
    from runbook.adapters.locks import FileLocks
    from runbook.doors import LateJudge, open_doors
    from runbook.engine.drive import World
    from runbook.engine.executor import LocalExecutor
    from runbook.engine.perform import Performer

    run_id = new_run_id()
    journal, unjournaled = _begin(plan, run_id, incident) if keep else (None, None)
    doors = open_doors(fleet, rehearsal=plan.rehearsal)
    performer = Performer(
        steps=step_types(),
        world=World(doors=doors, rehearsal=plan.rehearsal),
        fleet=fleet,
        judge=judge or LateJudge(),
        run_id=run_id,
    )
    locks = FileLocks(lock_directory(), who=who(), incident=incident)
    kept = _StatusKeeper()
    executor = LocalExecutor(
        performer,
        keepers=(*((journal,) if journal else ()), kept),
        views=watchers,
        locks=locks,
        confirmer=confirmer,
    )
    try:
        yield Run(run_id=run_id, executor=executor, unjournaled=unjournaled)
    except Refused:
        kept.status = "refused"
        raise
    finally:
        if journal is not None:
            _finish(journal, run_id, kept.status)
        # A door that is still at work for an abandoned task would make us wait for it after all.
        if not executor.abandoned:
            for door in {id(door): door for door in doors.values()}.values():
                door.close()


class _StatusKeeper:
    """Remembers how the run ended, for the journal's own row."""

    status = "unknown"

    def notice(self, event: Any) -> None:
        if event.kind == "finished":
            self.status = event.data["status"]


def _begin(
    plan: Plan, run_id: str, incident: str | None
) -> tuple[Journal | None, DoorError | None]:
    try:
        journal = open_journal()
        journal.begin(_record(plan, run_id, incident), plan.to_json())
    except DoorError as error:
        if any(node.changes for node in plan.nodes) and not plan.rehearsal:
            raise
        return None, error
    return journal, None


def _finish(journal: Journal, run_id: str, status: str) -> None:
    try:
        journal.end(run_id, status, time.time())
        journal.close()
    except DoorError:
        return  # the executor has told that the journal complains; the run itself is over


def _record(plan: Plan, run_id: str, incident: str | None) -> RunRecord:
    from runbook.model.ports import RunRecord

    return RunRecord(
        run_id=run_id,
        playbook=plan.playbook,
        target=plan.target,
        rehearsal=plan.rehearsal,
        status="running",
        started_at=time.time(),
        ended_at=None,
        who=who(),
        incident=incident,
        plan_hash=plan.hash,
    )


# ---- diagnoses -------------------------------------------------------------------------------


def earlier_diagnosis(fleet: Fleet, target: str, before: str) -> tuple[str, Diagnosis] | None:
    """Return the last diagnosis of a database's server that the journal has, and its run's id.

    None when there is none, or none that this runbook can read: a comparison is never worth an
    error. `before` is the run that asks.
    """
    from pydantic import ValidationError

    from runbook.findings.seats import same_server
    from runbook.model.diagnosis import Diagnosis

    try:
        journal = open_journal()
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

    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
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
    from runbook.model.errors import InvalidDocument
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
        steps=step_types(),
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
