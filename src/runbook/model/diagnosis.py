"""What a diagnosis says: the cause, its evidence, its owners, and the one command to run next.

These models are the documented JSON of `runbook diagnose --format json`; `schema_version` grows
when a key changes its meaning or goes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runbook.model.inventory import Closed

#: How sure a finding is: proved by a rule without a known exception; by arithmetic or lifetimes
#: with rare ones; more likely than not; a hint.
Confidence = Literal["certain", "strong", "likely", "weak"]


class Process(Closed):
    """A process of an app host, and the sessions whose sockets it holds."""

    host: str = Field(description="the inventory's host")
    name: str
    pid: int
    unit: str | None = Field(None, description="its systemd unit, where it is known")
    sessions: int = Field(description="sessions of this owner that it holds")
    budget: int | None = Field(
        None, description="connections that one process may open, as declared: size + overflow"
    )

    @property
    def label(self) -> str:
        """Return `gunicorn pid 812 (shop.service)`."""
        return f"{self.name} pid {self.pid}" + (f" ({self.unit})" if self.unit else "")


class Owner(Closed):
    """Whose sessions: the inventory's service and host where they are known."""

    service: str | None = None
    host: str | None = None
    role: str | None = None
    database: str | None = None
    application_name: str | None = None
    client_addr: str | None = None
    sessions: int = Field(description="sessions that this owner holds")
    concerned: int = Field(0, description="of these, the ones that the finding speaks of")
    budget: int | None = Field(
        None,
        description="declared for this host: processes x (size + overflow); of a PgBouncer's pool,"
        " its size and reserve",
    )
    pgbouncer: str | None = Field(
        None, description="the PgBouncer that its sessions were seen to come through"
    )
    pool: str | None = Field(
        None, description="database/user: these sessions wait in that PgBouncer's own pool"
    )
    processes: tuple[Process, ...] = Field(
        (), description="which processes hold them, where the app hosts told; most first"
    )

    @property
    def label(self) -> str:
        """Return a short name for people: `shop on web-01`, or the session's own words."""
        if self.pgbouncer and self.pool:
            return f"PgBouncer {self.pgbouncer}, pool {self.pool}"
        through = f" through {self.pgbouncer}" if self.pgbouncer else ""
        if self.service and self.host:
            return f"{self.service} on {self.host}{through}"
        who = self.application_name or self.role or "(no name)"
        return f"{who} from {self.client_addr or 'a local socket'}{through}"


class Finding(Closed):
    """One cause, as far as it applies."""

    cause: str = Field(description="the finding's name: leaked-sessions, lock-pile-up, …")
    title: str = Field(description="the cause in one line, with its numbers")
    confidence: Confidence
    because: str = Field(description="why this sure, and not more or less")
    share: float = Field(0.0, ge=0.0, description="of the usable slots, the share that it explains")
    evidence: tuple[str, ...] = ()
    owners: tuple[Owner, ...] = ()
    advice: str = Field("", description="what to do about it, in a sentence or two")
    command: str | None = Field(None, description="the one command to run next")


class SlotUse(Closed):
    """The arithmetic of the server's connection slots."""

    max_connections: int
    superuser_reserved: int
    reserved: int
    superuser_sessions: int = Field(description="superusers in: each takes an ordinary slot")
    usable: int = Field(description="slots that ordinary roles can have now")
    used: int = Field(description="slots that ordinary roles hold now; our own connection aside")
    free: int
    percent: int = Field(description="used of usable, rounded down")


class PoolUse(Closed):
    """One service on one host: declared and observed."""

    service: str
    host: str
    budget: int | None
    sessions: int
    active: int
    idle: int
    idle_in_transaction: int
    oldest_idle_s: float | None
    pgbouncer: str | None = Field(
        None, description="the PgBouncer that these sessions were seen to come through"
    )


class PoolerPool(Closed):
    """One pool of a PgBouncer: what its console says."""

    pgbouncer: str = Field(description="the inventory's name")
    version: str
    database: str
    user: str
    mode: str = Field(description="session, transaction or statement")
    pool_size: int = Field(description="server connections that it may have; 0 where not told")
    reserve: int = Field(description="further ones, after reserve_pool_timeout")
    sv_active: int = Field(description="server connections that a client has")
    sv_idle: int = Field(description="server connections that no client has")
    cl_active: int = Field(description="clients with a server connection, and idle ones")
    cl_waiting: int = Field(description="clients that wait for a server connection")
    maxwait_s: float = Field(description="how long the first of them has waited")
    binds: str | None = Field(
        None,
        description="why clients wait or are refused: paused, disabled, no_server, untold, or the"
        " limit that is reached: max_client_conn, pool_size, max_db_connections,"
        " max_user_connections",
    )
    bound: int | None = Field(None, description="the number of that limit")


