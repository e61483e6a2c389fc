"""Sessions without a pool, by psycopg: consoles, cron jobs, exporters, listeners, workers."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import Any

import psycopg

from scenarios.clients.telling import config, stay, tell

Connection = psycopg.Connection[tuple[Any, ...]]


def main() -> None:
    """Open `count` sessions; run `sql` on each, then `work`, which takes as long as it takes."""
    given = config()
    held = list(_opened(given))
    for connection in held:
        for statement in given.get("sql", ()):
            connection.execute(statement)
    pids = [connection.info.backend_pid for connection in held]
    work = given.get("work")
    if work:
        for connection in held:
            threading.Thread(target=_run, args=(connection, work), daemon=True).start()
    lost = given.get("lost", False)
    tell(
        lost=pids if lost else (),
        kept=() if lost or work else pids,
        busy=pids if work else (),
    )
    stay()


def _opened(given: dict[str, Any]) -> list[Connection]:
    held: list[Connection] = []
    for _ in range(given["count"]):
        try:
            held.append(psycopg.connect("", autocommit=True))
        except psycopg.OperationalError as error:
            if not given.get("takes_what_is_left"):
                raise
            print(f"refused after {len(held)}: {error}", file=sys.stderr)
            break
    return held


def _run(connection: Connection, work: str) -> None:
    with suppress(psycopg.Error):  # ended by the stage
        connection.execute(work.encode())


if __name__ == "__main__":
    main()
