"""Opens files, chooses adapters, joins the rooms: the one place that knows them all."""

from __future__ import annotations

import os
import pwd
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook.model.errors import DoorError, InvalidDocument, Refused, UsageError

if TYPE_CHECKING:
    from runbook.adapters.run_locks import RunLocks
    from runbook.adapters.worker_process import Workers
    from runbook.engine.executor import Confirmer, LocalExecutor
    from runbook.engine.local_runs import LocalRuns
    from runbook.engine.perform import Performer
    from runbook.engine.playbook_test import Bench
    from runbook.engine.reading import Playbook
    from runbook.model.ansible_convert import Imported
    from runbook.model.document import Document
    from runbook.model.events import Event
    from runbook.model.fleet import Fleet
    from runbook.model.plan import Plan
    from runbook.model.ports import (
        Journal,
        Judge,
        KeptRun,
        Request,
        RunRecord,
        Watcher,
    )
    from runbook.model.step import StepType

_PACKAGE = Path(__file__).parent
#: A file that a step brings along is part of the plan, and of every journal that keeps it.
_MOST_BESIDE = 1024 * 1024
#: A user's number has 32 bits.
_UID_DIGITS = 10


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
    from runbook.adapters.locks import shared_directory

    return shared_directory()


def find_inventory(given: str | None) -> Path:
    """Return the inventory's path: the one given, else the first that is there.

    Raises:
        UsageError: when none is found; the hint lists where was looked.
    """
    places, found = find_file(given, "RUNBOOK_INVENTORY", "inventory.yaml")
    if found is not None:
        return found
    raise UsageError(
        "no inventory found",
        hint=f"looked for {places}; name one with -i FILE or RUNBOOK_INVENTORY, or start from"
        " inventory.example.yaml",
    )


def find_file(given: str | None, variable: str, name: str) -> tuple[str, Path | None]:
    """Return where a file of the user's is looked for, in words, and where it is.

    The path that was given, else the variable's; else the first that is there of the working
    directory, the user's configuration, /etc/runbook.
    """
    if told := given or os.environ.get(variable):
        return told, Path(told)
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = [Path(name), config / "runbook" / name, Path("/etc/runbook") / name]
    found = next((place for place in places if place.is_file()), None)
    return ", ".join(map(str, places)), found


def load_fleet(given: str | None) -> Fleet:
    """Read and check the inventory.

    Raises:
        UsageError: when there is none.
        InvalidDocument: with all of its problems.
    """
    from runbook.adapters.executable_inventory import is_program, run_program
    from runbook.adapters.yaml_reader import read_document

    path = find_inventory(given)
    if not is_program(path):
        return _fleet(read_document(path, kind="inventory"))
    document, remarks = run_program(path)
    fleet = _fleet(document)
    fleet.remarks = remarks
    return fleet


def place_in_inventory(fleet: Fleet, path: tuple[str | int, ...]) -> str:
    """Return `file:line:column` of a value, or the file alone where that cannot be told."""
    from runbook.adapters.executable_inventory import is_program
    from runbook.adapters.yaml_reader import read_document
    from runbook.model.errors import RunbookError

    source = Path(fleet.source)
    try:
        if is_program(source):
            return fleet.source
        return str(read_document(source, kind="inventory").place_of(path))
    except RunbookError:
        return fleet.source


def _fleet(document: Document) -> Fleet:
    from runbook.model.inventory import Inventory
    from runbook.model.references import check_references
    from runbook.model.validation import validate

    return check_references(validate(Inventory, document), document)


def import_ansible(given: str) -> Imported:
    """Read an Ansible inventory, a file or a folder, and make one of runbook's of it.

    Raises:
        InvalidDocument: with all the mistakes of its files.
    """
    from runbook.adapters.ansible_inventory import read_ansible
    from runbook.model.ansible_convert import convert

    return convert(read_ansible(Path(given)))


def write_inventory(given: str, text: str) -> None:
    """Write the text of an inventory to a file, in one step.

    Raises:
        InvalidDocument: when it cannot be written.
    """
    from runbook.adapters.text_file import write_text

    write_text(Path(given), text)


def write_report(path: Path, text: str) -> None:
    """Write a report to a file, in one step.

    Raises:
        InvalidDocument: when it cannot be written.
    """
    from runbook.adapters.text_file import write_text

    write_text(path, text)


