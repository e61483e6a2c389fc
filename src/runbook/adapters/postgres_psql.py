"""psql on the server's host, by its socket, as the operating-system user: SQL without a TCP login.

One psql is one connection: it takes all statements on its stdin, and is gone when it has answered.
Each statement travels inside a dollar-quoted literal and is sent by `\\gexec`, so that psql reads
nothing in it: no variable, no backslash command. Cells end in NUL, which no value can hold; NULLs,
rows and replies are told by words made up for each run, which no client can foresee.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING, Any

from runbook.adapters.postgres_errors import (
    Door,
    refused,
    split_refusal,
    statement_failed,
)
from runbook.adapters.postgres_talk import OWN_PATH, Reply, Row, StatementError, plain_literal
from runbook.model.document import visible
from runbook.model.effects import ChangeCommand, ReadCommand
from runbook.model.errors import CommandFailed, ConnectionLost, DatabaseError, NotStarted
from runbook.model.os_user import as_os_user, sudo_refusal, sudoers_rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runbook.model.effects import CommandOutcome
    from runbook.model.fleet import ResolvedHost
    from runbook.model.inventory import LocalSocket
    from runbook.model.ports import Door as HostDoor

#: Bytes of answers that are kept: 5,000 sessions are about 6 MB, each row being told twice.
_KEPT_BYTES = 64 * 1024 * 1024
#: Seconds beyond the statements' own for SSH, sudo and psql to start.
_GRACE_S = 5.0
#: Seconds that psql waits for the server: over a socket it answers at once, or is stuck.
_CONNECT_TIMEOUT_S = 3
PSQL = "psql"
#: `options` are split at blanks.
_OWN_PATH = OWN_PATH.replace(" ", "")

#: What can stand in a FROM clause, and so be given back with its types.
_QUERY = re.compile(r"\s*\(*\s*(SELECT|WITH|VALUES|TABLE)\b", re.IGNORECASE)
#: A row's JSON tells the types, its text is what the server itself writes. Volatile functions are
#: called once: PostgreSQL does not pull up a subquery that has any.
_TYPED = "SELECT pg_catalog.row_to_json(runbook_row)::text AS runbook_json, runbook_row.* FROM (\n"
#: psql's exit code for a connection that it never had, or has lost.
_NO_CONNECTION = 2


class Psql:
    """The server's own socket, as `postgres_talk.Talk`; nothing is held between two runs."""

    alive = True
    conforming_strings = True

    def __init__(
        self, hosts: HostDoor, host: ResolvedHost, local: LocalSocket, door: Door, name: str
    ) -> None:
        self._hosts = hosts
        self._host = host
        self._local = local
        self._application = name
        self.door = door
        self.server_version = 0

    def open(self) -> Psql:
        """Try it: log in, learn the server's version, and leave.

        Raises:
            SlotRefused, DatabaseLogin, Unreachable: see `postgres_errors.refused`.
            CommandFailed: psql could not be run there; the hint has the sudoers line.
            DoorError: the host cannot be reached.
        """
        done = self._perform(["\\echo server :SERVER_VERSION_NUM"], 0.0, change=False)
        version = re.search(r"^server (\d+)$", done.stdout, re.MULTILINE)
        if done.exit_code != 0 or version is None:
            raise self._shut(done)
        self.server_version = int(version[1])
        return self

    def close(self) -> None:
        """Nothing is held between two runs."""

    def recover(self) -> None:
        """Nothing is left open: psql has ended with the statement that failed."""

    def literal(self, value: object) -> str:
        """Return a value as SQL, quoted as libpq does; see `postgres_talk.Talk.literal`."""
        plain = plain_literal(value)
        if plain is not None:
            return plain
        text = str(value).encode(errors="replace").decode()
        escaped = "E" if "\\" in text else ""
        quoted = text.replace("\\", "\\\\").replace("'", "''")
        return f" {escaped}'{quoted}'" + ("::float8" if isinstance(value, float) else "")

    def run(
        self, statements: Sequence[str], timeout_s: float, *, change: bool = False
    ) -> list[Reply]:
        """Have one psql run the statements; see `postgres_talk.Talk.run`."""
        marks = _Marks()
        script = list(_script(statements, marks))
        done = self._perform(script, timeout_s, change=change)
        replies = list(_replies(done.stdout, statements, marks))
        if done.exit_code == 0 and len(replies) == len(statements):
            return replies
        if marks.begin not in done.stdout and _turned_away(done):
            raise self._shut(done)
        raise self._broken(done, replies, change=change)

    # ---- the command

    def _perform(self, script: Sequence[str], timeout_s: float, *, change: bool) -> CommandOutcome:
        text = "\n".join([*_PREAMBLE, *script, ""])
        kind = ChangeCommand if change else ReadCommand
        more: dict[str, Any] = {} if change else {"keep_bytes": _KEPT_BYTES}
        effect = kind(
            host=self._host.name,
            argv=as_os_user(self._local.os_user, self._argv),
            timeout_s=timeout_s + _CONNECT_TIMEOUT_S + _GRACE_S,
            stdin=text,
            **more,
        )
        try:
            done: CommandOutcome = self._hosts.perform(effect)
        except NotStarted:
            raise
        except CommandFailed as error:
            # It did not end in time: what it was doing may have been done.
            raise ConnectionLost(error.message, hint=error.hint) from None
        return done

    @property
    def _argv(self) -> tuple[str, ...]:
        local, door = self._local, self.door
        settings = {
            "dbname": door.dbname,
            "connect_timeout": str(_CONNECT_TIMEOUT_S),
            "application_name": self._application,
            "client_encoding": "UTF8",
            # The environment (PAM's, sudo's) must neither lead elsewhere nor shut the socket.
            "hostaddr": "",
            "target_session_attrs": "any",
            "gssencmode": "disable",
            # Literals are read as they are written here; only our own SQL comes this way.
            "options": f"-c standard_conforming_strings=on -c search_path={_OWN_PATH}",
        }
        place = ("-h", local.socket_dir, "-p", str(local.port), "-U", door.user)
        return (PSQL, "-X", "-q", "-A", *place, "-d", _conninfo(settings))

    # ---- what went wrong

    def _shut(self, done: CommandOutcome) -> Exception:
        """Return why psql did not get in."""
        said, sqlstate = split_refusal(done.stderr)
        if refusal := sudo_refusal(done.stderr):
            return self._no_psql(refusal)
        if "failed: " in said or "FATAL" in said:
            return refused(self.door, said, sqlstate)
        return self._no_psql(said or visible(done.stdout[:100]) or f"exit code {done.exit_code}")

    def _no_psql(self, said: str) -> CommandFailed:
        rule = sudoers_rule(self._host.ssh.user, self._local.os_user, "/usr/bin/psql")
        hint = f"on {self._host.name}, in /etc/sudoers.d: {rule}"
        if re.search(r"\bpsql: .*(not found|No such file)", said):
            hint = f"install the PostgreSQL client on {self._host.name}: psql is not in sudo's path"
        where = f"psql as {self._local.os_user!r} on {self._host.name}"
        return CommandFailed(f"{where} cannot be run: {said}", hint=hint)

    def _broken(self, done: CommandOutcome, replies: list[Reply], *, change: bool) -> Exception:
        """Return why not every statement was answered; a change is in doubt then."""
        if done.exit_code == 3:
            text, sqlstate = _statement_error(done.stderr)
            return StatementError(replies, statement_failed(self.door, text, sqlstate))
        if done.exit_code == 0 and not change:
            return DatabaseError(
                f"{self.door.database}: psql's answer cannot be read: it may be too long",
                hint="ask for fewer rows",
            )
        said, _ = split_refusal(done.stderr)
        return ConnectionLost(
            f"the connection to {self.door.where} was lost: {said or 'psql ended'}",
            hint="what was asked for last may or may not have happened: run it again to look",
        )


