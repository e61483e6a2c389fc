"""The door to PostgreSQL: questions, guarded terminations, playbooks' SQL; one connection."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from runbook.adapters.postgres_ladder import Entry, climb
from runbook.adapters.postgres_signal import signal
from runbook.adapters.postgres_wire import Reply, Row, StatementError, Wire
from runbook.model.effects import (
    Answers,
    AskDatabase,
    Change,
    ChangeSql,
    Question,
    ReadSql,
    Rows,
    SignalSessions,
)
from runbook.model.errors import (
    ChangeInRehearsal,
    ConnectionLost,
    DatabaseError,
    DoorError,
)
from runbook.model.sql_guard import fill_in, reading_statement, single_statement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runbook.model.effects import Effect
    from runbook.model.fleet import Fleet
    from runbook.model.inventory import Database
    from runbook.model.sessions import SessionId

T = TypeVar("T")

#: Seconds that one set of questions may take on the server: a diagnosis must not be a burden.
QUESTION_TIMEOUT_S = 5.0
#: Seconds for all questions together, when they have to be asked one by one.
_ONE_BY_ONE_S = 15.0
#: Rows that a changing statement's RETURNING may bring back.
_CHANGE_LIMIT = 1000


class PostgresDoor:
    """Performs AskDatabase, ReadSql, SignalSessions and ChangeSql.

    One connection for each database, opened at first need and kept until `close`. Several threads
    may share it; each database is asked by one at a time.
    """

    def __init__(self, fleet: Fleet, *, rehearsal: bool) -> None:
        self._fleet = fleet
        self._rehearsal = rehearsal
        self._lines: dict[str, _Line] = {}
        self._lock = threading.Lock()

    def perform(self, effect: Effect[Any]) -> Any:
        """Perform one effect and return its outcome.

        Raises:
            ChangeInRehearsal: for a Change, when this door was opened for a rehearsal.
            SlotRefused: every rung of the ladder was refused.
            ConnectionLost: the connection broke. An Observe was repeated once before; a Change
                never is, because it may have happened.
            MissingGrant, DatabaseError: the server refused the statement.
            DatabaseLogin, Unreachable, SecretMissing: there was no way in.
        """
        if isinstance(effect, Change) and self._rehearsal:
            raise ChangeInRehearsal(f"a rehearsal changes nothing: {effect.sentence()}")
        match effect:
            case AskDatabase():
                return self._line(effect.database).ask(effect.questions)
            case ReadSql():
                return self._line(effect.database).read(effect)
            case SignalSessions():
                return self._line(effect.database).signal(effect.sessions)
            case ChangeSql():
                return self._line(effect.database).change(effect)
        raise TypeError(f"no effect of PostgreSQL: {effect!r}")

    def close(self) -> None:
        """Close every connection; may be called twice."""
        with self._lock:
            lines = list(self._lines.values())
        for line in lines:
            line.close()

    def _line(self, database: str) -> _Line:
        with self._lock:
            if database not in self._lines:
                self._lines[database] = _Line(database, self._fleet.database(database))
            return self._lines[database]


class _Line:
    """The one connection to one database."""

    def __init__(self, name: str, database: Database) -> None:
        self._name = name
        self._database = database
        self._entry: Entry | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            self._hang_up()

    def ask(self, questions: Sequence[Question]) -> Answers:
        return self._observe(lambda entry: _ask(entry, questions))

    def read(self, effect: ReadSql) -> Rows:
        return self._observe(lambda entry: _read(entry.wire, effect))

    def signal(self, sessions: Sequence[SessionId]) -> tuple[int, ...]:
        with self._lock:
            entry = self._enter()
            try:
                return self._once(lambda: signal(entry.wire, sessions))
            finally:
                self._give_back()

    def change(self, effect: ChangeSql) -> Rows:
        with self._lock:
            entry = self._enter()
            return self._once(lambda: _change(entry.wire, effect))

    def _observe(self, look: Callable[[Entry], T]) -> T:
        """Look, and look once more over a new connection when the first one breaks."""
        with self._lock:
            entry = self._enter()
            try:
                return self._once(lambda: look(entry))
            except ConnectionLost:
                fresh = self._enter()
                return self._once(lambda: look(fresh))
            finally:
                self._give_back()

    def _once(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except ConnectionLost:
            self._hang_up()
            raise
        except StatementError as failure:
            raise failure.error from None

    def _enter(self) -> Entry:
        # A connection that was idle may have been closed meanwhile; nothing is in flight on it,
        # so a new one repeats nothing.
        if self._entry is not None and not self._entry.wire.alive:
            self._hang_up()
        if self._entry is None:
            self._entry = climb(self._name, self._database)
        return self._entry

    def _give_back(self) -> None:
        """A walsender's slot is a standby's to reconnect with: it is not kept between uses."""
        if self._entry is not None and self._entry.rung == "rescue":
            self._hang_up()

    def _hang_up(self) -> None:
        if self._entry is not None:
            self._entry.wire.close()
            self._entry = None


# ---- questions -----------------------------------------------------------------------------


def _ask(entry: Entry, questions: Sequence[Question]) -> Answers:
    """Put all questions in one message; when one of them fails, one by one."""
    wire = entry.wire
    asked = [q for q in questions if q.min_version <= wire.server_version]
    started = time.monotonic()
    failed: dict[str, str] = {}
    try:
        replies = _read_only(wire, [question.sql for question in asked], QUESTION_TIMEOUT_S)
        rows = {q.name: reply.rows for q, reply in zip(asked, replies, strict=True)}
    except StatementError:
        rows, failed = _one_by_one(wire, asked)
    return Answers(
        rows=rows,
        rung=entry.rung,
        refusals=entry.refusals,
        failed=failed,
        connect_s=entry.seconds,
        query_s=time.monotonic() - started,
    )


def _one_by_one(
    wire: Wire, questions: Sequence[Question]
) -> tuple[dict[str, list[Row]], dict[str, str]]:
    rows: dict[str, list[Row]] = {}
    failed: dict[str, str] = {}
    deadline = time.monotonic() + _ONE_BY_ONE_S
    for question in questions:
        if time.monotonic() > deadline:
            failed[question.name] = "not asked: the questions before it took too long"
            continue
        try:
            rows[question.name] = _read_only(wire, [question.sql], QUESTION_TIMEOUT_S)[0].rows
        except StatementError as failure:
            hint = f" ({failure.error.hint})" if failure.error.hint else ""
            failed[question.name] = f"{failure.error.message}{hint}"
    return rows, failed


def _read_only(wire: Wire, statements: Sequence[str], timeout_s: float) -> list[Reply]:
    """Run statements in one READ ONLY transaction, in one round trip; return their replies.

    SET LOCAL, not SET: behind a pooler a SET would stay on a connection that others use next.
    """
    preamble = [
        "BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED READ ONLY",
        f"SET LOCAL statement_timeout = {round(timeout_s * 1000)}",
        "SET LOCAL lock_timeout = 1000",
        "SET LOCAL TimeZone = 'UTC'",
        "SET LOCAL DateStyle = 'ISO, YMD'",
    ]
    # The line end closes a statement that ends in a `--` comment.
    message = "\n;".join([*preamble, *statements, "ROLLBACK"])
    try:
        # The timeout holds for each statement; all of them together get no more than twice that.
        replies = wire.run(message, timeout_s * min(2, len(statements)))
    except StatementError:
        wire.run("ROLLBACK", timeout_s)
        raise
    return replies[len(preamble) : -1]


# ---- SQL of playbooks ----------------------------------------------------------------------


def _read(wire: Wire, effect: ReadSql) -> Rows:
    _read_literals_as_the_guard_does(wire)
    statement = _prepare(wire, effect, reading_statement)
    first = statement.lstrip("( \t\r\n")[:7].lower()
    if first.startswith(("show", "explain")):
        return _limited(_read_only(wire, [statement], effect.timeout_s)[-1], effect.limit)
    # A cursor fetches no more than what is shown, and takes SELECT, VALUES, TABLE and WITH alone.
    statements = [
        f"DECLARE runbook_rows NO SCROLL CURSOR FOR {statement}",
        f"FETCH FORWARD {effect.limit + 1} FROM runbook_rows",
    ]
    return _limited(_read_only(wire, statements, effect.timeout_s)[-1], effect.limit)


def _read_literals_as_the_guard_does(wire: Wire) -> None:
    """See to it that a backslash in a literal is a backslash, as `sql_guard` takes it.

    The server reads a whole message before it runs any of it, so this cannot ride along.

    Raises:
        DatabaseError: when the server keeps the old reading; the guard could then be deceived.
    """
    if wire.conforming_strings:
        return
    wire.run("SET standard_conforming_strings = on", QUESTION_TIMEOUT_S)
    if not wire.conforming_strings:
        raise DatabaseError(
            "the server reads backslashes in literals in the old way, and does not change it",
            hint="set standard_conforming_strings = on for this role",
        )


def _change(wire: Wire, effect: ChangeSql) -> Rows:
    """Run one statement alone in its message: in autocommit, as VACUUM or ALTER SYSTEM need it."""
    statement = _prepare(wire, effect, single_statement)
    timeout_ms = round(effect.timeout_s * 1000)
    wire.run(
        f"SET statement_timeout = {timeout_ms}; SET lock_timeout = {min(timeout_ms, 5000)};"
        " SET standard_conforming_strings = on",
        QUESTION_TIMEOUT_S,
    )
    try:
        reply = wire.run(statement, effect.timeout_s)[0]
    finally:
        _reset(wire)
    return _limited(reply, _CHANGE_LIMIT)


def _reset(wire: Wire) -> None:
    """Give the settings back: behind a pooler the connection is somebody else's next."""
    if not wire.alive:
        return
    try:
        # A statement of the playbook may have been BEGIN; ROLLBACK outside of one only warns.
        wire.run("ROLLBACK", QUESTION_TIMEOUT_S)
        wire.run("RESET statement_timeout; RESET lock_timeout", QUESTION_TIMEOUT_S)
    except (StatementError, DoorError):
        wire.close()  # what was asked for is done; the next use opens a new connection


def _prepare(wire: Wire, effect: ReadSql | ChangeSql, check: Callable[[str], str]) -> str:
    """Return the one statement that will run, its values filled in by libpq's own quoting."""
    try:
        values = {name: wire.literal(value) for name, value in effect.parameters}
        return fill_in(check(effect.sql), values)
    except ValueError as error:
        raise DatabaseError(
            f"{effect.database}: {error}", hint="nothing was sent to the server"
        ) from None


def _limited(reply: Reply, limit: int) -> Rows:
    return Rows(rows=tuple(reply.rows[:limit]), truncated=len(reply.rows) > limit)