def check_inventory(text: str, source: str) -> Fleet:
    """Read and check the text of an inventory.

    Raises:
        InvalidDocument: with all of its problems.
    """
    from runbook.adapters.yaml_reader import parse_document

    return _fleet(parse_document(text, source))


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
    from runbook.engine.reading import Beside, read_playbook
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
    beside = Beside(document=included_document, text=text_beside)
    return read_playbook(read_document(path, kind="playbook"), STEPS, beside)


def included_document(name: str, including: str) -> Document:
    """Return the playbook that the file `including` names: a shipped one, or a path from there.

    Raises:
        UsageError: when there is none.
        InvalidDocument: when it is no readable YAML.
    """
    from runbook.adapters.yaml_reader import read_document
    from runbook.model.document import nearest

    shipped = shipped_playbooks()
    if name in shipped:
        return read_document(shipped[name], kind="playbook")
    try:
        # One file has one name, to see circles by.
        path = (Path(including).parent / name).resolve()
        there = path.exists()
    except (OSError, ValueError) as error:  # too long, or with a NUL
        raise UsageError(f"there is no playbook {name!r:.60}: {error!s:.60}") from None
    if not there:
        near = nearest(name, list(shipped))
        hint = f"did you mean {near!r}?" if near else f"a path is seen from {including}"
        raise UsageError(f"there is no playbook {name!r}", hint=hint)
    inside = path.is_relative_to(Path.cwd())
    return read_document(path.relative_to(Path.cwd()) if inside else path, kind="playbook")


def text_beside(name: str, playbook: str) -> str:
    """Return the text of a file that a step of `playbook` names, seen from the playbook.

    Raises:
        UsageError: when there is none, or it is no UTF-8 text, or too large.
    """
    from runbook.adapters.text_file import read_text

    try:
        return read_text(Path(playbook).parent / name, max_bytes=_MOST_BESIDE)
    except InvalidDocument as error:
        first = error.problems[0]
        raise UsageError(first.message, hint=first.hint or f"it is seen from {playbook}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{name!r:.60} cannot be read: {error!s:.60}") from None


def playbook_reference(name: str) -> str:
    """Return what leads to a playbook from any directory: its shipped name, or the whole path."""
    return name if name in shipped_playbooks() else str(Path(name).absolute())


def load_playbook_test(name: str) -> Bench:
    """Read a file of tests, with its playbook and its inventory.

    Raises:
        UsageError: when one of them is not there.
        InvalidDocument: with all of their problems.
    """
    from runbook.adapters.yaml_reader import read_document
    from runbook.doors import LateJudge
    from runbook.engine.playbook_test import Bench
    from runbook.engine.reading import Beside, read_playbook
    from runbook.model.playbook_test import PlaybookTest
    from runbook.model.validation import validate
    from runbook.steps import STEPS

    # A recorded night of many hosts is longer than what a person writes.
    document = read_document(Path(name), max_bytes=16_000_000)
    test = validate(PlaybookTest, document)
    beside = Beside(document=included_document, text=text_beside)
    inline = not isinstance(test.inventory, str)
    return Bench(
        document=document,
        test=test,
        playbook=read_playbook(included_document(test.playbook, name), STEPS, beside),
        fleet=_fleet(document.part(("inventory",)))
        if inline
        else load_fleet(str(Path(name).parent / str(test.inventory))),
        steps=STEPS,
        judge=LateJudge(),
    )


def record_playbook_test(run_id: str, name: str) -> None:
    """Write a kept run as a test of its playbook, to a file that is not there yet.

    Raises:
        UsageError: when there is no such run, or the file is there.
        InvalidDocument: when it cannot be written.
    """
    from runbook.adapters.text_file import write_text
    from runbook.adapters.yaml_writer import to_yaml
    from runbook.engine.playbook_record import recorded

    path = Path(name)
    if path.exists():
        raise UsageError(f"{name} is there already", hint="name a new file, or remove it")
    journal = open_journal()
    try:
        run = journal.run(run_id)
    finally:
        journal.close()
    if run is None:
        raise UsageError(f"there is no run {run_id!r}", hint="`runbook runs list` shows them")
    asked = run.request
    playbook = asked.playbook if asked else run.record.playbook
    inventory = find_inventory(asked.inventory if asked else None)
    folder = path.absolute().parent
    seen = playbook if playbook in shipped_playbooks() else os.path.relpath(playbook, folder)
    write_text(path, to_yaml(recorded(run, seen, os.path.relpath(inventory.absolute(), folder))))


