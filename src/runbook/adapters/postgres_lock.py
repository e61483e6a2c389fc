"""A lock on a database in its server: a session's advisory lock, for one that has no host.

It goes with the session that holds it, so a dead holder's is gone. Everybody may read in
pg_stat_activity whose it is: the session's application_name names the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runbook.adapters.postgres_talk import PIN_PATH
from runbook.model.application_name import NAME_BYTES
from runbook.model.document import visible

if TYPE_CHECKING:
    from runbook.adapters.postgres_talk import Row, Talk

_TIMEOUT_S = 5.0
#: `runbook` in ASCII, cut in two: no application's own locks are likely to be there.
_KEY = "1920298594, 1869572864"
_TAKE = f"SELECT pg_try_advisory_lock({_KEY}) AS taken"
_HELD = """
SELECT l.pid, l.pid = pg_backend_pid() AS ours, a.application_name AS name, a.usename::text AS role,
       host(a.client_addr) AS address,
       to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS since
FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.classid = 1920298594 AND l.objid = 1869572864
  AND l.objsubid = 2 AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def take(talk: Talk, note: Mapping[str, Any]) -> str | None:
    """Take the lock and say in our application_name whose it is; else return who holds it."""
    if _ask(talk, _TAKE)[0]["taken"]:
        name = f"runbook {note['run']} {note['who']}".encode()[:NAME_BYTES].decode(errors="ignore")
        _ask(talk, f"SELECT set_config('application_name',{talk.literal(name)}, false)")
        return None
    rows = _ask(talk, _HELD)
    return _words(rows[0]) if rows else "a session that has gone at this moment: try again"


def still(talk: Talk) -> bool:
    """Whether the session has the lock."""
    return any(row["ours"] for row in _ask(talk, _HELD))


def give_back(talk: Talk) -> None:
    """Let go of the lock; the session is as it was before."""
    _ask(talk, f"SELECT pg_advisory_unlock({_KEY})")
    talk.run(["RESET application_name"], _TIMEOUT_S)


def _words(row: Row) -> str:
    name, address = visible(str(row["name"] or "")), row["address"] or "its socket"
    return (
        f"session {row['pid']} of {visible(str(row['role']))} from {address}, since {row['since']}:"
        f" {name.removeprefix('runbook ') or 'it gives no name'}"
    )


def _ask(talk: Talk, sql: str) -> list[Row]:
    return talk.run(["BEGIN", PIN_PATH, sql, "COMMIT"], _TIMEOUT_S)[2].rows
