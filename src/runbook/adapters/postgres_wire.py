"""One connection to PostgreSQL in libpq's simple protocol; the only place that imports psycopg.

Simple protocol, because it is the only one that a walsender connection (`replication=database`,
our way in when no slot is left) understands, and because it answers many statements in one round
trip. psycopg's `pq` layer alone is used: rows stay the server's text but for the few types below,
every wait has a deadline, and no statement is ever prepared.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runbook.adapters.postgres_errors import Door, refused, split_refusal, statement_failed
from runbook.adapters.postgres_talk import Reply, StatementError, plain_literal
from runbook.model.errors import ConnectionLost, DatabaseError
from runbook.model.sessions import NO_ANSWER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from psycopg import pq

#: Seconds beyond a statement's own timeout after which a silent server counts as lost.
_GRACE_S = 5.0
#: PQERRORS_VERBOSE of libpq-fe.h: messages carry their SQLSTATE.
_VERBOSE = 2
#: What a variable of the environment would set otherwise, and so lead us to another server
#: (PGHOSTADDR), turn this one down (PGTARGETSESSIONATTRS) or bend what it answers (PGOPTIONS).
_UNBENT = {"hostaddr": "", "target_session_attrs": "any", "options": ""}
#: libpq has no setting that says "no service": the variable itself has to be away while it reads.
_SERVICE = "PGSERVICE"
_environment = threading.Lock()


class Wire:
    """An open connection; used by one thread at a time. See `postgres_talk.Talk`."""

    def __init__(self, connection: pq.abc.PGconn, door: Door) -> None:
        self._pg = connection
        self.door = door
        self.server_version = connection.server_version
        self.backend_pid = connection.backend_pid

    @property
    def conforming_strings(self) -> bool:
        """Whether a backslash in a literal is a backslash, as the server last told us."""
        return self._pg.parameter_status(b"standard_conforming_strings") == b"on"

    @classmethod
    def open(cls, door: Door, settings: dict[str, str], timeout_s: float) -> Wire:
        """Connect within `timeout_s` seconds; `settings` are libpq's parameters.

        Raises:
            SlotRefused, DatabaseLogin, MissingGrant, Unreachable: see `postgres_errors.refused`.
        """
        from psycopg import pq

        with _without_service():
            connection = pq.PGconn.connect_start(_conninfo({**_UNBENT, **settings}))
        deadline = time.monotonic() + timeout_s
        try:
            _ask_for_sqlstate(connection, pq.__impl__)
            if _connected(connection, deadline):
                text, sqlstate = split_refusal(connection.get_error_message("utf-8"))
            else:
                text, sqlstate = _silence(connection, timeout_s), None
        except BaseException:
            connection.finish()
            raise
        if connection.status != pq.ConnStatus.OK:
            connection.finish()
            raise refused(door, text, sqlstate)
        return cls(connection, door)

    def close(self) -> None:
        """End the connection; may be called twice."""
        self._pg.finish()

    @property
    def alive(self) -> bool:
        """Whether the server has not hung up, as far as this side can tell without asking."""
        if self._gone:
            return False
        try:
            if _readable(self._pg.socket, 0.0):
                # Nothing was asked, so only a farewell (57P01) or an end of file can be there.
                self._pg.consume_input()
                return not _readable(self._pg.socket, 0.0)
        except _errors():
            return False
        return True

    def run(
        self,
        statements: Sequence[str],
        timeout_s: float,
        *,
        change: bool = False,  # noqa: ARG002 - nothing is ever sent twice here
        grace_s: float = _GRACE_S,
    ) -> list[Reply]:
        """Send statements in one message; see `postgres_talk.Talk.run`.

        `grace_s` goes on top for a server that ends a statement by its own time limit.
        """
        # The line end closes a statement that ends in a `--` comment.
        message = "\n;".join([statements] if isinstance(statements, str) else statements)
        deadline = time.monotonic() + timeout_s + grace_s
        done: list[Reply] = []
        failed: DatabaseError | None = None
        try:
            self._pg.send_query(message.encode(errors="replace"))
            for result in self._results(deadline):
                failed = failed or self._failure(result)
                if failed is None:
                    done.append(_reply(result))
                elif self._gone:
                    break
        except _errors() as error:
            raise self._lost(str(error)) from None
        if self._gone and (failed is None or failed.sqlstate is not None):
            raise self._lost(failed.message if failed else "the server closed the connection")
        if failed is not None:
            raise StatementError(done, failed)
        return done

    def recover(self) -> None:
        """End the transaction that a refused statement has left open."""
        self.run(["ROLLBACK"], _GRACE_S)

    def literal(self, value: object) -> str:
        """Return a value as SQL, quoted by libpq; see `postgres_talk.Talk.literal`."""
        plain = plain_literal(value)
        if plain is not None:
            return plain
        from psycopg import pq

        quoted = pq.Escaping(self._pg).escape_literal(str(value).encode(errors="replace"))
        return " " + bytes(quoted).decode() + ("::float8" if isinstance(value, float) else "")

    def _results(self, deadline: float) -> Iterator[pq.abc.PGresult]:
        while True:
            self._pg.flush()
            while self._pg.is_busy():
                if not _readable(self._pg.socket, deadline - time.monotonic()):
                    # Whatever comes later would be taken for the answer to something else.
                    self.close()
                    raise self._lost("no answer in time")
                self._pg.consume_input()
            result = self._pg.get_result()
            if result is None:
                return
            yield result

    def _failure(self, result: pq.abc.PGresult) -> DatabaseError | None:
        from psycopg.pq import DiagnosticField as Field
        from psycopg.pq import ExecStatus

        if result.status in {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.EMPTY_QUERY}:
            return None

        def said(field: Field) -> str:
            return (result.error_field(field) or b"").decode(errors="replace")

        text = said(Field.MESSAGE_PRIMARY) or result.get_error_message("utf-8")
        if detail := said(Field.MESSAGE_DETAIL):
            text = f"{text}: {detail}"
        if result.status not in {ExecStatus.FATAL_ERROR, ExecStatus.NONFATAL_ERROR}:
            # COPY waits for data that nobody will send; there is no other way out of it.
            self.close()
            text = "COPY from or to the client is not possible here"
        more = said(Field.MESSAGE_HINT)
        return statement_failed(self.door, text, said(Field.SQLSTATE) or None, more)

    @property
    def _gone(self) -> bool:
        return self._pg.status != 0

    def _lost(self, why: str) -> ConnectionLost:
        return ConnectionLost(
            f"the connection to {self.door.where} was lost: {why.strip()}",
            hint="what was asked for last may or may not have happened: run it again to look",
        )


def _errors() -> type[Exception]:
    from psycopg import Error

    return Error


@contextmanager
def _without_service() -> Iterator[None]:
    """Keep PGSERVICE from libpq, which reads it as soon as a connection is begun."""
    with _environment:
        service = os.environ.pop(_SERVICE, None)
        try:
            yield
        finally:
            if service is not None:
                os.environ[_SERVICE] = service


def _conninfo(settings: dict[str, str]) -> bytes:
    def quote(value: str) -> str:
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"

    return " ".join(f"{key}={quote(value)}" for key, value in settings.items()).encode()


def _ask_for_sqlstate(connection: Any, implementation: str) -> None:
    """Have libpq write SQLSTATEs into its messages on this connection.

    A refused connection has no result object to read a SQLSTATE from, and its text comes in the
    server's language. psycopg does not expose this call; without it (or if it goes away) the text
    alone decides.
    """
    try:
        if implementation == "python":
            from psycopg.pq import _pq_ctypes

            library: Any = _pq_ctypes.pq  # type: ignore[attr-defined]
        else:
            module = __import__(f"psycopg_{implementation}.pq", fromlist=["pq"])
            library = ctypes.CDLL(module.__file__)
        call = library.PQsetErrorVerbosity
        call.argtypes, call.restype = [ctypes.c_void_p, ctypes.c_int], ctypes.c_int
        call(connection.pgconn_ptr, _VERBOSE)
    except (AttributeError, ImportError, OSError):
        return


def _silence(connection: pq.abc.PGconn, timeout_s: float) -> str:
    """Say how far the handshake came: a server without a free child takes calls all the same."""
    from psycopg.pq import ConnStatus

    if connection.status == ConnStatus.STARTED:
        return f"no answer within {timeout_s:g}s"
    return f"no answer within {timeout_s:g}s: it took the connection, and {NO_ANSWER}"


def _connected(connection: pq.abc.PGconn, deadline: float) -> bool:
    """Drive the handshake to its end, good or bad; False when the deadline came first."""
    from psycopg.pq import ConnStatus, PollingStatus

    if connection.status == ConnStatus.BAD:
        return True
    wanted = PollingStatus.WRITING
    while wanted in {PollingStatus.READING, PollingStatus.WRITING}:
        left = deadline - time.monotonic()
        wait = _readable if wanted == PollingStatus.READING else _writable
        if not wait(connection.socket, left):
            return False
        wanted = PollingStatus(connection.connect_poll())
    return True


def _readable(descriptor: int, seconds: float) -> bool:
    return _poll(descriptor, select.POLLIN, seconds)


def _writable(descriptor: int, seconds: float) -> bool:
    return _poll(descriptor, select.POLLOUT, seconds)


def _poll(descriptor: int, event: int, seconds: float) -> bool:
    # poll, not select: a process with many SSH connections open has descriptors beyond 1024.
    poller = select.poll()
    poller.register(descriptor, event)
    return bool(poller.poll(max(0.0, seconds) * 1000))


def _reply(result: pq.abc.PGresult) -> Reply:
    columns = tuple(
        (result.fname(i) or b"").decode(errors="replace") for i in range(result.nfields)
    )
    loaders = [_LOADERS.get(result.ftype(i), _text) for i in range(result.nfields)]
    rows = [
        {
            name: None if (raw := result.get_value(row, i)) is None else loaders[i](raw)
            for i, name in enumerate(columns)
        }
        for row in range(result.ntuples)
    ]
    return Reply(columns=columns, rows=rows)


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


def _number(raw: bytes) -> int | float | str:
    """A number as JSON has it; NaN and the infinities stay text, because JSON has none."""
    text = raw.decode()
    if text.lstrip("-").isdigit():
        return int(text)
    return text if text.lstrip("-") in {"NaN", "Infinity"} else float(text)


def _integers(raw: bytes) -> list[int | None] | str:
    text = raw.decode()
    if "{" in text[1:]:
        return text  # of several dimensions, which no question of ours asks for
    items = text.strip("{}")
    return [None if item == "NULL" else int(item) for item in items.split(",")] if items else []


#: By type oid (pg_type.dat): what is more than text in JSON. Timestamps stay the server's text.
_LOADERS: dict[int, Callable[[bytes], Any]] = {
    16: lambda raw: raw == b"t",  # bool
    **dict.fromkeys((20, 21, 23, 26, 700, 701, 1700), _number),  # int8 int2 int4 oid floats numeric
    **dict.fromkeys((114, 3802), json.loads),  # json jsonb
    **dict.fromkeys((1005, 1007, 1016), _integers),  # int2[] int4[] int8[]
}
