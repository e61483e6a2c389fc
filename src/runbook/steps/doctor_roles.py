"""What the doctor asks a server about roles and settings, and the SQL that mends them.

One statement, asked over whichever door opens: what our own role may, what every declared role is,
and how many sessions there are of each application. So no second connection is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runbook.model.effects import Question
from runbook.model.inventory import Credentials, Database
from runbook.model.sessions import Rung
from runbook.steps.doctor_scope import Scope

#: Application names that are fetched: far more than an inventory has services times hosts.
_MOST_SESSIONS = 2000

# rolvaliduntil may be infinite, and before 17 infinity cannot be subtracted from. Names travel as
# ours (`wanted`), never as the catalogue's: those may be in any encoding.
_SQL = """
SELECT current_setting('server_version_num')::int AS version_num,
       pg_is_in_recovery() AS in_recovery,
       current_user::text AS role,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS is_superuser,
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS can_read_all,
       pg_has_role(current_user, 'pg_signal_backend', 'USAGE') AS can_signal,
       coalesce(current_setting('reserved_connections', true), '0')::int AS reserved,
       current_setting('superuser_reserved_connections')::int AS superuser_reserved,
       current_setting('max_wal_senders')::int AS max_wal_senders,
       (SELECT count(*)::int FROM pg_stat_replication) AS wal_senders,
       current_setting('track_activities')::bool AS track_activities,
       (SELECT setting::bigint FROM pg_settings
         WHERE name = 'idle_in_transaction_session_timeout') > 0
       OR EXISTS (SELECT FROM pg_db_role_setting WHERE array_to_string(setconfig, ',')
                  LIKE '%idle_in_transaction_session_timeout=%') AS idle_in_transaction_ends,
       (SELECT json_agg(json_build_object(
            'name', wanted.name, 'oid', r.oid::bigint, 'login', r.rolcanlogin,
            'superuser', r.rolsuper, 'replication', r.rolreplication, 'most', r.rolconnlimit,
            'expires_s', CASE WHEN isfinite(r.rolvaliduntil)
                THEN extract(epoch FROM r.rolvaliduntil - now())::float8 END,
            'reads_all', CASE WHEN r.oid IS NOT NULL
                THEN pg_has_role(r.oid, 'pg_read_all_stats', 'USAGE') END,
            'signals', CASE WHEN r.oid IS NOT NULL
                THEN pg_has_role(r.oid, 'pg_signal_backend', 'USAGE') END,
            'reserved', (SELECT pg_has_role(r.oid, g.oid, 'USAGE') FROM pg_roles g
                          WHERE g.rolname = 'pg_use_reserved_connections'),
            'dbname', wanted.dbname, 'has_database', d.oid IS NOT NULL,
            'connects', has_database_privilege(r.oid, d.oid, 'CONNECT')))
          FROM (VALUES {wanted}) AS wanted (name, dbname)
          LEFT JOIN pg_roles r ON r.rolname = wanted.name
          LEFT JOIN pg_database d ON d.datname = wanted.dbname) AS roles,
       (SELECT json_agg(json_build_object(
            'application', s.application_name, 'role', s.usesysid::bigint,
            'address', host(s.client_addr), 'sessions', s.n))
          FROM (SELECT application_name, usesysid, client_addr, count(*) AS n
                  FROM pg_stat_activity
                 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
                 GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT {most}) AS s) AS sessions"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """Whom a rung logs in as, and where."""

    rung: Rung
    role: str
    dbname: str


def logins(database: Database) -> Iterator[Login]:
    """Yield the declared rungs that log in as a role of the inventory."""
    connect = database.connect
    yield Login(rung="connect", role=connect.user, dbname=connect.dbname)
    further: tuple[tuple[Rung, Credentials | None], ...] = (
        ("admin", database.admin),
        ("rescue", database.rescue),
    )
    for rung, credentials in further:
        if credentials is not None:
            dbname = credentials.dbname or connect.dbname
            yield Login(rung=rung, role=credentials.user, dbname=dbname)


def question(name: str, scope: Scope) -> Question:
    """Return the one question that is put to a database over each door."""
    database = scope.databases[name]
    wanted = [(login.role, login.dbname) for login in logins(database)]
    services = scope.fleet.services_of(name).values()
    wanted += [(s.role, database.connect.dbname) for s in services if s.role]
    pairs = ", ".join(f"({literal(role)}, {literal(db)})" for role, db in dict.fromkeys(wanted))
    return Question(name="doctor", sql=_SQL.format(wanted=pairs, most=_MOST_SESSIONS))


def facts_of(row: Mapping[str, Any], role: str, dbname: str) -> Mapping[str, Any] | None:
    """Return what the server's catalogue says of a role; None when it was not asked."""
    for fact in row.get("roles") or ():
        if fact["name"] == role and fact["dbname"] == dbname:
            return fact  # type: ignore[no-any-return]
    return None


def literal(text: str) -> str:
    """Return text as an SQL literal that reads the same whatever the server's settings."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Return a name in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def create_role(role: str, *, replication: bool = False, superuser: bool = False) -> str:
    """Return what makes a role for one of the doors; its password is typed, never shown."""
    named = identifier(role)
    rights = " SUPERUSER" if superuser else " REPLICATION" if replication else ""
    lines = [f"CREATE ROLE {named} LOGIN{rights};"]
    if not superuser:
        lines.append(f"GRANT pg_monitor, pg_signal_backend TO {named};")
    return "\n".join([*lines, set_password(role)])


def set_password(role: str) -> str:
    r"""Return psql's `\password`, which asks for it and sends no plain text."""
    plain = role.isidentifier() and role.isascii() and role == role.lower()
    return f"\\password {role if plain else identifier(role)}"