def _turned_away(done: CommandOutcome) -> bool:
    """Whether psql that echoed nothing never ran a statement: nothing is in doubt then."""
    return done.exit_code == _NO_CONNECTION or bool(sudo_refusal(done.stderr))


class _Marks:
    """Words that no value can hold, because nobody knew them before."""

    def __init__(self) -> None:
        token = secrets.token_hex(12)
        self.begin = f"begin-{token}"
        self.null = f"null-{token}"
        self.row = f"row-{token}"
        self.end = f"end-{token}"
        self.quote = f"$q{token}$"


_PREAMBLE = (
    "\\set ON_ERROR_STOP on",
    "\\set VERBOSITY verbose",
    "\\pset footer off",
    "\\pset fieldsep_zero on",
)


def _script(statements: Sequence[str], marks: _Marks) -> Iterator[str]:
    # What a login shell says of its own accord comes before.
    yield f"\\echo {marks.begin}"
    yield f"\\pset null {marks.null}"
    yield f"\\pset recordsep {marks.row}"
    for statement in statements:
        sql = f"{_TYPED}{statement}\n) AS runbook_row" if _is_query(statement) else statement
        # No NUL can be sent to a server anyway; it would end psql's line.
        sql = sql.replace("\0", "�").encode(errors="replace").decode()
        yield f"SELECT {marks.quote}{sql}{marks.quote} \\gexec"
        yield f"\\echo {marks.end}"


