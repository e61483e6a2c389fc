"""Where a PgBouncer is for app servers, and where the PostgreSQL behind it is."""

from __future__ import annotations

from runbook.model.errors import UsageError
from runbook.model.fleet import Fleet


def clients_of(name: str, fleet: Fleet) -> tuple[str, int]:
    """Return address and port by which app servers reach a PgBouncer.

    Raises:
        UsageError: when the inventory does not have it, or not where it is.
    """
    entry = fleet.pgbouncer(name)
    address = entry.clients or entry.address
    if address is None and entry.host is not None:
        address = fleet.host(entry.host).address
    if address is None:
        raise UsageError(
            f"pgbouncers.{name} does not say where app servers reach it",
            hint=f"add pgbouncers.{name}.clients: its name or address, as they see it",
        )
    return address, entry.client_port or entry.port


def server_behind(name: str, fleet: Fleet) -> tuple[str, int]:
    """Return address and port of PostgreSQL as a PgBouncer, and an app server, reaches it.

    `upstream` is another address than runbook's own, so that runbook's port says nothing: it is
    the server's own, from `local`, else PostgreSQL's default.

    Raises:
        UsageError: when the inventory does not have it.
    """
    entry = fleet.pgbouncer(name)
    database = fleet.database(entry.database)
    if entry.upstream is None:
        return database.connect.host, database.connect.port
    return entry.upstream, database.local.port if database.local is not None else 5432
