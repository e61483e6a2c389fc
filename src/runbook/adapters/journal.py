"""The journal: every run and its events in one SQLite file, synced before anything is changed."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runbook.adapters.journal_chain import Chain, faults, link, seal
from runbook.adapters.journal_schema import STEPS
from runbook.adapters.sqlite_file import connect, migrate
from runbook.model.errors import DoorError
from runbook.model.events import Event
from runbook.model.ports import Fault, KeptRun, Request, RunRecord

#: Events that must be on disk before `notice` returns, and so must the end of a task that intended
#: a change. The others wait in memory and ride along with the next one, so that no transaction
#: stays open beside another run's, and a look at 200 hosts does not wait for the disk 200 times. A
#: crash may lose how far a look had come, never that a change was intended.
_SYNCED = frozenset({"intended", "owed", "answered", "resumed", "finished"})

#: Events that are written at once and left to the kernel: they outlive their process, and a power
#: cut that loses one leaves more to look at, never less.
_WRITTEN = frozenset({"changed", "asked"})

#: What a run's row says for good, sealed by the first link of the chain.
_SEALED = "run_id, playbook, target, rehearsal, started_at, who, incident, plan_hash, plan, request"
_RECORD = (
    "run_id, playbook, target, rehearsal, status, started_at, ended_at, who, incident, plan_hash"
)

#: Seconds that a write waits for another process'. What must be kept before a change is made waits
#: longer: to give up there may leave a host half-way.
_BUSY_S, _PATIENT_S = 5.0, 30.0
_PATIENT = frozenset({"intended", "owed"})

#: Runs that `prune` forgets in one go, and seconds in between: whoever waits to write is let in.
_FORGOTTEN, _LET_IN_S = 20, 0.02

#: Runs that `last_results` looks at: a database that was down for a while leaves some behind that
#: have no result.
_LOOKED_BACK = 20


class SqliteJournal:
    """One file, mode 0600, WAL, synchronous=FULL; used from several threads, one at a time."""

    def __init__(
        self, path: Path, *, busy_s: float = _BUSY_S, patient_s: float = _PATIENT_S
    ) -> None:
        """Open or create the journal.

        A write waits `busy_s` for another process'; one that must precede a change, `patient_s`.

        Raises:
            DoorError: when it cannot be created or is not a journal of this version.
        """
        self._path = path
        self._busy_s, self._patient_s = busy_s, patient_s
        self._lock = threading.Lock()
        self._run_id = ""
        #: How many events of the run this process has written or read.
        self._seen = 0
        #: What others have appended to the run meanwhile, and nobody asked for yet.
        self._news: list[Event] = []
        self._waiting: list[tuple[Any, ...]] = []
        self._changing: set[str | None] = set()
        with self._translated("opened"):
            self._db = connect(path, busy_s=busy_s)
            migrate(self._db, STEPS, f"the journal {path}")

    def begin(
        self, record: RunRecord, plan: dict[str, Any], request: Request | None = None
    ) -> None:
        """Open a run; its events follow by `notice`."""
        asked = None if request is None else json.dumps(asdict(request))
        sealed = (
            record.run_id,
            record.playbook,
            record.target,
            int(record.rehearsal),
            record.started_at,
            record.who,
            record.incident,
            record.plan_hash,
            json.dumps(plan),
            asked,
        )
        first = seal(sealed)
        with self._lock, self._translated("written"), self._transaction():
            self._db.execute(
                f"INSERT INTO runs ({_SEALED}, status, ended_at, seal, kept, last, number)"  # noqa: S608
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?,"
                " (SELECT coalesce(max(number), 0) + 1 FROM runs))",
                (*sealed, record.status, record.ended_at, first, first),
            )
            self._run_id, self._seen = record.run_id, 0

    def take_up(self, run_id: str) -> None:
        """Go on with a run that has begun; see `Journal`."""
        with self._lock, self._translated("written"), self._transaction():
            self._known(run_id)
            intended = self._db.execute(
                "SELECT DISTINCT task FROM events WHERE run_id = ? AND kind = 'intended'", (run_id,)
            )
            self._changing = {task for (task,) in intended}
            self._run_id, self._seen = run_id, self._last_seq(run_id)

    def notice(self, event: Event) -> None:
        """Keep an event; on disk on return when it speaks of a change."""
        with self._lock, self._translated("written"):
            self._waiting.append((event.at, event.kind, event.task, json.dumps(event.data)))
            if event.kind in _PATIENT:
                self._keep_or_drop()
                self._changing.add(event.task)
            elif self._urgent(event):
                self._flush()
            elif event.kind in _WRITTEN:
                self._flush(synced=False)

    def append(self, run_id: str, event: Event) -> None:
        """Add one event to any run; see `Journal`."""
        row = (event.at, event.kind, event.task, json.dumps(event.data))
        with self._lock, self._translated("written"), self._transaction():
            self._known(run_id)
            self._write(run_id, [row])

    def news(self) -> Sequence[Event]:
        """Return what others have appended to this process' run since this was last asked."""
        with self._lock, self._translated("read"):
            # Asked about once a second: whoever looks on from elsewhere sees how far the run is.
            # What cannot be written now keeps waiting; it must not make anybody deaf.
            with suppress(sqlite3.Error):
                self._flush(synced=False)
            self._read_news(None)
            news, self._news = self._news, []
            return news

    def end(self, run_id: str, status: str, at: float) -> None:
        """Close a run, or note the status that it waits in."""
        with self._lock, self._translated("written"):
            self._flush()
            self._db.execute(
                "UPDATE runs SET status = ?, ended_at = ? WHERE run_id = ?",
                (status, _ended(status, at), run_id),
            )

    def runs(self, limit: int = 20) -> Sequence[RunRecord]:
        """Return the newest runs first: those that began last, whatever the clock said."""
        with self._lock, self._translated("read"):
            cursor = self._db.execute(
                f"SELECT {_RECORD} FROM runs ORDER BY number DESC LIMIT ?",  # noqa: S608
                (limit,),
            )
            return [_record(row) for row in cursor]

    def run(self, run_id: str) -> KeptRun | None:
        """Return one run, its plan and its events; None when there is none of that id."""
        with self._lock, self._translated("read"):
            row = self._db.execute(
                f"SELECT {_RECORD}, plan, request FROM runs WHERE run_id = ?",  # noqa: S608
                (run_id,),
            ).fetchone()
            if row is None:
                return None
            events = self._db.execute(
                "SELECT kind, at, task, data FROM events WHERE run_id = ? ORDER BY seq", (run_id,)
            )
            return KeptRun(
                record=_record(row[:-2]),
                request=_request(row[-1]),
                plan=json.loads(row[-2]),
                events=[_event(*each) for each in events],
            )

    def verify(self, run_id: str | None = None) -> Sequence[Fault]:
        """Return where runs are not as they were written; see journal_chain.py."""
        with self._lock, self._translated("read"):
            rows = self._db.execute(
                f"SELECT seal, kept, last, status, {_SEALED} FROM runs"  # noqa: S608
                " WHERE seal IS NOT NULL AND (?1 IS NULL OR run_id = ?1) ORDER BY number",
                (run_id,),
            )
            return [fault for row in rows.fetchall() for fault in self._faults(row)]

    def unsealed(self) -> Sequence[str]:
        """Return the runs that an older runbook has kept without hashes: nothing verifies them."""
        with self._lock, self._translated("read"):
            rows = self._db.execute("SELECT run_id FROM runs WHERE seal IS NULL ORDER BY number")
            return [run_id for (run_id,) in rows]

    def owing(self, run_ids: Sequence[str]) -> set[str]:
        """Return which of these runs still owe something; see `Journal`."""
        with self._lock, self._translated("read"):
            return {run_id for run_id in run_ids if self._owes(run_id)}

    def prune(self, before: float) -> int:
        """Forget runs that ended before a moment, a few at a time; those that still owe are kept.

        The file stays as large as it was, and later runs use the space: to write it anew locks
        out a run that is about to change something for seconds.
        """
        with self._lock, self._translated("written"):
            old = self._forgettable(before)
            for start in range(0, len(old), _FORGOTTEN):
                self._forget(old[start : start + _FORGOTTEN], before)
                time.sleep(_LET_IN_S)
            return len(old)

    def _forgettable(self, before: float) -> list[str]:
        rows = self._db.execute("SELECT run_id FROM runs WHERE ended_at < ?", (before,)).fetchall()
        return [run_id for (run_id,) in rows if not self._owes(run_id)]

    def _owes(self, run_id: str) -> bool:
        """Whether a run owes something still; where that cannot be read, it is taken to."""
        rows = self._db.execute(
            "SELECT kind, data FROM events WHERE run_id = ? AND kind IN ('owed', 'paid')"
            " ORDER BY seq",
            (run_id,),
        )
        owed: set[str] = set()
        for kind, data in rows:
            try:
                key = json.loads(data)["key"]
            except (ValueError, KeyError, TypeError):
                return True
            (owed.add if kind == "owed" else owed.discard)(key)
        return bool(owed)

    def _forget(self, runs: Sequence[str], before: float) -> None:
        """Forget some; one that was taken up again meanwhile is left."""
        with self._transaction():
            old = (
                "(SELECT run_id FROM runs WHERE ended_at < ?"
                " AND run_id IN (SELECT value FROM json_each(?)))"
            )
            which = (before, json.dumps(list(runs)))
            self._db.execute(f"DELETE FROM events WHERE run_id IN {old}", which)  # noqa: S608
            self._db.execute(f"DELETE FROM runs WHERE run_id IN {old}", which)  # noqa: S608

    def last_results(
        self, playbook: str, targets: Sequence[str], before: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what the tasks of a playbook's latest runs returned; see `Journal`."""
        with self._lock, self._translated("read"):
            # Walking the index down reads no older run than it must.
            runs = self._db.execute(
                "SELECT run_id FROM runs WHERE playbook = ? AND run_id <> ?"
                " AND target IN (SELECT value FROM json_each(?)) ORDER BY number DESC LIMIT ?",
                (playbook, before, json.dumps(list(targets)), _LOOKED_BACK),
            ).fetchall()
        for (run_id,) in runs:
            with self._lock, self._translated("read"):
                rows = self._db.execute(
                    "SELECT data FROM events WHERE run_id = ? AND kind = 'task_finished'"
                    " ORDER BY seq",
                    (run_id,),
                ).fetchall()
            for (data,) in rows:
                yield run_id, json.loads(data)["result"]["data"]

    def close(self) -> None:
        """Close the file; what was not yet synced is."""
        with self._lock, self._translated("closed"):
            self._flush()
            self._db.close()

    def _keep_or_drop(self) -> None:
        """Write what is about to be done, or forget it: what was refused must not be kept later."""
        self._db.execute(f"PRAGMA busy_timeout = {int(self._patient_s * 1000)}")
        try:
            self._flush()
        except BaseException:
            del self._waiting[-1:]
            raise
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {int(self._busy_s * 1000)}")

    def _urgent(self, event: Event) -> bool:
        ended = event.kind == "task_finished" and event.task in self._changing
        return ended or event.kind in _SYNCED

    def _flush(self, *, synced: bool = True) -> None:
        """Write what waits in one transaction; on failure it keeps waiting."""
        if not self._waiting:
            return
        self._db.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
        try:
            with self._transaction():
                self._read_news(self._last_seq(self._run_id))
                self._seen = self._write(self._run_id, self._waiting)
        finally:
            self._db.execute("PRAGMA synchronous = FULL")
        self._waiting.clear()

    def _write(self, run_id: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Append rows to a run and to its chain; return the last one's number.

        Numbers are given inside the transaction: another process may append as well.
        """
        seq, before = self._last_seq(run_id), self._last_hash(run_id)
        written = []
        for seq, row in enumerate(rows, start=seq + 1):  # noqa: B020 - goes on counting
            before = None if before is None else link(before, (run_id, seq, *row))
            written.append((run_id, seq, *row, before))
        self._db.executemany(
            "INSERT INTO events (run_id, seq, at, kind, task, data, hash)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            written,
        )
        standing = _standing(rows)
        if standing is not None:
            self._db.execute(
                "UPDATE runs SET status = ?, ended_at = ? WHERE run_id = ?", (*standing, run_id)
            )
        if before is not None:
            kept = (seq, before, run_id)
            self._db.execute("UPDATE runs SET kept = ?, last = ? WHERE run_id = ?", kept)
        return seq

    def _last_seq(self, run_id: str) -> int:
        found = self._db.execute(
            "SELECT coalesce(max(seq), 0) FROM events WHERE run_id = ?", (run_id,)
        )
        return int(found.fetchone()[0])

    def _last_hash(self, run_id: str) -> str | None:
        found = self._db.execute("SELECT last FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        return found[0] if found else None

    def _read_news(self, until: int | None) -> None:
        """Read what others have appended since this process last wrote or read."""
        rows = self._db.execute(
            "SELECT seq, kind, at, task, data FROM events"
            " WHERE run_id = ?1 AND seq > ?2 AND (?3 IS NULL OR seq <= ?3) ORDER BY seq",
            (self._run_id, self._seen, until),
        )
        for seq, *event in rows:
            self._seen = seq
            self._news.append(_event(*event))

    def _known(self, run_id: str) -> None:
        if not self._db.execute("SELECT 1 FROM runs WHERE run_id = ?", (run_id,)).fetchone():
            raise DoorError(
                f"the journal {self._path} has no run {run_id!r}",
                hint="`runbook runs list` shows them",
            )

    def _faults(self, row: tuple[Any, ...]) -> Iterator[Fault]:
        chain = Chain(seal=row[0], kept=row[1], last=row[2])
        status, sealed = row[3], row[4:]
        run_id = sealed[0]
        events = self._db.execute(
            "SELECT run_id, seq, at, kind, task, data, hash FROM events WHERE run_id = ?"
            " ORDER BY seq",
            (run_id,),
        ).fetchall()
        for seq, what in faults(sealed, chain, [(event[:-1], event[-1]) for event in events]):
            yield Fault(run_id=run_id, seq=seq, what=what)
        said = _last_said(events)
        if said is not None and said != status:
            what = f"the run's row says {status!r}, its last event {said!r}"
            yield Fault(run_id=run_id, seq=None, what=what)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, and nobody else in between."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            with self._damage_told() if verb == "read" else nullcontext():
                yield
        except (sqlite3.Error, OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise DoorError(
                f"the journal {self._path} cannot be {verb}: {why}",
                hint="free the disk or mend its permissions, or set RUNBOOK_STATE to a directory"
                " that can be written",
            ) from error

    @contextmanager
    def _damage_told(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, TypeError) as error:
            raise DoorError(
                f"the journal {self._path} is not as it was written: {error}",
                hint="`runbook runs verify` tells which run, and which event",
            ) from error


def _record(row: tuple[Any, ...]) -> RunRecord:
    values = dict(zip(_RECORD.split(", "), row, strict=True))
    return RunRecord(**{**values, "rehearsal": bool(values["rehearsal"])})


#: What is a list in JSON and a tuple in a request.
_TUPLES = ("tags", "skip_tags", "approvers")


def _request(text: str | None) -> Request | None:
    if text is None:
        return None
    asked = json.loads(text)
    tuples = {name: tuple(asked[name]) for name in _TUPLES if name in asked}
    return Request(**{**asked, **tuples})


def _event(kind: Any, at: float, task: str | None, data: str) -> Event:
    said = json.loads(data)
    if not isinstance(said, dict):
        raise ValueError(f"an event {kind!r} without its data")  # noqa: TRY004 - damage, no defect
    return Event(kind=kind, at=at, task=task, data=said)


def _standing(rows: Sequence[tuple[Any, ...]]) -> tuple[str, float | None] | None:
    """Return the status and the end that these events give a run, or None: both are as they were.

    In one transaction with the events: a process that is lost right after must not leave a row
    that says something else than its last event.
    """
    for at, kind, _task, data in reversed(rows):
        if kind == "finished":
            status = str(json.loads(data)["status"])
            return status, _ended(status, at)
        if kind == "resumed":
            # Not before: a run whose locks were not free is as open as it was.
            return "running", None
    return None


def _ended(status: str, at: float) -> float | None:
    return None if status == "waiting" else at


def _last_said(events: Sequence[tuple[Any, ...]]) -> str | None:
    """Return the status that the last event ended the run with; None when another one follows."""
    if not events or events[-1][3] != "finished":
        return None
    try:
        return str(json.loads(events[-1][5])["status"])
    except (ValueError, KeyError, TypeError):
        return None  # a changed event, which the chain has told
