"""What was seen of a server's connections and of the pools that open them: input of the budget.

Counts are client backends. `now` is the last sample, `peak` the largest of the window's samples and
of earlier looks that the journal has (`peak_since` says how far back). A count that could not be
seen is None, never 0.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Facts(BaseModel):
    """Frozen, closed, and plain data for the journal."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerFacts(Facts):
    """The limits of the server, as it told them."""

    version_num: int
    max_connections: int
    superuser_reserved: int
    #: reserved_connections, PostgreSQL 16 and later; 0 before.
    reserved: int
    #: Superusers' sessions at this moment: each takes an ordinary slot (measured on 12 to 18).
    superuser_sessions: int
    in_recovery: bool
    #: Client backends at this moment, and the most that were seen.
    used: int
    peak: int

    @property
    def usable(self) -> int:
        """Slots for ordinary roles on a quiet day: max_connections less both reserves."""
        return max(0, self.max_connections - self.superuser_reserved - self.reserved)


class ProcessUse(Facts):
    """One process of a service on a host, by the host's own sockets."""

    pid: int
    name: str
    now: int


class HostUse(Facts):
    """One service on one host."""

    host: str
    now: int
    peak: int
    #: () where the host was not looked at.
    processes: tuple[ProcessUse, ...] = ()


class ServiceUse(Facts):
    """One service's own sessions, over all its hosts; a PgBouncer's are told in `BouncerUse`."""

    service: str
    now: int
    peak: int
    #: Sessions in a transaction or a statement, those that it has through a PgBouncer included: the
    #: mean over the window's samples, and the most. By Little's law the mean is rate x hold time.
    #: None where their state is hidden from our role.
    busy_mean: float | None
    busy_peak: int | None
    #: Transactions in a second in its databases, where no other service uses them; None: not told.
    rate_per_s: float | None = None
    #: Statements of its roles in a second and their mean milliseconds, by pg_stat_statements; None
    #: where that is not installed, or another service has the same role.
    statements_per_s: float | None = None
    statement_ms: float | None = None
    #: Sessions by host; () where they cannot be told apart by host.
    hosts: tuple[HostUse, ...] = ()


class OtherUse(Facts):
    """Sessions that belong to no service of the inventory: people, cron jobs, strangers."""

    label: str
    now: int
    peak: int


class BouncerUse(Facts):
    """One pool of a PgBouncer in front of the server."""

    bouncer: str
    pool: str
    #: Server connections that it may open: size + reserve, or what its database or user may.
    budget: int
    now: int
    clients: int
    waiting: int


class Configured(Facts):
    """A value that a host has, and where it stands; a connection string is told without secrets."""

    service: str
    host: str
    #: Which value of the pool it is.
    name: Literal["size", "overflow", "processes", "url", "threads", "max_lifetime"]
    value: str
    #: `/etc/shop.env line 3, POOL_SIZE`; `Environment of shop.service, POOL_SIZE`.
    source: str
    #: Whether the inventory says that it lives there; else it was found, and may be something else.
    declared: bool


class PoolFacts(Facts):
    """All that the budget is made from, beside the inventory."""

    database: str
    #: The server's clock, ISO 8601 in UTC.
    at: str
    #: Length of the window in seconds, and samples in it.
    window_s: float
    samples: int
    #: The earliest look that the peaks take in; "" when it is this one alone.
    peak_since: str = ""
    server: ServerFacts
    services: tuple[ServiceUse, ...] = ()
    others: tuple[OtherUse, ...] = ()
    bouncers: tuple[BouncerUse, ...] = ()
    #: Services that reach the server through a PgBouncer alone: its pools count, not theirs.
    behind_bouncer: tuple[str, ...] = ()
    configured: tuple[Configured, ...] = ()
    #: What could not be seen, in sentences: a missing grant, a host that does not answer.
    unseen: tuple[str, ...] = ()
