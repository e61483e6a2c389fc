"""An application on SQLAlchemy whose requests forget to give their connections back.

Its pool is unbounded (`max_overflow=-1`), as it is set to silence `QueuePool limit reached`: that
is how a leak in the code becomes one on the server.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.orm import Session

from scenarios.clients.telling import config, stay, tell

READ = text("SELECT name, left_over FROM stock WHERE id = 1")


PID = text("SELECT pg_backend_pid()")


def main() -> None:
    """Lose `lost` connections in the way of `how`, and keep `kept` in the pool."""
    given = config()
    how, kept = given.get("how", "committed"), given.get("kept", 0)
    engine = _engine(kept, **({"isolation_level": "AUTOCOMMIT"} if how == "autocommit" else {}))
    # The variables of requests that are over: what they refer to stays checked out.
    forgotten = [_forgotten(engine, how) for _ in range(given.get("lost", 0))]
    tell(lost=[pid for pid, _ in forgotten], kept=_used_and_returned(engine, kept))
    stay()


def _engine(size: int, **options: Any) -> Engine:
    # libpq takes the rest from its environment variables.
    return create_engine(
        "postgresql+psycopg://", pool_size=max(1, size), max_overflow=-1, **options
    )


def _forgotten(engine: Engine, how: str) -> tuple[int, Any]:
    """Return a backend pid, and what keeps its connection: a request's variable, never closed."""
    if how == "engine per request":
        engine = _engine(1)
        with engine.connect() as connection:
            pid = _asked(connection)
            connection.commit()
        return pid, engine
    if how == "session":
        session = Session(engine)
        return _asked(session), session
    connection = engine.connect()
    pid = _asked(connection)
    if how == "committed":
        connection.commit()
    return pid, connection


def _used_and_returned(engine: Engine, count: int) -> list[int]:
    connections = [engine.connect() for _ in range(count)]
    pids = [_asked(connection) for connection in connections]
    for connection in connections:
        connection.commit()
        connection.close()
    return pids


def _asked(requester: Connection | Session) -> int:
    """Do a request's work; the server says which pid it was, for PgBouncer makes up its own."""
    pid: int = requester.execute(PID).scalar_one()
    requester.execute(READ).all()
    return pid


if __name__ == "__main__":
    main()
