"""The door to PostgreSQL: questions, guarded terminations, playbooks' SQL; one connection."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from runbook.adapters import postgres_lock
from runbook.adapters.postgres_host import seen_from_host
from runbook.adapters.postgres_ladder import PLAYBOOKS, Entry, Ladder, NoDoor
from runbook.adapters.postgres_rungs import try_rung, without_host
from runbook.adapters.postgres_signal import signal
from runbook.adapters.postgres_talk import PIN_PATH, StatementError
from runbook.model.effects import (
    Answers,
    AskDatabase,
    Change,
    ChangeSql,
    Question,
    ReadSql,
    Rows,
    SignalSessions,
    TryRung,
)
from runbook.model.errors import (
    ChangeInRehearsal,
    ConnectionLost,
    DatabaseError,
    DoorError,
    Locked,
    SlotRefused,
    Unreachable,
)
from runbook.model.sql_guard import fill_in, reading_statement, single_statement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runbook.adapters.postgres_talk import Reply, Row, Talk
    from runbook.model.effects import Effect, RungTried
    from runbook.model.fleet import Fleet
    from runbook.model.ports import Door as HostDoor
    from runbook.model.sessions import Rung, SessionId

T = TypeVar("T")

#: Seconds that one set of questions may take on the server: a diagnosis must not be a burden.
QUESTION_TIMEOUT_S = 5.0
#: Seconds for all questions together, when they have to be asked one by one.
_ONE_BY_ONE_S = 15.0
#: Rows that a changing statement's RETURNING may bring back.
_CHANGE_LIMIT = 1000
#: Seconds that closing waits for whoever still asks: the answer on the screen must not wait for a
#: look that was given up. The connection then ends with its thread, or with the process.
_CLOSE_WITHIN_S = 0.1


class PostgresDoor:
    """Performs AskDatabase, ReadSql, SignalSessions, ChangeSql and TryRung.

    One connection for each database, opened at first need and kept until `close`; of the rungs
    beyond the server's own network door, nothing is kept. Several threads may share it; each
    database is asked by one at a time.
    """

    def __init__(self, fleet: Fleet, *, rehearsal: bool, hosts: HostDoor | None = None) -> None:
        """Prepare the doors; `hosts` performs commands on the servers' hosts, and stays open."""
        self._fleet = fleet
        self._rehearsal = rehearsal
        self._hosts = hosts
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
            case TryRung():
                return self._line(effect.database).try_rung(effect.rung, effect.limits)
        raise TypeError(f"no effect of PostgreSQL: {effect!r}")

    def hold_lock(self, database: str, note: Mapping[str, Any]) -> SessionLock | None:
        """Lock a database in its server, over the connection that is kept.

        None where none is kept: the rungs beyond the network door are left at once.

        Raises:
            Locked: when another session holds it.
            DoorError: when the server cannot be asked.
        """
        if self._rehearsal:
            raise ChangeInRehearsal(f"a rehearsal locks nothing: {database}")
        return self._line(database).hold_lock(note)

    def close(self) -> None:
        """Close every connection; may be called twice. Whoever asks after that enters anew."""
        with self._lock:
            # Who is still at it on an old line must not open it once more.
            lines, self._lines = list(self._lines.values()), {}
        for line in lines:
            line.close()

    def _line(self, database: str) -> _Line:
        with self._lock:
            if database not in self._lines:
                self._lines[database] = _Line(Ladder(database, self._fleet, self._hosts))
            return self._lines[database]


