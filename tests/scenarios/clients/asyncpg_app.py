"""An application on asyncpg: `acquire()` without `release()`."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import asyncpg

from scenarios.clients.telling import config, stay, tell

READ = "SELECT name, left_over FROM stock WHERE id = 3"


async def main() -> None:
    """Lose `lost` connections, inside a transaction or not, and give `kept` back to the pool."""
    given = config()
    total = given.get("lost", 0) + given.get("kept", 0)
    name = os.environ["PGAPPNAME"]  # libpq's variable; asyncpg reads the others
    async with asyncpg.create_pool(
        min_size=1,
        max_size=max(1, total),
        max_inactive_connection_lifetime=0,
        server_settings={"application_name": name},
    ) as pool:
        lost = [await _asked(pool, given) for _ in range(given.get("lost", 0))]
        kept = [await _asked(pool, {}) for _ in range(given.get("kept", 0))]
        pids = [connection.get_server_pid() for connection in kept]
        for connection in kept:
            await pool.release(connection)
        tell(lost=[connection.get_server_pid() for connection in lost], kept=pids)
        await asyncio.to_thread(stay)
        os._exit(0)  # closing the pool would wait for what was never released


async def _asked(pool: Any, given: dict[str, Any]) -> Any:
    connection = await pool.acquire()
    if given.get("in_transaction"):
        await connection.transaction().start()
    await connection.fetch(READ)
    return connection


if __name__ == "__main__":
    asyncio.run(main())
