"""The drill's own measurements, made directly: it takes nobody's word for what happened."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from runbook.drill import appctl, cluster
from runbook.drill.state import Layout
from runbook.drill.traffic import get

if TYPE_CHECKING:
    from runbook.drill.processes import Identity
    from runbook.drill.state import State

#: A session in time: the server process, and when it began.
Session = tuple[int, str]

_SESSIONS_SQL = """
SELECT pid, backend_start::text, application_name, usename
  FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
#: Sessions of the leaking app's pool that were not used since the last leak, and its age.
_UNUSED_SQL = """
SELECT count(*), (SELECT extract(epoch FROM min(clock_timestamp() - state_change))::float8
                    FROM pg_stat_activity WHERE pid = ANY(%(leaked)s))
  FROM pg_stat_activity
 WHERE application_name = %(name)s AND NOT pid = ANY(%(leaked)s)
   AND state_change <= (SELECT max(state_change) FROM pg_stat_activity WHERE pid = ANY(%(leaked)s))
"""
#: As `log_line_prefix` is set: time [pid] SQLSTATE ...; 57P01 is a termination by command.
_TERMINATED = re.compile(r"^\S+ \S+ \S+ \[(\d+)\] 57P01 ", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """What a role hears at the door."""

    accepted: bool
    #: What the server said when it refused.
    text: str = ""

    @property
    def refused(self) -> bool:
        """Whether it was refused for want of a slot (SQLSTATE 53300)."""
        # libpq gives no SQLSTATE for a refused connection; our server speaks untranslated English.
        return "remaining connection slots" in self.text or "too many clients" in self.text


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """The world at one moment."""

    login: Login
    #: Slots that ordinary roles hold.
    used: int
    #: The sessions, each with its application's name.
    sessions: dict[Session, str]
    ready: dict[str, bool]
    identities: dict[str, Identity | None]

    @property
    def healthy(self) -> bool:
        """Whether the app's role gets in, and every app server answers through its pool."""
        return self.login.accepted and all(self.ready.values())


def log_in(root: Path, db_port: int, role: str = cluster.APP_ROLE) -> Login:
    """Try a fresh connection of a role, and hang up at once."""
    password = Layout(root=root).secret(role).read_text(encoding="utf-8")
    try:
        cluster.connect(db_port, role, password).close()
    except psycopg.OperationalError as error:
        return Login(accepted=False, text=str(error).strip())
    return Login(accepted=True)


def leak_is_plain(root: Path, state: State, *, age_s: float = 0.0) -> bool:
    """Tell whether all leaked sessions are this old, and the pool's own were all used since."""
    name = next(f"shop-{app.name}" for app in state.apps if app.leaks)
    values = {"name": name, "leaked": list(leaked_pids(state))}
    with _as_admin(root, state.db_port) as connection:
        row = connection.execute(_UNUSED_SQL, values).fetchone()
    return row is not None and row[0] == 0 and float(str(row[1] or 0)) >= age_s


def _as_admin(root: Path, db_port: int) -> psycopg.Connection[tuple[object, ...]]:
    password = Layout(root=root).secret(cluster.ADMIN_ROLE).read_text(encoding="utf-8")
    return cluster.connect(db_port, cluster.ADMIN_ROLE, password, dbname="postgres")


def sessions(root: Path, db_port: int) -> dict[Session, tuple[str, str]]:
    """Return all client sessions but our own, each with its application's name and its role."""
    with _as_admin(root, db_port) as connection:
        rows = connection.execute(_SESSIONS_SQL).fetchall()
    return {
        (int(str(pid)), str(started)): (str(app), str(role)) for pid, started, app, role in rows
    }


def sample(root: Path, state: State) -> Sample:
    """Measure the world."""
    found = sessions(root, state.db_port)
    roles = [role for _, role in found.values()]
    return Sample(
        login=log_in(root, state.db_port),
        used=sum(role != cluster.ADMIN_ROLE for role in roles),
        sessions={session: name for session, (name, _) in found.items()},
        ready={app.name: get(app.port, "/ready")[0] == 200 for app in state.apps},
        identities={app.name: appctl.status(root, app.name) for app in state.apps},
    )


def leaked_pids(state: State) -> frozenset[int]:
    """Ask the app servers which server processes are behind the connections they forgot."""
    pids: set[int] = set()
    for app in state.apps:
        status, body = get(app.port, "/leaked")
        if status == 200:
            pids.update(json.loads(body))
    return frozenset(pids)


def terminated_pids(state: State) -> frozenset[int]:
    """Return the server processes that PostgreSQL's own log calls terminated by command."""
    try:
        log = (Path(state.home) / "postgres.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    return frozenset(int(pid) for pid in _TERMINATED.findall(log))


def traffic_counts(root: Path) -> dict[str, int]:
    """Return what the traffic has counted so far."""
    try:
        counts = json.loads(Layout(root=root).traffic_counts.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: int(count) for name, count in counts.items()}