def step_types() -> Mapping[str, StepType]:
    """Return the verbs of the playbook language."""
    from runbook.steps import STEPS

    return STEPS


# ---- runs ------------------------------------------------------------------------------------


def who() -> str:
    """Return who is at the keyboard, as user@host; behind sudo, who that was.

    The kernel says it, not the environment: approvals name people by it.
    """
    return f"{_behind_sudo() or _user_name(os.getuid())}@{socket.gethostname()}"


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"  # a container without an entry for us in passwd


def _behind_sudo() -> str | None:
    """Return who has become root by sudo; anybody else could have written these variables."""
    uid = os.environ.get("SUDO_UID", "")
    if os.geteuid() != 0 or not (uid.isascii() and uid.isdecimal() and len(uid) < _UID_DIGITS):
        return None
    name = _user_name(int(uid))
    return name if os.environ.get("SUDO_USER") == name else None


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


def run_locks() -> RunLocks:
    """Return the locks that tell which runs of this journal have a process."""
    from runbook.adapters.run_locks import RunLocks

    return RunLocks(state_directory() / "runs.lock")


def local_runs(journal: Journal, *, workers: bool = False) -> LocalRuns:
    """Return the executor port on this machine; `workers` start by themselves, as in a service."""
    from runbook.engine.local_runs import LocalRuns

    start = worker_processes().start if workers else None
    return LocalRuns(journal, run_locks(), who=who(), start=start)


def worker_processes() -> Workers:
    """Return what starts the processes of runs."""
    from runbook.adapters.worker_process import Workers

    return Workers(state_directory() / "workers.log")


def run_without_end(plan: Plan) -> RunRecord | None:
    """Return the newest run that changed things on this plan's target, if it has no end.

    It was killed, waits for an answer, or goes on at this moment (then the lock will say so).
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


def runs_that_owe() -> tuple[RunRecord, ...]:
    """Return the runs among the last ones that ended and left the world otherwise than they owe."""
    try:
        journal = open_journal()
        ended = [r for r in journal.runs(200) if r.ended_at is not None and r.status != "done"]
        owing = journal.owing([record.run_id for record in ended if not record.rehearsal])
        journal.close()
    except DoorError:
        return ()  # beginning the run will say what is wrong with the journal
    return tuple(record for record in ended if record.run_id in owing)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that is ready to go."""

    run_id: str
    executor: LocalExecutor
    #: Why the journal is not kept, for a run that changes nothing and goes on without.
    unjournaled: DoorError | None
    #: What the journal has of it, for a run that is taken up.
    events: Sequence[Event] = ()


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
    request: Request | None = None,
    taken_up: KeptRun | None = None,
    steal_lock: bool = False,
) -> Iterator[Run]:
    """Open journal and doors for one run, and close them after it.

    `taken_up` is a run that is resumed, as it was when that was decided; `request` what a new one
    was asked for.

    Raises:
        Locked: when another process works on the run that is resumed.
        Refused: when that run has gone on since it was looked at.
        DoorError: when the journal cannot be written and the plan changes something: a change
            that leaves no record is not made. A run that only looks goes on without.
    """
    run_id = taken_up.record.run_id if taken_up is not None else new_run_id()
    record = _record(plan, run_id, incident)
    with ExitStack() as stack:
        try:
            if keep:
                stack.enter_context(run_locks().hold(run_id))
            journal = _begin(plan, record, request, taken_up) if keep else None
            unjournaled = None
        except DoorError as error:
            if any(node.changes for node in plan.nodes) and not plan.rehearsal:
                raise
            journal, unjournaled = None, error
        # A run that could not be taken up is as open as it was.
        kept = _StatusKeeper(status="unknown" if taken_up is None else None)
        performer = _with_target_locks(
            _performer(plan, fleet, run_id, judge), incident, steal=steal_lock
        )
        executor = _executor(
            performer,
            journal,
            kept,
            watchers,
            confirmer,
            incident,
            steal_lock=steal_lock,
            request=taken_up.request if taken_up is not None else request,
        )
        events = _events(journal, taken_up)
        try:
            yield Run(run_id=run_id, executor=executor, unjournaled=unjournaled, events=events)
        except Refused:
            kept.status = None if taken_up else "refused"
            raise
        finally:
            if journal is not None:
                _finish(journal, run_id, kept.status)
            # A door that is still at work for an abandoned task would make us wait for it after
            # all.
            if not executor.abandoned:
                doors = performer.world.doors
                for door in {id(door): door for door in doors.values()}.values():
                    door.close()


