"""What `runbook pgbouncer status` says: each PgBouncer, its pools, and what is wrong there.

These models are the documented JSON of `runbook pgbouncer status --format json`; `schema_version`
grows when a key changes its meaning or goes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runbook.model.inventory import Closed

#: What is wrong, in the order in which it is told.
#:   unreachable  nobody answers at its console
#:   stuck        clients wait for longer than a pool should let them, or are refused
#:   unseen       its console answers, and does not tell all: a login, a right
#:   paused       somebody said PAUSE, KILL or DISABLE, and nobody waits there yet
TroubleKind = Literal["unreachable", "stuck", "unseen", "paused"]
TROUBLES: tuple[TroubleKind, ...] = ("unreachable", "stuck", "unseen", "paused")


class ClientGroup(Closed):
    """Clients of one pool that belong together."""

    label: str = Field(description="`shop on web-01`, or their own words")
    service: str | None = None
    host: str | None = None
    clients: int
    waiting: int
    idle: int = Field(description="connected, with nothing to do at this moment")


class SeenSessions(Closed):
    """A pool's server connections as PostgreSQL sees them: found by process id and port."""

    active: int
    idle: int
    idle_in_transaction: int
    other: int
    pids: tuple[int, ...]
    missing: int = Field(description="server connections of SHOW SERVERS that PostgreSQL has not")


class PoolStatus(Closed):
    """One pool: the server connections for one database and user."""

    database: str
    user: str
    mode: str = Field(description="session, transaction or statement")
    cl_active: int = Field(description="clients with a server connection, and idle ones")
    cl_idle: int = Field(description="of these, the idle ones")
    cl_waiting: int
    maxwait_s: float = Field(description="how long the first waiting client has waited")
    sv_active: int = Field(description="server connections that a client has")
    sv_idle: int = Field(description="server connections that no client has")
    servers: int = Field(description="all of them, those that log in or are cleaned up too")
    pool_size: int
    pool_size_setting: str
    reserve: int = Field(description="further ones, after reserve_pool_timeout")
    max_db_connections: int = Field(description="0 is no bound")
    max_user_connections: int = Field(description="0 is no bound, or not told")
    most: int = Field(description="server connections that the smallest of these bounds allows")
    most_setting: str = Field(description="which one that is")
    binds: str | None = Field(
        None, description="why clients wait or are refused now; as `poolers.binds` of a diagnosis"
    )
    bound: int | None = Field(None, description="the number of the limit that binds")
    clients: tuple[ClientGroup, ...] = ()
    in_postgresql: SeenSessions | None = Field(
        None, description="null when PostgreSQL could not be asked, or the pool is another server's"
    )


class DatabaseStatus(Closed):
    """One database of SHOW DATABASES."""

    name: str
    behind: str = Field(description="where it leads: `10.0.0.5:5432/shop`")
    paused: bool
    disabled: bool


class Trouble(Closed):
    """One thing that is wrong."""

    kind: TroubleKind
    pgbouncer: str
    said: str
    hint: str = ""
    command: str | None = Field(None, description="the one command to run next")


class BouncerStatus(Closed):
    """One PgBouncer."""

    name: str
    database: str = Field(description="the inventory's database behind it")
    where: str = Field(description="its console: `10.0.0.5:6432`")
    answers: bool
    version: str = ""
    max_client_conn: int = 0
    used_clients: int = Field(0, description="our own console aside")
    pools: tuple[PoolStatus, ...] = ()
    databases: tuple[DatabaseStatus, ...] = ()
    settings: dict[str, str] = Field({}, description="settings of note, as SHOW CONFIG has them")
    remarks: tuple[str, ...] = Field(
        (), description="what is worth knowing, and breaks nothing now"
    )
    strangers: int = Field(
        0,
        description="sessions of its pools' roles that PostgreSQL sees from its address, and that"
        " are none of its server connections",
    )


class BouncersReport(Closed):
    """How the PgBouncers are."""

    schema_version: Literal[1] = 1
    target: str | None = Field(description="a PgBouncer or a database; null for all there are")
    well: bool = Field(description="false, and exit code 1, when there is any trouble")
    verdict: str = Field(description="in one line")
    troubles: tuple[Trouble, ...] = Field(description="the worst first")
    pgbouncers: tuple[BouncerStatus, ...]
    differences: tuple[str, ...] = Field(description="between PgBouncers of one database")
    unseen: tuple[str, ...] = Field(description="what could not be seen, and what would mend it")


def report_of(
    target: str | None,
    pgbouncers: tuple[BouncerStatus, ...],
    troubles: tuple[Trouble, ...],
    differences: tuple[str, ...],
    unseen: tuple[str, ...],
) -> BouncersReport:
    """Return the report, its troubles in the order of their kinds; those of a kind keep theirs."""
    ordered = tuple(sorted(troubles, key=lambda trouble: TROUBLES.index(trouble.kind)))
    return BouncersReport(
        target=target,
        well=not ordered,
        verdict=_verdict(pgbouncers, ordered),
        troubles=ordered,
        pgbouncers=pgbouncers,
        differences=differences,
        unseen=unseen,
    )


def _verdict(pgbouncers: tuple[BouncerStatus, ...], troubles: tuple[Trouble, ...]) -> str:
    if troubles:
        first, rest = troubles[0], len(troubles) - 1
        more = f" (and {rest} more: below)" if rest else ""
        return f"{first.pgbouncer}: {first.said}{more}"
    pools = sum(len(bouncer.pools) for bouncer in pgbouncers)
    names = ", ".join(bouncer.name for bouncer in pgbouncers[:3])
    more = f" and {len(pgbouncers) - 3} more" if len(pgbouncers) > 3 else ""
    held = f"{pools} pool{'' if pools == 1 else 's'}"
    return f"{names}{more}: nobody waits; {held}"
