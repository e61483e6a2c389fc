"""How many connections the server allows, and what our own role may see and do."""

from __future__ import annotations

from typing import Any

from runbook.model.effects import Question
from runbook.model.sessions import Limits

# pg_has_role(…, 'USAGE') is the test that the server itself applies to both roles: membership
# without INHERIT gives neither sight nor the right to signal.
QUESTION = Question(
    name="limits",
    sql="""
SELECT pg_catalog.current_setting('server_version_num')::int AS version_num,
       pg_catalog.current_setting('server_version') AS version,
       pg_catalog.current_setting('max_connections')::int AS max_connections,
       pg_catalog.current_setting('superuser_reserved_connections')::int AS superuser_reserved,
       coalesce(pg_catalog.current_setting('reserved_connections', true), '0')::int AS reserved,
       pg_catalog.current_setting('max_wal_senders')::int AS max_wal_senders,
       pg_catalog.pg_is_in_recovery() AS in_recovery,
       current_user::text AS role,
       pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS can_read_all,
       pg_catalog.pg_has_role(current_user, 'pg_signal_backend', 'USAGE') AS can_signal,
       (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS is_superuser,
       pg_catalog.to_char(pg_catalog.clock_timestamp() AT TIME ZONE 'UTC',
                          'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS server_time,
       pg_catalog.to_char(pg_catalog.pg_postmaster_start_time() AT TIME ZONE 'UTC',
                          'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS started_at""",
)


def limits_from(row: dict[str, Any]) -> Limits:
    """Return the question's one row as Limits."""
    return Limits(**row)
