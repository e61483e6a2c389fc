"""A PgBouncer's state as its console tells it, for steps that change it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runbook.model.effects import AskPgBouncer, ConsoleAnswers, Drive, ask
from runbook.model.fleet import Fleet

#: What every action looks at.
SHOWS = ("config", "databases", "pools", "state")
#: Seconds for all of them: the console has its turn among the clients of one busy event loop.
_PATIENCE_S = 10.0
#: The console's own virtual database.
_CONSOLE = "pgbouncer"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One look at a console."""

    version: str
    rows: Mapping[str, list[dict[str, Any]]]
    #: SHOW commands without an answer: name -> why.
    failed: Mapping[str, str]

    @property
    def config(self) -> dict[str, str]:
        """The settings, as SHOW CONFIG has them."""
        rows = self.rows.get("config", ())
        return {str(row.get("key")): str(row.get("value") or "") for row in rows}

    @property
    def defaults(self) -> dict[str, str]:
        """What the settings are when nothing sets them, where this version tells it."""
        rows = self.rows.get("config", ())
        return {str(row["key"]): str(row["default"] or "") for row in rows if "default" in row}

    @property
    def databases(self) -> dict[str, dict[str, Any]]:
        """SHOW DATABASES by name, the console's own aside.

        One that `*` stands for is listed only while it has clients or server connections, and
        keeps its state while it is not (measured on 1.18).
        """
        rows = self.rows.get("databases", ())
        return {str(row.get("name")): row for row in rows if row.get("name") != _CONSOLE}

    def pools(self, database: str) -> list[dict[str, Any]]:
        """Return the pools of a database; of all of them for ""."""
        return [
            row
            for row in self.rows.get("pools", ())
            if row.get("database") != _CONSOLE and database in {"", row.get("database")}
        ]

    def servers(self, database: str) -> int:
        """Return how many server connections a database has, in whatever state."""
        return sum(
            int(value or 0)
            for row in self.pools(database)
            for key, value in row.items()
            if key.startswith("sv_")
        )

    def is_(self, state: str, database: str) -> bool | None:
        """Return whether a database is `paused` or `disabled`; None when it is not told.

        Whether everything is paused is told by 1.19 and later.
        """
        if not database:
            told = {row.get("key"): row.get("value") for row in self.rows.get("state", ())}
            return str(told[state]) in {"yes", "1"} if state in told else None
        row = self.databases.get(database)
        return None if row is None else str(row.get(state)) == "1"

    def in_session_mode(self, database: str) -> bool:
        """Whether any pool of it lets a client keep a server connection until it leaves."""
        pools = self.pools(database)
        own = (self.databases.get(database) or {}).get("pool_mode")
        modes = {row.get("pool_mode") for row in pools} | {own or self.config.get("pool_mode")}
        return "session" in modes


def look(name: str, *more: str) -> Drive[Seen]:
    """Ask a console for its state, and for what else is named.

    Raises (through the drive):
        DoorError: when it does not answer.
    """
    effect = AskPgBouncer(pgbouncer=name, shows=(*SHOWS, *more), timeout_s=_PATIENCE_S)
    answers: ConsoleAnswers = yield from ask(effect)
    return Seen(version=answers.version, rows=answers.rows, failed=answers.failed)


def version_of(version: str) -> tuple[int, ...]:
    """Return (1, 18) for `1.18.0`; () for what is no version."""
    parts = version.split(".")[:2]
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else ()


def by_hand(fleet: Fleet, name: str, command: str) -> str:
    """Return a psql command line for the console, quoted for a POSIX shell."""
    bouncer = fleet.pgbouncer(name)
    host = bouncer.address or (fleet.host(bouncer.host).address if bouncer.host else "")
    who = ["-h", host, "-p", str(bouncer.port), "-U", bouncer.admin.user]
    return shlex.join(["psql", *who, "-d", bouncer.admin.dbname or _CONSOLE, "-c", command])


def quoted(database: str) -> str:
    """Return a database's name as the console reads it; "" stays so."""
    return '"' + database.replace('"', '""') + '"' if database else ""
