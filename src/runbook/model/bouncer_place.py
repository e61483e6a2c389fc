"""Where a PgBouncer is for app servers, and where the PostgreSQL behind it is."""

from __future__ import annotations

import ipaddress

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
    """Return address and port of PostgreSQL as a PgBouncer reaches it.

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


def server_for_apps(name: str, fleet: Fleet) -> tuple[str, int]:
    """Return address and port of the PostgreSQL behind a PgBouncer, as app servers reach it.

    What PgBouncer calls the server by holds for them as well, unless that is its own host.

    Raises:
        UsageError: when the inventory does not have it, or tells no address that leads there from
            another host.
    """
    entry = fleet.pgbouncer(name)
    connect = fleet.database(entry.database).connect
    if entry.upstream is not None and not only_here(entry.upstream):
        return server_behind(name, fleet)
    if only_here(connect.host):
        raise UsageError(
            f"databases.{entry.database}.connect.host ({connect.host}) is no address by which app"
            f" servers reach the server behind pgbouncers.{name}",
            hint=f"`runbook pgbouncer remove {name} --run RUN` puts back what they had before RUN;"
            " or lead them with `rolling` and url: {host: …, port: …}, as they reach the server",
        )
    return connect.host, connect.port


def only_here(host: str) -> bool:
    """Whether an address leads somewhere on the host alone that uses it: loopback, or a socket."""
    bare = host.strip("[]").rstrip(".").casefold()
    if not bare or bare.startswith(("/", "@")) or bare == "localhost":
        return True
    if bare.startswith("localhost.") or bare.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)
