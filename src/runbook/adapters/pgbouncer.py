"""The door to PgBouncer's admin console: commands, one by one, over one short connection.

The console understands libpq's simple protocol only, and one command a message. Its columns differ
from version to version (measured on 1.18; documented to 1.25): rows keep the names that they come
with, and whoever reads them reads by name. A console is exempt from `max_client_conn`, so it opens
when the clients' door is shut.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from runbook.adapters.postgres_errors import Door
from runbook.adapters.postgres_ladder import application_name
from runbook.adapters.postgres_talk import StatementError
from runbook.adapters.postgres_wire import Wire
from runbook.adapters.secrets import resolve
from runbook.model.effects import AskPgBouncer, ConsoleAnswers, ConsoleReply, TellPgBouncer
from runbook.model.errors import (
    ChangeInRehearsal,
    ConnectionLost,
    DatabaseError,
    DatabaseLogin,
    DoorError,
    SecretMissing,
    Unreachable,
)

if TYPE_CHECKING:
    from runbook.model.effects import Effect
    from runbook.model.fleet import Fleet
    from runbook.model.inventory import PgBouncer, Secret

#: What may be asked. SHOW FDS is not among it: it stops PgBouncer's one event loop.
SHOWS = frozenset(
    (
        "clients",
        "config",
        "databases",
        "lists",
        "pools",
        "servers",
        "state",
        "stats",
        "stats_totals",
        "totals",
        "users",
    )
)
#: The versions that some came with; 1.18 writes an error to its log for what it does not know.
_SINCE = {"state": 11900}
#: Rows of one answer that are kept. Ten thousand clients are some megabytes; who has more of them
#: learns how many there are from SHOW POOLS.
MOST_ROWS = 10_000
#: The virtual database that is the console.
CONSOLE = "pgbouncer"
#: Seconds for the console's login when a command is put to it.
_LOGIN_S = 5.0
_CLIENT_ID = re.compile(r"[0-9]{1,20}")


class PgBouncerDoor:
    """Performs AskPgBouncer and TellPgBouncer; each opens a connection of its own and closes it."""

    def __init__(self, fleet: Fleet, *, rehearsal: bool = False) -> None:
        self._fleet = fleet
        self._rehearsal = rehearsal

    def perform(self, effect: Effect[Any]) -> ConsoleAnswers | ConsoleReply:
        """Put the commands to the console.

        A SHOW that this version does not know, or that fails, is told in `failed`; so is, in its
        reply, a command that the console refuses or does not finish in time.

        Raises:
            ChangeInRehearsal: for a TellPgBouncer, in a rehearsal.
            Unreachable: nobody answers there, or the inventory does not say where.
            DatabaseLogin: wrong password, or a user who may not see the console.
            ConnectionLost: the connection broke, or the console fell silent.
            SecretMissing: the reference to the password leads nowhere.
        """
        if isinstance(effect, TellPgBouncer):
            return self._tell(effect)
        if not isinstance(effect, AskPgBouncer):
            raise TypeError(f"PgBouncerDoor does not perform {type(effect).__name__}")
        if unknown := set(effect.shows) - SHOWS:
            raise ValueError(f"these are not put to a PgBouncer: {', '.join(sorted(unknown))}")
        deadline = time.monotonic() + effect.timeout_s
        wire = self._open(effect, effect.timeout_s)
        try:
            return _ask(wire, effect, deadline)
        finally:
            wire.close()

    def _tell(self, effect: TellPgBouncer) -> ConsoleReply:
        if self._rehearsal:
            raise ChangeInRehearsal(
                f"this is a rehearsal, and it was asked to change something: {effect.sentence()}",
                hint="nothing was changed; this is a defect of the step: report it",
            )
        statement = _statement(effect)
        wire = self._open(effect, min(effect.timeout_s, _LOGIN_S))
        begun = time.monotonic()
        try:
            wire.run([statement], effect.timeout_s, grace_s=0.0)
        except StatementError as failure:
            return ConsoleReply(ok=False, said=failure.error.message)
        except ConnectionLost as error:
            if time.monotonic() - begun >= effect.timeout_s:
                return ConsoleReply(ok=False, came_back=False, said="it has not come back yet")
            raise ConnectionLost(
                error.message, hint="whether it was carried out is not known: look at its console"
            ) from None
        finally:
            wire.close()
        return ConsoleReply(ok=True)

    def close(self) -> None:
        """Nothing is kept open between looks."""

    def _open(self, effect: AskPgBouncer | TellPgBouncer, within_s: float) -> Wire:
        name = effect.pgbouncer
        bouncer = self._fleet.inventory.pgbouncers[name]
        door = self._door(name, bouncer)
        settings = {
            "host": door.host,
            "port": str(door.port),
            "dbname": door.dbname,
            "user": door.user,
            "application_name": application_name(),
            "client_encoding": "UTF8",
            "gssencmode": "disable",
        }
        if bouncer.admin.password is not None:
            settings["password"] = _password(name, bouncer.admin.password)
        try:
            return Wire.open(door, settings, within_s)
        except DatabaseError as error:
            raise _login(name, error) from None
        except Unreachable as error:
            raise _unreachable(name, door, error) from None

    def _door(self, name: str, bouncer: PgBouncer) -> Door:
        address = bouncer.address
        if address is None and bouncer.host is not None:
            address = self._fleet.host(bouncer.host).address
        if address is None:
            raise Unreachable(
                f"PgBouncer {name}: the inventory does not say where its console is",
                hint=f"give pgbouncers.{name} a host, or an address",
            )
        return Door(
            database=f"PgBouncer {name}",
            rung="admin",
            host=address,
            port=bouncer.port,
            dbname=bouncer.admin.dbname or CONSOLE,
            user=bouncer.admin.user,
        )


def _password(name: str, secret: Secret) -> str:
    try:
        return resolve(secret)
    except SecretMissing as error:
        raise SecretMissing(f"PgBouncer {name}: {error.message}", hint=error.hint) from None


def _ask(wire: Wire, effect: AskPgBouncer, deadline: float) -> ConsoleAnswers:
    rows: dict[str, list[dict[str, Any]]] = {}
    failed: dict[str, str] = {}
    for show in effect.shows:
        left = deadline - time.monotonic()
        if left <= 0:
            failed[show] = f"not asked: {effect.timeout_s:g}s were over"
            continue
        if wire.server_version < _SINCE.get(show, 0):
            failed[show] = "this version does not know it"
            continue
        try:
            (reply,) = wire.run([f"SHOW {show.upper()}"], left)
        except StatementError as failure:
            failed[show] = failure.error.message
        except ConnectionLost as error:
            raise ConnectionLost(
                error.message, hint="was it restarted in between? its log says more: try again"
            ) from None
        else:
            rows[show] = reply.rows[:MOST_ROWS]
            if len(reply.rows) > MOST_ROWS:
                failed[show] = f"{len(reply.rows)} rows; the first {MOST_ROWS} were read"
    return ConsoleAnswers(
        pgbouncer=effect.pgbouncer, version=_version(wire.server_version), rows=rows, failed=failed
    )


def _statement(effect: TellPgBouncer) -> str:
    """Return a command as the console reads it: names quoted, ids made of digits alone.

    The console knows no escape but a doubled quote (measured on 1.18), and takes one command a
    message; a line end or a zero byte has no place in a name.
    """
    if not effect.subject:
        return effect.command
    if effect.command == "KILL_CLIENT":
        if not _CLIENT_ID.fullmatch(effect.subject):
            raise ValueError(f"{effect.subject!r} is no client's id")
        return f"KILL_CLIENT {effect.subject}"
    if not effect.subject.isprintable():
        raise ValueError(f"{effect.subject!r} is no database's name")
    quoted = effect.subject.replace('"', '""')
    return f'{effect.command} "{quoted}"'


def _version(number: int) -> str:
    """Return `1.18.0` for 11800: libpq's reading of what PgBouncer calls itself at login."""
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def _login(name: str, error: DatabaseError) -> DatabaseLogin:
    user = f"pgbouncers.{name}.admin"
    if "does not exist" in error.message:
        hint = (
            f"is that PostgreSQL, and not PgBouncer? check pgbouncers.{name}.port and {user}.dbname"
            f" ({CONSOLE}, when left out)"
        )
    else:
        hint = (
            f"check {user}: its user and where its password comes from; the user has to be in"
            " PgBouncer's auth_file, and in its stats_users or admin_users"
        )
    return DatabaseLogin(error.message, hint=hint, sqlstate=error.sqlstate)


def _unreachable(name: str, door: Door, error: Unreachable) -> DoorError:
    # PgBouncer says so to whoever has the password and is in neither list.
    if error.message.endswith(": not allowed"):
        return DatabaseLogin(
            f"{door.where} does not let {door.user!r} see its console",
            hint=f"add it to stats_users in PgBouncer's configuration and RELOAD, or name another"
            f" user in pgbouncers.{name}.admin",
        )
    return Unreachable(
        error.message,
        hint=f"check that PgBouncer runs and listens there: psql -h {door.host} -p {door.port}"
        f" -U {door.user} {door.dbname}; pgbouncers.{name}.address and .port say where it is",
    )