class Count(Closed):
    """How many sessions share one value of something."""

    name: str
    sessions: int


class Ages(Closed):
    """The longest of each kind, in seconds by the server's clock; null where there is none."""

    transaction_s: float | None = Field(None, description="the oldest open transaction")
    statement_s: float | None = Field(None, description="the longest running statement")
    idle_s: float | None = Field(None, description="the session idle longest")
    idle_in_transaction_s: float | None = Field(
        None, description="the longest silence inside a transaction"
    )


class LockWait(Closed):
    """A session that waits for a lock, and whom it waits for."""

    pid: int
    waits_for: tuple[int, ...] = Field(description="pids; 0 is a prepared transaction")


class ServerInfo(Closed):
    """Which server answered, and through which door."""

    version: str
    server_time: str
    started_at: str = Field("", description="when the server was started; empty where not told")
    in_recovery: bool
    rung: str = Field(description="the door that let us in: connect, admin, local, rescue or os")
    refusals: tuple[str, ...] = Field((), description="what the doors before it said")
    connect_ms: float
    query_ms: float


class OwnerChange(Closed):
    """Whose sessions grew or shrank between two diagnoses."""

    owner: str = Field(description="`shop on web-03`, an application's name, or `everyone else`")
    service: str | None = None
    host: str | None = None
    sessions_then: int
    sessions: int

    @property
    def grown(self) -> int:
        """Return by how many; negative when they shrank."""
        return self.sessions - self.sessions_then


class Since(Closed):
    """What is different from an earlier diagnosis of the same server."""

    run_id: str | None = Field(None, description="for `runbook runs show`; null outside of a run")
    server_time: str = Field(description="when that was seen, by the server's clock")
    seconds: float | None = Field(
        None, description="between the two, by the server's clock; null when that went backwards"
    )
    cause: str = Field(description="the cause then")
    title: str = Field(description="the cause then, in one line")
    used: int = Field(description="slots that ordinary roles held then")
    usable: int = Field(description="slots that ordinary roles could have then")
    owners: tuple[OwnerChange, ...] = Field(
        (), description="who holds more or fewer sessions now, the largest change first"
    )
    notes: tuple[str, ...] = Field(
        (), description="what changed of the server itself: a restart, a setting, a failover"
    )


class Diagnosis(Closed):
    """Why a database is saturated, or that it is not."""

    schema_version: Literal[1] = 1
    target: str
    server: ServerInfo
    slots: SlotUse
    finding: Finding = Field(description="the cause")
    also: tuple[Finding, ...] = Field((), description="other causes that matter, in order")
    runners_up: tuple[Finding, ...] = Field((), description="looked at, and held less likely")
    pools: tuple[PoolUse, ...] = ()
    poolers: tuple[PoolerPool, ...] = Field(
        (), description="the pools of the PgBouncers in front of it, as far as they answered"
    )
    silent_poolers: tuple[str, ...] = Field(
        (), description="the PgBouncers in front of it that did not answer"
    )
    by_state: tuple[Count, ...] = ()
    by_database: tuple[Count, ...] = ()
    by_role: tuple[Count, ...] = ()
    by_application: tuple[Count, ...] = ()
    by_address: tuple[Count, ...] = ()
    by_wait: tuple[Count, ...] = Field((), description="what sessions at work wait for")
    ages: Ages = Ages()
    lock_waits: tuple[LockWait, ...] = Field(
        (), description="who waits for whom; the longest waiting, when there are very many"
    )
    unseen: tuple[str, ...] = Field(
        (), description="what could not be seen, and what would mend it"
    )
    since: Since | None = Field(
        None, description="what changed since the last diagnosis of this server in the journal"
    )
    replayed_from: str | None = Field(
        None, description="the capture that was judged again; null for a live look"
    )

    @property
    def healthy(self) -> bool:
        """Whether nothing needs doing."""
        return self.finding.cause == "healthy"
