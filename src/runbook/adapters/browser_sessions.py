"""Who has signed in at the browser's page: sessions in one SQLite file, which outlive a restart.

The file has no session's key, only its digest: who reads a backup of it cannot sign in with that.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runbook.adapters.sqlite_file import connect, migrate
from runbook.model.errors import DoorError

#: Sessions that are kept; the oldest go first. A person has a few.
_MOST = 2000
_BUSY_S = 5.0

_FIRST = (
    """CREATE TABLE IF NOT EXISTS sessions (
    digest TEXT PRIMARY KEY,
    person TEXT NOT NULL,
    token TEXT NOT NULL,
    ends_at REAL NOT NULL
)""",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One browser in which somebody has signed in."""

    person: str
    #: A digest of the token that they signed in with: a new token ends the session.
    token: str
    #: Seconds since the epoch.
    ends_at: float


class BrowserSessions:
    """One file, mode 0600; used from several threads, one at a time."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            DoorError: when it cannot be.
        """
        self._path = path
        self._lock = threading.Lock()
        with self._translated():
            self._db = connect(path, busy_s=_BUSY_S)
            migrate(self._db, (_FIRST,), f"the file of browsers' sessions {path}")

    def begin(self, session: Session, now: float) -> str:
        """Keep a session and return its key, for the browser alone.

        Raises:
            DoorError: when it cannot be kept.
        """
        key = secrets.token_urlsafe(32)
        row = (_digest(key), session.person, session.token, session.ends_at)
        with self._lock, self._translated():
            self._db.execute("DELETE FROM sessions WHERE ends_at < ?", (now,))
            self._db.execute(
                "DELETE FROM sessions WHERE digest NOT IN"
                " (SELECT digest FROM sessions ORDER BY ends_at DESC LIMIT ?)",
                (_MOST - 1,),
            )
            self._db.execute("INSERT INTO sessions VALUES (?, ?, ?, ?)", row)
        return key

    def find(self, key: str, now: float) -> Session | None:
        """Return the session of a key, or None when there is none, or it is over.

        Raises:
            DoorError: when the file cannot be read.
        """
        with self._lock, self._translated():
            row = self._db.execute(
                "SELECT person, token, ends_at FROM sessions WHERE digest = ? AND ends_at >= ?",
                (_digest(key), now),
            ).fetchone()
        return None if row is None else Session(person=row[0], token=row[1], ends_at=row[2])

    def end(self, key: str) -> None:
        """Forget a session.

        Raises:
            DoorError: when the file cannot be written.
        """
        with self._lock, self._translated():
            self._db.execute("DELETE FROM sessions WHERE digest = ?", (_digest(key),))

    def close(self) -> None:
        """Close the file."""
        with self._lock, self._translated():
            self._db.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise DoorError(
                f"the sessions of browsers in {self._path} cannot be used: {why}",
                hint="free the disk or mend the file's permissions; to begin anew, remove it:"
                " everybody signs in once more",
            ) from error


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
