"""The database gate: are a restarted host's old sessions gone, and is there room again?"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from runbook.model.application_name import ESCAPES_SINCE, as_server_keeps
from runbook.model.effects import ReadSql, Rows
from runbook.model.errors import UsageError
from runbook.model.fleet import Fleet, ResolvedHost
from runbook.model.inventory import Service
from runbook.model.systemd import Unfit
from runbook.model.templates import placeholders

#: One version of each way to keep a name that is no plain ASCII.
_KEEPERS = (ESCAPES_SINCE - 1, ESCAPES_SINCE)

#: One statement, so that the clock, the limits and the counts belong together. The usable slots
#: follow `runbook.model.sessions.Limits.usable`; only client backends hold slots. Functions bear
#: their schema: it is run under the role's own search_path, where others may have made their like.
_SQL = """
WITH session AS (
    SELECT a.backend_start, a.application_name, a.client_addr, a.usename,
           coalesce(r.rolsuper, false) AS superuser
    FROM pg_catalog.pg_stat_activity a
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
    WHERE a.backend_type = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid()
), limits AS (
    SELECT pg_catalog.current_setting('max_connections')::int
           - pg_catalog.current_setting('superuser_reserved_connections')::int
           - coalesce(pg_catalog.current_setting('reserved_connections', true), '0')::int AS ceiling
), counted AS (
    SELECT pg_catalog.count(*) FILTER (WHERE superuser) AS superusers,
           pg_catalog.count(*) FILTER (WHERE NOT superuser) AS used,
           pg_catalog.count(*) FILTER (WHERE mine) AS sessions,
           pg_catalog.count(*) FILTER (WHERE mine AND backend_start < %(since)s::timestamptz) AS old
    FROM (
        SELECT *,
               (%(application)s::text IS NULL
                OR application_name = CASE
                       WHEN pg_catalog.current_setting('server_version_num')::int >= 160000
                       THEN %(application)s::text ELSE %(application_before_16)s::text END)
               AND (%(address)s::inet IS NULL OR client_addr = %(address)s::inet)
               AND (%(role)s::text IS NULL OR usename = %(role)s::text) AS mine
        FROM session
    ) AS marked
)
SELECT pg_catalog.to_char(pg_catalog.clock_timestamp() AT TIME ZONE 'UTC',
                          'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS now,
       current_user::text AS asked_as,
       pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all,
       greatest(0, ceiling - superusers) AS usable, used, sessions, old
FROM limits, counted
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sessions:
    """How one host's sessions are told from all others in pg_stat_activity."""

    database: str
    #: As the service declares it.
    application: str | None
    address: str | None
    role: str | None

    def look(self, since: str | None = None) -> ReadSql:
        """Ask once; sessions that began before `since` (the server's own text) count as old."""
        before_16, kept = _kept(self.application) if self.application else (None, None)
        return ReadSql(
            database=self.database,
            sql=_SQL,
            parameters=(
                ("since", since),
                ("application", kept),
                ("application_before_16", before_16),
                ("address", self.address),
                ("role", self.role),
            ),
            limit=1,
        )

    def __str__(self) -> str:
        named = (("application_name", self.application), ("client_addr", self.address))
        return " and ".join(f"{key} {value}" for key, value in named if value)


def sessions_of(service: Service, host: ResolvedHost, fleet: Fleet) -> Sessions | Unfit | None:
    """Return how this host's sessions are recognised; None for a service without a database."""
    if service.database is None:
        return None
    template = service.application_name
    application = fleet.expand(template, host) if template else None
    why = _unnamed(service, host, fleet)
    address = _own_address(service, host, fleet) if why else None
    if why and address is None:
        return Unfit(
            problem=f"the sessions of {host.name} cannot be told apart in {service.database}:"
            f" {why}, and {host.address} is no address of its own",
            hint="let the app set application_name per host, and declare it in the inventory:"
            " application_name: NAME-${host.name}, short and in plain ASCII",
        )
    return Sessions(
        database=service.database, application=application, address=address, role=service.role
    )


def row_of(rows: Rows) -> dict[str, Any]:
    """Return the one row of a look."""
    return dict(rows.rows[0]) if rows.rows else {}


def unfit_database(row: dict[str, Any], sessions: Sessions, *, host_up: bool) -> Unfit | None:
    """Say why the gate could not be trusted, or None."""
    if not row:
        return Unfit(problem=f"{sessions.database} gave no answer to the database gate")
    if not row["sees_all"]:
        return Unfit(
            problem=f"{row['asked_as']} does not see other roles' sessions in {sessions.database}",
            hint=f'GRANT pg_monitor TO "{row["asked_as"]}";',
        )
    if host_up and sessions.address is not None and row["sessions"] == 0:
        return Unfit(
            problem=f"{sessions.database} has no session from {sessions.address}, though the"
            " service runs: a pooler or NAT may hide where sessions come from",
            hint="let the app set application_name per host, and declare it in the inventory:"
            " application_name: NAME-${host.name}",
        )
    return None


def database_problem(row: dict[str, Any], headroom: int) -> str | None:
    """Say what the gate still waits for, or None when it is passed."""
    if not row:
        return "the database gave no answer"
    if row["old"]:
        return f"{row['old']} sessions from before the restart are still there"
    room = row["usable"] - headroom
    if row["used"] > room:
        return f"{row['used']} slots are in use, more than {row['usable']} usable less {headroom}"
    return None


def unnamed_warning(row: dict[str, Any], sessions: Sessions, *, host_up: bool) -> str | None:
    """Warn when a gate that goes by name would pass without having seen anything."""
    if not host_up or sessions.address is not None or row["sessions"]:
        return None
    return (
        f"no session with {sessions} in {sessions.database}, though the service runs: is"
        " application_name set as declared? the database gate could prove nothing"
    )


def _unnamed(service: Service, host: ResolvedHost, fleet: Fleet) -> str | None:
    """Say why application_name does not tell this host's sessions apart, or None when it does."""
    template = service.application_name or ""
    if not any(name.startswith("host.") for name in placeholders(template)):
        return "application_name does not name the host"
    others = [other for other in fleet.whole(service.hosts) if other != host.name]
    twins = [other for other in others if _same_name(template, host, fleet.host(other), fleet)]
    if not twins:
        return None
    return f"the server keeps the same application_name for {', '.join(twins[:3])}"


def _same_name(template: str, one: ResolvedHost, other: ResolvedHost, fleet: Fleet) -> bool:
    try:
        names = zip(
            _kept(fleet.expand(template, one)), _kept(fleet.expand(template, other)), strict=True
        )
    except UsageError:  # the other host has no such name, and none of its sessions bears ours
        return False
    return any(mine == theirs for mine, theirs in names)


def _kept(name: str) -> tuple[str, str]:
    """Return a name as the server keeps it: before PostgreSQL 16, and from it on."""
    before_16, since_16 = (as_server_keeps(name, version) for version in _KEEPERS)
    return before_16, since_16


def _own_address(service: Service, host: ResolvedHost, fleet: Fleet) -> str | None:
    """Return the host's IP address, if no other host of the service has the same."""
    try:
        address = str(ipaddress.ip_address(host.address))
    except ValueError:
        return None
    same = [other for other in fleet.whole(service.hosts) if _address(fleet, other) == address]
    return address if len(same) == 1 else None


def _address(fleet: Fleet, host: str) -> str:
    return fleet.host(host).address