def _with_target_locks(performer: Performer, incident: str | None, *, steal: bool) -> Performer:
    """Have changes hold a lock on their target, over the doors that the run has open."""
    from runbook.adapters.target_locks import RemoteLocks
    from runbook.doors import lock_doors

    hosts, databases = lock_doors(performer.world.doors)
    locks = RemoteLocks(
        performer.fleet,
        hosts=hosts,
        databases=databases,
        who=who(),
        incident=incident,
        steal=steal,
        # Drills and tests must not lock each other out of the one machine that they are on.
        local_directory=str(lock_directory()) if "RUNBOOK_STATE" in os.environ else "",
    )
    return replace(performer, target_locks=locks)


def _performer(plan: Plan, fleet: Fleet, run_id: str, judge: Judge | None) -> Performer:
    from runbook.doors import LateJudge, open_doors
    from runbook.engine.drive import World
    from runbook.engine.perform import Performer

    doors = open_doors(fleet, rehearsal=plan.rehearsal)
    return Performer(
        steps=step_types(),
        world=World(doors=doors, rehearsal=plan.rehearsal),
        fleet=fleet,
        judge=judge or LateJudge(),
        run_id=run_id,
        mask=without_secrets,
    )


def without_secrets(text: str) -> str:
    """Mask the passwords that this process has used, and what looks like a secret."""
    from runbook.adapters.secrets import used
    from runbook.model.redaction import redacted

    return redacted(text, used())


def _executor(  # noqa: PLR0917
    performer: Performer,
    journal: Journal | None,
    kept: _StatusKeeper,
    watchers: Sequence[Watcher],
    confirmer: Confirmer,
    incident: str | None,
    *,
    steal_lock: bool,
    request: Request | None,
) -> LocalExecutor:
    from runbook.adapters.locks import FileLocks
    from runbook.engine.executor import LocalExecutor

    return LocalExecutor(
        performer,
        keepers=(*((journal,) if journal else ()), kept),
        views=watchers,
        locks=FileLocks(
            lock_directory(),
            who=who(),
            incident=incident,
            environment=performer.fleet.inventory.environment,
            steal=steal_lock,
        ),
        confirmer=confirmer,
        mailbox=journal,
        request=request,
    )


def _events(journal: Journal | None, taken_up: KeptRun | None) -> Sequence[Event]:
    if journal is None or taken_up is None:
        return ()
    kept = journal.run(taken_up.record.run_id)
    return () if kept is None else kept.events


class _StatusKeeper:
    """Remembers how the run ended, for the journal's own row; None: that stays as it is."""

    def __init__(self, status: str | None) -> None:
        self.status = status

    def notice(self, event: Any) -> None:
        if event.kind == "finished":
            self.status = event.data["status"]
        elif event.kind in {"planned", "resumed"}:
            self.status = "unknown"


def _begin(
    plan: Plan, record: RunRecord, request: Request | None, taken_up: KeptRun | None
) -> Journal:
    journal = open_journal()
    if taken_up is not None:
        _check_unmoved(journal, taken_up)
        journal.take_up(record.run_id)
    else:
        journal.begin(record, plan.to_json(), request)
    return journal


def _check_unmoved(journal: Journal, seen: KeptRun) -> None:
    """Refuse a run that has gone on since somebody looked at it and decided what to do."""
    run_id = seen.record.run_id
    now = journal.run(run_id)
    if now is None:
        raise Refused(f"run {run_id} is not in the journal any more: it was pruned")
    # An answer may come at any moment, and binds to its question alone.
    since = [event for event in now.events[len(seen.events) :] if event.kind != "answered"]
    if since or now.record.status != seen.record.status:
        raise Refused(
            f"run {run_id} has gone on since it was looked at here: {now.record.status} now;"
            " nothing was done",
            hint=f"look again: runbook runs resume {run_id} --show",
        )


def _finish(journal: Journal, run_id: str, status: str | None) -> None:
    try:
        if status is not None:
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
