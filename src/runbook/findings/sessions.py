"""Who is connected, and doing what: pg_stat_activity, row by row."""

from __future__ import annotations

from typing import Any

from runbook.findings.masking import masked
from runbook.model.effects import Question
from runbook.model.sessions import Session

#: Bytes of each session's last statement that are fetched: enough to recognise it by, and 5,000
#: sessions still weigh about a megabyte.
QUERY_BYTES = 200

# Names and statements are in the encoding of whichever database their session is in; the view hands
# the raw bytes to us unconverted, so any of them may be no UTF-8. They travel as hex. textsend()
# neither checks nor converts where the two encodings are the same; in a SQL_ASCII database it does
# check, and an escaped copy is decoded instead.
BYTES = (
    "encode(substring(CASE WHEN getdatabaseencoding() = 'SQL_ASCII'"
    " THEN decode(replace({0}, chr(92), chr(92) || chr(92)), 'escape')"
    f" ELSE textsend({{0}}) END from 1 for {QUERY_BYTES}), 'hex')"
)

# Times are ::text, under the session's TimeZone UTC and DateStyle ISO, because that very text is
# compared again when a session is signalled. Ages are taken on the server's clock: ours may differ.
# leader_pid came with PostgreSQL 13: before, the name falls through to the NULL beside the view.
QUESTION = Question(
    name="sessions",
    sql=f"""
SELECT a.pid, a.backend_type, a.wait_event_type, a.wait_event, a.state, a.application_name,
       {BYTES.format("a.datname::text")} AS database,
       {BYTES.format("a.usename::text")} AS role,
       {BYTES.format("a.query")} AS query,
       host(a.client_addr) AS client_addr, a.client_port,
       a.backend_start::text AS backend_start, a.state_change::text AS state_change,
       extract(epoch FROM clock_timestamp() - a.backend_start)::float8 AS age_s,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS xact_age_s,
       extract(epoch FROM clock_timestamp() - a.query_start)::float8 AS query_age_s,
       extract(epoch FROM clock_timestamp() - a.state_change)::float8 AS state_age_s,
       a.backend_xid IS NOT NULL AS has_xid,
       a.leader AS leader_pid,
       coalesce(r.rolsuper, false) AS superuser,
       coalesce(r.rolreplication, false) AS replication,
       a.backend_type IS NULL AND a.backend_start IS NULL AS hidden,
       a.pid = pg_backend_pid() AS ours
  FROM (SELECT NULL::int AS leader_pid) AS before_13
 CROSS JOIN LATERAL (SELECT v.*, leader_pid AS leader FROM pg_stat_activity v) AS a
  LEFT JOIN pg_roles r ON r.oid = a.usesysid
 ORDER BY a.backend_start, a.pid""",  # noqa: S608 - a constant, made of constants
)


def session_from(row: dict[str, Any]) -> Session:
    """Return one row of the question as a Session; the values in its statement are masked."""
    return Session(
        **{
            **row,
            "database": text_of(row["database"]),
            "role": text_of(row["role"]),
            "query": masked(text_of(row["query"]) or ""),
            "application_name": row["application_name"] or "",
        }
    )


def text_of(hexadecimal: str | None) -> str | None:
    """Return the text in hexadecimal bytes; what is no UTF-8 becomes U+FFFD."""
    if hexadecimal is None:
        return None
    return bytes.fromhex(hexadecimal).decode("utf-8", "replace")
