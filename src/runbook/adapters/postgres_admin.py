"""The door for what only a superuser may: our own SQL, one short connection for each errand.

The doors that may lead in as one are tried in the order that asks least of anybody: the
inventory's `admin`, the server's own socket (`local`), and `connect` where that role happens to be
a superuser. A playbook's SQL never comes this way (see `postgres_ladder.PLAYBOOKS`).
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, get_args

from runbook.adapters.postgres_ladder import Ladder
from runbook.adapters.postgres_talk import OWN_PATH, PIN_PATH, StatementError
from runbook.adapters.secret_holes import value_of
from runbook.adapters.secrets import resolve
from runbook.model.effects import Change, Rows
from runbook.model.errors import ChangeInRehearsal, DatabaseLogin, DoorError
from runbook.model.scram import fits
from runbook.model.setup_effects import AdminLook, AdminRung, AdminSql, PasswordFits
from runbook.model.sql_guard import fill_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runbook.adapters.postgres_talk import Row, Talk
    from runbook.model.effects import Effect
    from runbook.model.fleet import Fleet
    from runbook.model.ports import Door as HostDoor

_LOOK_TIMEOUT_S = 5.0
#: Rows of one look that come back.
_MOST_ROWS = 1000
_IS_SUPER = "SELECT rolsuper AS super FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER"
_KEPT = "SELECT rolpassword AS kept FROM pg_catalog.pg_authid WHERE rolname = %(role)s"
#: What a server must not write down of a statement that has a password's stand-in in it.
_UNWRITTEN = (
    "SET LOCAL log_statement = 'none'",
    "SET LOCAL log_min_duration_statement = -1",
    "SET LOCAL log_min_error_statement = 'panic'",
    "SET LOCAL pg_stat_statements.track = 'none'",
)


class AdminDoor:
    """Performs AdminLook, PasswordFits and AdminSql."""

    def __init__(self, fleet: Fleet, *, rehearsal: bool, hosts: HostDoor | None = None) -> None:
        self._fleet = fleet
        self._rehearsal = rehearsal
        self._hosts = hosts

    def perform(self, effect: Effect[Any]) -> Any:
        """Perform one effect and return its outcome.

        Raises:
            ChangeInRehearsal: for a Change, when this door was opened for a rehearsal.
            DatabaseLogin: no door leads in as a superuser; what each one said.
            DatabaseError, ConnectionLost: the server refused a statement, or fell silent.
            SecretMissing: a hole's reference leads nowhere.
        """
        if isinstance(effect, Change) and self._rehearsal:
            raise ChangeInRehearsal(f"a rehearsal changes nothing: {effect.sentence()}")
        match effect:
            case AdminLook():
                with self._in(effect.database, effect.dbname) as talk:
                    return _look(talk, effect.sql, effect.parameters)
            case PasswordFits():
                return self._fits(effect)
            case AdminSql():
                values = {mark: value_of(hole) for mark, hole in effect.holes.items()}
                with self._in(effect.database, effect.dbname) as talk:
                    return _change(talk, effect, values)
        raise TypeError(f"no effect of an administrator: {effect!r}")

    def close(self) -> None:
        """Nothing is kept open between two errands."""

    def _fits(self, effect: PasswordFits) -> bool:
        password = resolve(effect.hole.secret)
        dbname = self._fleet.database(effect.database).connect.dbname
        with self._in(effect.database, dbname) as talk:
            rows = _look(talk, _KEPT, (("role", effect.role),)).rows
        return bool(rows) and fits(password, rows[0]["kept"])

    @contextmanager
    def _in(self, database: str, dbname: str) -> Iterator[Talk]:
        talk = self._enter(database, dbname)
        try:
            yield talk
        except StatementError as failure:
            raise failure.error from None
        finally:
            talk.close()

    def _enter(self, database: str, dbname: str) -> Talk:
        rungs = self._ladder(database, dbname).rungs
        said: dict[str, str] = {}
        for rung in get_args(AdminRung):
            opener = rungs.get(rung)
            if opener is None:
                said[rung] = "not declared"
                continue
            try:
                talk = opener()
            except DoorError as error:
                said[rung] = error.message
                continue
            if _is_super(talk):
                return talk
            said[rung] = f"{talk.door.user!r} is no superuser"
            talk.close()
        told = "; ".join(f"{rung}: {why}" for rung, why in said.items())
        raise DatabaseLogin(
            f"no door leads into {database}, database {dbname}, as a superuser: {told}",
            hint=f"give databases.{database} an `admin` (a superuser), or `local` (its socket, over"
            " SSH); a managed service, where nobody is a superuser, has a pooler of its own",
        )

    def _ladder(self, database: str, dbname: str) -> Ladder:
        """Return the doors of a server, led into another of its databases."""
        ladder = Ladder(database, self._fleet, self._hosts)
        own = ladder.database
        admin = own.admin.model_copy(update={"dbname": dbname}) if own.admin else None
        connect = own.connect.model_copy(update={"dbname": dbname})
        ladder.database = own.model_copy(update={"connect": connect, "admin": admin})
        return ladder


def _is_super(talk: Talk) -> bool:
    try:
        rows = _look(talk, _IS_SUPER, ()).rows
    except StatementError as failure:
        raise failure.error from None
    return bool(rows and rows[0]["super"])


def _look(talk: Talk, sql: str, parameters: Sequence[tuple[str, Any]]) -> Rows:
    statement = fill_in(sql, {name: talk.literal(value) for name, value in parameters})
    preamble = [
        "BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED READ ONLY",
        f"SET LOCAL statement_timeout = {round(_LOOK_TIMEOUT_S * 1000)}",
        "SET LOCAL lock_timeout = 1000",
        PIN_PATH,
    ]
    rows: list[Row] = talk.run([*preamble, statement, "ROLLBACK"], _LOOK_TIMEOUT_S * 2)[-2].rows
    return Rows(rows=tuple(rows[:_MOST_ROWS]), truncated=len(rows) > _MOST_ROWS)


def _change(talk: Talk, effect: AdminSql, secrets: Mapping[str, str]) -> Rows:
    """Run all statements in one transaction: half of them would be a role that cannot be used."""
    parameters = {**dict(effect.parameters), **secrets}
    values = {name: talk.literal(value) for name, value in parameters.items()}
    started = time.monotonic()
    statements = [fill_in(sql, _used(sql, values)) for sql in effect.statements]
    preamble = [
        "BEGIN",
        f"SET LOCAL statement_timeout = {round(effect.timeout_s * 1000)}",
        "SET LOCAL lock_timeout = 3000",
        f"SET LOCAL search_path = {OWN_PATH}",
        *(_UNWRITTEN if secrets else ()),
    ]
    try:
        if talk.door.rung == "local":  # psql sends one after the other, and keeps nothing open
            talk.run([*preamble, *statements, "COMMIT"], effect.timeout_s, change=True)
        else:
            # A message is written down as a whole, before its first word is obeyed.
            talk.run(preamble, _LOOK_TIMEOUT_S)
            talk.run([*statements, "COMMIT"], effect.timeout_s, change=True)
    except StatementError:
        talk.recover()
        raise
    return Rows(rows=({"seconds": round(time.monotonic() - started, 3)},))


def _used(sql: str, values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if f"%({name})s" in sql}
