"""An application on psycopg_pool: `getconn()` without `putconn()`, from too large a pool."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from scenarios.clients.telling import config, stay, tell

READ = "SELECT name, left_over FROM stock WHERE id = 2"


def main() -> None:
    """Keep `kept` in the pool, lose `lost`, and run `work` on `busy` of them."""
    given = config()
    total = given.get("kept", 0) + given.get("lost", 0) + given.get("busy", 0)
    pool: ConnectionPool[Any] = ConnectionPool(
        "",
        min_size=total,
        max_size=total,
        max_idle=86400.0,
        max_lifetime=7 * 86400.0,
        kwargs={"autocommit": given.get("autocommit", False)},
        num_workers=8,
    )
    pool.wait(60)
    held = [pool.getconn() for _ in range(total)]
    returned = held[: given.get("kept", 0)]
    lost = held[len(returned) : len(returned) + given.get("lost", 0)]
    busy = held[len(returned) + len(lost) :]
    for connection in [*returned, *lost]:
        if not given.get("never_used"):
            connection.execute(READ).fetchall()
    kept = [connection.info.backend_pid for connection in returned]
    for connection in returned:
        pool.putconn(connection)
    for connection in busy:
        threading.Thread(target=_work, args=(connection, given), daemon=True).start()
    tell(lost=_pids(lost), kept=kept, busy=_pids(busy))
    stay()


def _pids(connections: list[psycopg.Connection[Any]]) -> list[int]:
    return [connection.info.backend_pid for connection in connections]


def _work(connection: psycopg.Connection[Any], given: dict[str, Any]) -> None:
    """Run the statement, once or again and again with a pause of `pause` seconds between."""
    with suppress(psycopg.Error):  # ended by the stage
        while True:
            connection.execute(given["work"].encode())
            if "pause" not in given:
                connection.commit()
            time.sleep(given.get("pause", 0.0))


if __name__ == "__main__":
    main()
