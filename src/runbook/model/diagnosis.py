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
        None, description="declared for this host: processes x (size + overflow)"
    )

    @property
    def label(self) -> str:
        """Return a short name for people: `shop on web-01`, or the session's own words."""
        if self.service and self.host:
            return f"{self.service} on {self.host}"
        who = self.application_name or self.role or "(no name)"
        return f"{who} from {self.client_addr or 'a local socket'}"


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
    in_recovery: bool
    rung: str = Field(description="the door that let us in: connect, admin or rescue")
    refusals: tuple[str, ...] = Field((), description="what the doors before it said")
    connect_ms: float
    query_ms: float


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

    @property
    def healthy(self) -> bool:
        """Whether nothing needs doing."""
        return self.finding.cause == "healthy"
