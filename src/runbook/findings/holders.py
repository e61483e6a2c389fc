"""Who may hold sessions: a service on a host, sessions that belong together, a pooler's callers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from runbook.model.diagnosis import Owner

if TYPE_CHECKING:
    from runbook.findings.bouncers import Client, Pool
    from runbook.model.fleet import ResolvedHost
    from runbook.model.inventory import Service
    from runbook.model.sessions import Session


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """One service on one host: where sessions may belong."""

    service: str
    host: ResolvedHost
    declared: Service
    #: What its sessions call themselves, as the server keeps it; None when nothing is declared.
    name: str | None

    @property
    def budget(self) -> int | None:
        """Connections that it may hold, as declared."""
        return self.declared.pool.budget if self.declared.pool else None


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Sessions that belong together; several seats when they cannot be told apart by host."""

    seats: tuple[Seat, ...]
    sessions: tuple[Session, ...]
    #: Why a count or a lifetime proves nothing here; "" when it does.
    doubt: str = ""
    #: The PgBouncer that the sessions were seen to come through; "" when they were not.
    bouncer: str = ""
    #: That PgBouncer's pool, when the sessions are its own and no client has them.
    pool: Pool | None = None
    #: Who is behind that PgBouncer, a client for each session; () when no client has them.
    clients: tuple[Client, ...] = ()
    #: Seconds after which that PgBouncer closes its idle connections; 0 when it does not.
    closes_idle_s: float = 0.0

    @property
    def budget(self) -> int | None:
        """Connections declared for all seats together; None when any declares nothing."""
        if self.pool is not None:
            return self.pool.budget
        budgets = [seat.budget for seat in self.seats]
        known = [budget for budget in budgets if budget is not None]
        return sum(known) if known and len(known) == len(budgets) else None

    @property
    def max_lifetime_s(self) -> float | None:
        """Seconds that the most patient of the pools keeps a connection; None when unknown."""
        pools = [seat.declared.pool for seat in self.seats]
        ages = [pool.max_lifetime for pool in pools if pool and pool.max_lifetime]
        return max(ages) if ages and len(ages) == len(pools) else None

    @property
    def retires_idle(self) -> bool:
        """Whether every one of the pools closes its idle connections at their maximum lifetime."""
        pools = [seat.declared.pool for seat in self.seats]
        return bool(pools) and all(pool is not None and pool.retires_idle for pool in pools)

    @property
    def idle_timeout_s(self) -> float:
        """Seconds after which the most patient of the pools closes an idle connection, or 0."""
        if self.pool is not None:
            return self.closes_idle_s
        pools = [seat.declared.pool for seat in self.seats]
        return max((pool.idle_timeout or 0.0 for pool in pools if pool), default=0.0)

    @property
    def service(self) -> str | None:
        """The service, when it is one."""
        names = {seat.service for seat in self.seats}
        return names.pop() if len(names) == 1 else None

    @property
    def host(self) -> str | None:
        """The host, or all that it may be, for people."""
        names = [seat.host.name for seat in self.seats]
        if not names or self.service is None:
            return None
        return ", ".join(names) if len(names) <= 3 else f"{len(names)} hosts"

    @cached_property
    def label(self) -> str:
        """A short name for people: `shop on web-01`, or the sessions' own words."""
        return self.owner(0).label

    def owner(self, concerned: int) -> Owner:
        """Return it as an Owner of which `concerned` sessions are spoken of."""
        return Owner(
            service=self.service,
            host=self.host,
            role=_common({s.role for s in self.sessions}),
            database=_common({s.database for s in self.sessions}),
            application_name=_common({c.application_name for c in self.clients or self.sessions}),
            client_addr=_common({c.addr for c in self.clients} or set(map(_from, self.sessions))),
            pgbouncer=self.bouncer or None,
            pool=self.pool.name if self.pool else None,
            sessions=len(self.sessions),
            concerned=concerned,
            budget=self.budget,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Callers:
    """Clients of a PgBouncer that belong together, with a server connection or without."""

    bouncer: str
    seats: tuple[Seat, ...]
    clients: tuple[Client, ...]
    #: Why their number proves nothing; "" when it does.
    doubt: str = ""

    @property
    def budget(self) -> int | None:
        """Connections declared for all seats together; None when any declares nothing."""
        return Holder(seats=self.seats, sessions=()).budget

    @property
    def service(self) -> str | None:
        """The service, when it is one."""
        return Holder(seats=self.seats, sessions=()).service

    @property
    def waiting(self) -> int:
        """How many of them wait for a server connection."""
        return sum(client.waiting for client in self.clients)

    @property
    def label(self) -> str:
        """A short name for people: `shop on web-01`, or their own words."""
        holder = Holder(seats=self.seats, sessions=())
        if holder.service and holder.host:
            return f"{holder.service} on {holder.host}"
        first = self.clients[0]
        return f"{first.application_name or first.user} from {first.addr}"


def _from(session: Session) -> str | None:
    return "a hidden address" if session.hidden else session.client_addr


def _common(values: set[str | None]) -> str | None:
    return values.pop() if len(values) == 1 else None