class _Line:
    """The one connection to one database."""

    def __init__(self, ladder: Ladder) -> None:
        self._ladder = ladder
        self._entry: Entry | None = None
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """Hang up; what is still being asked is left to hang up when it has its answer."""
        self._closed = True
        if self._lock.acquire(timeout=_CLOSE_WITHIN_S):
            try:
                self._hang_up()
            finally:
                self._lock.release()

    def ask(self, questions: Sequence[Question]) -> Answers:
        try:
            return self._observe(lambda entry: _ask(entry, questions))
        except NoDoor as shut:
            return self._from_host(shut)

    def read(self, effect: ReadSql) -> Rows:
        try:
            return self._observe(lambda entry: _read(entry.talk, effect), own=False)
        except NoDoor as shut:
            raise shut.error from None

    def signal(self, sessions: Sequence[SessionId]) -> tuple[int, ...]:
        """Signal each session the way it was seen: by SQL, or on the server's host."""
        by_host = [session for session in sessions if seen_from_host(session)]
        by_sql = [session for session in sessions if session not in by_host]
        with self._lock:
            signalled = set(self._signal_on_host(by_host) if by_host else ())
            try:
                signalled |= set(self._signal_by_sql(by_sql) if by_sql else ())
            except NoDoor as shut:
                raise shut.error from None
        return tuple(session.pid for session in sessions if session.pid in signalled)

    def change(self, effect: ChangeSql) -> Rows:
        """Run a playbook's SQL, by the rungs that are for it: never as a superuser of ours."""
        if effect.as_admin:
            return self._change_as_admin(effect)
        with self._lock:
            try:
                entry = self._enter(own=False)
            except NoDoor as shut:
                raise shut.error from None
            try:
                return self._once(lambda: _change(entry.talk, effect))
            finally:
                self._give_back()

    def _change_as_admin(self, effect: ChangeSql) -> Rows:
        """Run a statement of our own over a superuser's connection, which is left at once.

        The kept connection stays as it is: the target's lock may hang on it.
        """
        with self._lock:
            try:
                entry = self._ladder.climb_as_admin()
            except NoDoor as shut:
                raise shut.error from None
            try:
                return _change_as_admin(entry.talk, effect)
            except StatementError as failure:
                raise failure.error from None
            finally:
                entry.talk.close()

    def try_rung(self, rung: Rung, limits: Question | None) -> RungTried:
        with self._lock:
            return try_rung(self._ladder, rung, limits, _ask)

    def hold_lock(self, note: Mapping[str, Any]) -> SessionLock | None:
        """Take the server's lock; see `PostgresDoor.hold_lock`."""
        with self._lock:
            try:
                entry = self._enter(own=False)
                if entry.rung != "connect":
                    return None
                holder = self._once(lambda: postgres_lock.take(entry.talk, note))
            except NoDoor:
                return None
            finally:
                self._give_back()
        if holder is None:
            return SessionLock(self, entry)
        raise Locked(
            f"database {self._ladder.name} is held by another run: {holder}",
            hint="wait for it, or ask who runs it. Its lock goes with its session, so there is none"
            " to steal: SELECT pg_terminate_backend(PID) ends it, and that run stops before its"
            " next change",
        )

    def lock_lost(self, entry: Entry) -> str | None:
        """Say why the lock that an entry took is held no longer."""
        with self._lock:
            if self._entry is entry:
                try:
                    if self._once(lambda: postgres_lock.still(entry.talk)):
                        return None
                except DoorError as error:
                    return error.message
        return "the session that held it has ended, or has let go of it"

    def give_lock_back(self, entry: Entry) -> None:
        """Let go of the lock; a session that is gone has done so."""
        with self._lock, suppress(DoorError):
            if self._entry is entry:
                self._once(lambda: postgres_lock.give_back(entry.talk))

    def _from_host(self, shut: NoDoor) -> Answers:
        """Return what the server's host tells, where there is no connection to be had."""
        host = self._ladder.host
        if host is None:
            raise shut.error from None
        started = time.monotonic()
        try:
            processes = host.look()
        except DoorError as error:
            raise without_host(shut, error) from None
        return Answers(
            rows={},
            rung="os",
            refusals=shut.refusals,
            connect_s=shut.seconds,
            query_s=time.monotonic() - started,
            processes=processes,
        )

    def _signal_on_host(self, sessions: Sequence[SessionId]) -> tuple[int, ...]:
        host = self._ladder.host
        if host is None:
            raise DoorError(
                f"{self._ladder.name}: its host, where these were seen, is not declared"
            )
        return host.signal(sessions)

    def _signal_by_sql(self, sessions: Sequence[SessionId]) -> tuple[int, ...]:
        try:
            entry = self._enter()
            try:
                return self._once(lambda: signal(entry.talk, sessions))
            except SlotRefused:
                # Nothing was run: the slot that was there a moment ago has gone to somebody else.
                fresh = self._enter()
                return self._once(lambda: signal(fresh.talk, sessions))
        finally:
            self._give_back()

    def _observe(self, look: Callable[[Entry], T], *, own: bool = True) -> T:
        """Look, and look once more over a new connection when the first one breaks."""
        with self._lock:
            try:
                entry = self._enter(own=own)
                try:
                    return self._once(lambda: look(entry))
                except (ConnectionLost, SlotRefused):
                    fresh = self._enter(own=own)
                    return self._once(lambda: look(fresh))
            finally:
                self._give_back()

    def _once(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (ConnectionLost, SlotRefused):
            self._hang_up()
            raise
        except StatementError as failure:
            raise failure.error from None

    def _enter(self, *, own: bool = True) -> Entry:
        if self._closed:
            raise Unreachable(f"{self._ladder.name}: not asked any more: its door was closed")
        if self._entry is not None and not self._fits(self._entry, own):
            self._hang_up()
        if self._entry is None:
            self._entry = self._ladder.climb(own=own)
        return self._entry

    def _fits(self, entry: Entry, own: bool) -> bool:
        # A connection that was idle may have been closed meanwhile; nothing is in flight on it,
        # so a new one repeats nothing.
        return (own or entry.rung in PLAYBOOKS) and entry.talk.alive

    def _give_back(self) -> None:
        """A walsender's slot is a standby's to reconnect with; psql keeps none in any case."""
        if self._entry is not None and (self._closed or self._entry.rung in {"rescue", "local"}):
            self._hang_up()

    def _hang_up(self) -> None:
        if self._entry is not None:
            self._entry.talk.close()
            self._entry = None


class SessionLock:
    """A lock that the kept session holds."""

    def __init__(self, line: _Line, entry: Entry) -> None:
        self._line = line
        self._entry = entry

    def lost(self) -> str | None:
        """Say why it is held no longer; the server is asked."""
        return self._line.lock_lost(self._entry)

    def close(self) -> None:
        """Give it back."""
        self._line.give_lock_back(self._entry)


# ---- questions -----------------------------------------------------------------------------


def _ask(entry: Entry, questions: Sequence[Question]) -> Answers:
    """Put all questions in one message; when one of them fails, one by one."""
    talk = entry.talk
    asked = [q for q in questions if q.min_version <= talk.server_version]
    started = time.monotonic()
    failed: dict[str, str] = {}
    try:
        replies = _questions(talk, [question.sql for question in asked])
        rows = {q.name: reply.rows for q, reply in zip(asked, replies, strict=True)}
    except StatementError:
        rows, failed = _one_by_one(talk, asked)
    return Answers(
        rows=rows,
        rung=entry.rung,
        refusals=entry.refusals,
        failed=failed,
        connect_s=entry.seconds,
        query_s=time.monotonic() - started,
    )


def _one_by_one(
    talk: Talk, questions: Sequence[Question]
) -> tuple[dict[str, list[Row]], dict[str, str]]:
    rows: dict[str, list[Row]] = {}
    failed: dict[str, str] = {}
    deadline = time.monotonic() + _ONE_BY_ONE_S
    for question in questions:
        if time.monotonic() > deadline:
            failed[question.name] = "not asked: the questions before it took too long"
            continue
        try:
            rows[question.name] = _questions(talk, [question.sql])[0].rows
        except StatementError as failure:
            hint = f" ({failure.error.hint})" if failure.error.hint else ""
            failed[question.name] = f"{failure.error.message}{hint}"
    return rows, failed


def _questions(talk: Talk, statements: Sequence[str]) -> list[Reply]:
    """Put questions of our own: nothing that somebody else has created answers them."""
    return _read_only(talk, statements, QUESTION_TIMEOUT_S, own=True)


def _read_only(
    talk: Talk, statements: Sequence[str], timeout_s: float, *, own: bool = False
) -> list[Reply]:
    """Run statements in one READ ONLY transaction, in one round trip; return their replies.

    Our own see the catalogue alone; a playbook's keep the search_path of their role.
    SET LOCAL, not SET: behind a pooler a SET would stay on a connection that others use next.
    """
    preamble = [
        "BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED READ ONLY",
        f"SET LOCAL statement_timeout = {round(timeout_s * 1000)}",
        "SET LOCAL lock_timeout = 1000",
        "SET LOCAL TimeZone = 'UTC'",
        "SET LOCAL DateStyle = 'ISO, YMD'",
        *([PIN_PATH] if own else []),
    ]
    try:
        # The timeout holds for each statement; all of them together get no more than twice that.
        timeout_s *= min(2, len(statements))
        replies = talk.run([*preamble, *statements, "ROLLBACK"], timeout_s)
    except StatementError:
        talk.recover()
        raise
    return replies[len(preamble) : -1]


# ---- SQL of playbooks ----------------------------------------------------------------------


def _read(talk: Talk, effect: ReadSql) -> Rows:
    _read_literals_as_the_guard_does(talk)
    statement = _prepare(talk, effect, reading_statement)
    first = statement.lstrip("( \t\r\n")[:7].lower()
    if first.startswith(("show", "explain")):
        return _limited(_read_only(talk, [statement], effect.timeout_s)[-1], effect.limit)
    # No more is fetched than what is shown; only SELECT, VALUES, TABLE and WITH can be so bounded.
    statements = [
        f"DECLARE runbook_rows NO SCROLL CURSOR FOR {statement}",
        f"FETCH FORWARD {effect.limit + 1} FROM runbook_rows",
    ]
    return _limited(_read_only(talk, statements, effect.timeout_s)[-1], effect.limit)


def _read_literals_as_the_guard_does(talk: Talk) -> None:
    """See to it that a backslash in a literal is a backslash, as `sql_guard` takes it.

    The server reads a whole message before it runs any of it, so this cannot ride along.

    Raises:
        DatabaseError: when the server keeps the old reading; the guard could then be deceived.
    """
    if talk.conforming_strings:
        return
    talk.run(["SET standard_conforming_strings = on"], QUESTION_TIMEOUT_S)
    if not talk.conforming_strings:
        raise DatabaseError(
            "the server reads backslashes in literals in the old way, and does not change it",
            hint="set standard_conforming_strings = on for this role",
        )


def _change(talk: Talk, effect: ChangeSql) -> Rows:
    """Run one statement alone in its message: in autocommit, as VACUUM or ALTER SYSTEM need it."""
    statement = _prepare(talk, effect, single_statement)
    timeout_ms = round(effect.timeout_s * 1000)
    settings = [
        f"SET statement_timeout = {timeout_ms}",
        f"SET lock_timeout = {min(timeout_ms, 5000)}",
        "SET standard_conforming_strings = on",
    ]
    talk.run(settings, QUESTION_TIMEOUT_S)
    try:
        reply = talk.run([statement], effect.timeout_s, change=True)[0]
    finally:
        _reset(talk)
    return _limited(reply, _CHANGE_LIMIT)


def _change_as_admin(talk: Talk, effect: ChangeSql) -> Rows:
    """Run one statement in one message: psql on the server's host keeps nothing between two."""
    statement = _prepare(talk, effect, single_statement)
    timeout_ms = round(effect.timeout_s * 1000)
    statements = [
        "BEGIN",
        PIN_PATH,
        f"SET LOCAL statement_timeout = {timeout_ms}",
        f"SET LOCAL lock_timeout = {min(timeout_ms, 5000)}",
        statement,
        "COMMIT",
    ]
    reply = talk.run(statements, effect.timeout_s, change=True)[-2]
    return _limited(reply, _CHANGE_LIMIT)


def _reset(talk: Talk) -> None:
    """Give the settings back: behind a pooler the connection is somebody else's next."""
    if not talk.alive:
        return
    try:
        # A statement of the playbook may have been BEGIN; ROLLBACK outside of one only warns.
        talk.run(["ROLLBACK"], QUESTION_TIMEOUT_S)
        talk.run(["RESET statement_timeout", "RESET lock_timeout"], QUESTION_TIMEOUT_S)
    except (StatementError, DoorError):
        talk.close()  # what was asked for is done; the next use opens a new connection


def _prepare(talk: Talk, effect: ReadSql | ChangeSql, check: Callable[[str], str]) -> str:
    """Return the one statement that will run, its values filled in by libpq's own quoting."""
    try:
        values = {name: talk.literal(value) for name, value in effect.parameters}
        return fill_in(check(effect.sql), values)
    except ValueError as error:
        raise DatabaseError(
            f"{effect.database}: {error}", hint="nothing was sent to the server"
        ) from None


def _limited(reply: Reply, limit: int) -> Rows:
    return Rows(rows=tuple(reply.rows[:limit]), truncated=len(reply.rows) > limit)
