"""The PgBouncers in front of a server as witnesses: what their consoles say of its sessions.

They are asked whatever the server says. It is when PostgreSQL has room that they matter most.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runbook.findings.seats import same_server
from runbook.findings.witness import Told, Witness
from runbook.model.effects import AskPgBouncer
from runbook.model.errors import DoorError
from runbook.model.sessions import PoolerLook

if TYPE_CHECKING:
    from runbook.findings.view import View
    from runbook.model.effects import ConsoleAnswers
    from runbook.model.sessions import Snapshot

#: What is asked, and which columns of it are kept: a snapshot may be saved and shared, and the rest
#: is of no use to anybody. Servers and clients come first, close to each other: links move.
_COLUMNS: dict[str, str] = {
    "servers": "database user state addr local_port ptr link remote_pid",
    "clients": "database user state addr port request_time ptr link application_name",
    "pools": "database user cl_active cl_waiting sv_active sv_active_cancel sv_being_canceled"
    " sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode",
    "databases": "name pool_size reserve_pool reserve_pool_size max_connections"
    " current_connections paused disabled",
    "users": "name pool_size reserve_pool_size max_user_connections",
    "lists": "list items",
    "config": "key value",
    "state": "key value",
}
#: Without these nothing can be said; the others only refine it, and old versions lack SHOW STATE.
_NEEDED = ("servers", "clients", "pools", "databases", "config")
_SETTINGS = (
    "default_pool_size",
    "max_client_conn",
    "max_user_connections",
    "pool_mode",
    "server_idle_timeout",
)


def _looks(view: View) -> tuple[AskPgBouncer, ...]:
    """Ask every PgBouncer that the inventory has in front of this server."""
    behind = same_server(view.target, view.fleet)
    return tuple(
        AskPgBouncer(pgbouncer=name, shows=tuple(_COLUMNS))
        for name, bouncer in view.fleet.inventory.pgbouncers.items()
        if bouncer.database in behind
    )


def _take(snapshot: Snapshot, told: tuple[Told, ...]) -> Snapshot:
    """Keep what was told, and of a failed look why."""
    return replace(snapshot, poolers=tuple(map(_look, told)))


def _look(told: Told) -> PoolerLook:
    outcome: ConsoleAnswers | DoorError = told.outcome
    if isinstance(outcome, DoorError):
        name: str = told.look.pgbouncer  # type: ignore[attr-defined]  # an AskPgBouncer
        return PoolerLook(name=name, version="", rows={}, error=_why(outcome, name))
    rows = {show: _kept(show, told) for show, told in outcome.rows.items()}
    lacking = [f"SHOW {s.upper()}: {outcome.failed[s]}" for s in _NEEDED if s in outcome.failed]
    return PoolerLook(
        name=outcome.pgbouncer, version=outcome.version, rows=rows, error="; ".join(lacking)
    )


def _why(error: DoorError, name: str) -> str:
    """Return why a console could not be asked, without the name that goes before it."""
    said = error.message.removeprefix(f"PgBouncer {name}").removeprefix(":").strip()
    seen = "what comes through it was not told apart"
    return f"{said}; {seen}{f'; {error.hint}' if error.hint else ''}"


def _kept(show: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    columns = _COLUMNS[show].split()
    return [
        {key: value for key, value in row.items() if key in columns}
        for row in rows
        if show != "config" or row.get("key") in _SETTINGS
    ]


WITNESS = Witness(name="pooler", looks=_looks, take=_take)