def _is_query(statement: str) -> bool:
    return _QUERY.match(statement) is not None


def _replies(stdout: str, statements: Sequence[str], marks: _Marks) -> Iterator[Reply]:
    """Yield a reply for each statement that was answered to its end."""
    parts = stdout.rpartition(f"{marks.begin}\n")[2].split(f"{marks.end}\n")[:-1]
    for statement, part in zip(statements, parts, strict=False):
        lines = part.removesuffix("\n").split(marks.row)
        if lines == [""]:
            yield Reply(columns=(), rows=[])
            continue
        columns, *rows = (line.split("\0") for line in lines)
        cells = [[None if cell == marks.null else cell for cell in row] for row in rows]
        if _is_query(statement):
            yield Reply(columns=tuple(columns[1:]), rows=[_typed(columns, row) for row in cells])
        else:
            yield Reply(
                columns=tuple(columns), rows=[dict(zip(columns, row, strict=True)) for row in cells]
            )


def _typed(columns: Sequence[str], cells: Sequence[str | None]) -> Row:
    # Pairs, because two columns may share a name.
    values = json.loads(cells[0] or "{}", object_pairs_hook=_Pairs)
    return {
        name: _value(text, value)
        for name, text, (_, value) in zip(columns[1:], cells[1:], values, strict=True)
    }


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it is written."""


def _value(text: str | None, value: Any) -> Any:
    """Return a cell as the network's wire gives it: its text, unless JSON has a type for it.

    Text that reads as JSON of the same value is of a JSON type; arrays of integers are lists;
    everything else (times, arrays of text, composites) stays the server's text.
    """
    if text is None or value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, _Pairs) or text.startswith(("[", '"')):
        return text if text == value else _json_or_text(text)
    if isinstance(value, list) and all(item is None or isinstance(item, int) for item in value):
        return value
    return text


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _statement_error(stderr: str) -> tuple[str, str | None]:
    """Return the server's text and SQLSTATE of the error that ended psql."""
    said, sqlstate = split_refusal(stderr)
    # `ERROR: `, in the server's language; what comes before it are warnings.
    match = re.search(rf"(?m)^[^\W\d]+:  {sqlstate}: (.*?)(?=^[^\W\d]+:  |\Z)", stderr, re.DOTALL)
    return (match[1] if match else said), sqlstate


def _conninfo(settings: dict[str, str]) -> str:
    def quote(value: str) -> str:
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"

    return " ".join(f"{key}={quote(value)}" for key, value in settings.items())
