"""What belongs to one database, or to the whole inventory; and what the doctor has seen of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from runbook.model.doctor import Area, Check, CheckStatus
from runbook.model.effects import Observe, RungTried, TryRung
from runbook.model.errors import DoorError, UsageError
from runbook.model.fleet import Fleet, ResolvedHost
from runbook.model.inventory import Database, PgBouncer, Service
from runbook.model.sessions import Rung

OutcomeT = TypeVar("OutcomeT")


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The databases that are looked at, and everything that stands around them."""

    fleet: Fleet
    databases: Mapping[str, Database]
    services: Mapping[str, Service]
    pgbouncers: Mapping[str, PgBouncer]
    #: Hosts of all of these; without a target, every host of the inventory.
    hosts: Mapping[str, ResolvedHost]

    def seats(self) -> Iterator[tuple[str, Service, ResolvedHost]]:
        """Yield every service on every host that it runs on."""
        for name, service in self.services.items():
            for host in self.fleet.service_hosts(name):
                yield name, service, host


def scope_of(database: str | None, fleet: Fleet) -> Scope:
    """Return what belongs to a database; None is everything.

    Raises:
        UsageError: when the inventory has no such database; the hint names what was meant.
    """
    inventory = fleet.inventory
    if database is None:
        return Scope(
            fleet=fleet,
            databases=inventory.databases,
            services=inventory.services,
            pgbouncers=inventory.pgbouncers,
            hosts=fleet.hosts,
        )
    declared = _database(database, fleet)
    services = fleet.services_of(database)
    bouncers = {n: b for n, b in inventory.pgbouncers.items() if b.database == database}
    names = {declared.host, *(bouncer.host for bouncer in bouncers.values())}
    names |= {host.name for service in services for host in fleet.service_hosts(service)}
    return Scope(
        fleet=fleet,
        databases={database: declared},
        services=services,
        pgbouncers=bouncers,
        hosts={name: host for name, host in fleet.hosts.items() if name in names},
    )


def _database(name: str, fleet: Fleet) -> Database:
    """Look a target up; who names a service or a bouncer is told whose it is."""
    inventory = fleet.inventory
    if name not in inventory.databases:
        user = inventory.services.get(name) or inventory.pgbouncers.get(name)
        if user is not None and user.database is not None:
            raise UsageError(
                f"{name!r} is no database, but belongs to one",
                hint=f"did you mean {user.database!r}? runbook doctor {user.database}",
            )
    return fleet.database(name)


@dataclass(kw_only=True)
class Seen:
    """What was looked at so far, by the effect that looked."""

    outcomes: dict[Observe[Any], Any] = field(default_factory=dict)

    def new(self, looks: Iterable[Observe[Any]]) -> tuple[Observe[Any], ...]:
        """Return the looks that were not taken yet, each once."""
        return tuple(look for look in dict.fromkeys(looks) if look not in self.outcomes)

    def of(self, look: Observe[OutcomeT]) -> OutcomeT | DoorError | None:
        """Return the outcome of a look, why it failed, or None when it was not taken."""
        outcome: OutcomeT | DoorError | None = self.outcomes.get(look)
        return outcome

    def opened(self, database: str, rung: Rung) -> bool:
        """Whether a rung of a database was tried, and let us in."""
        return any(
            isinstance(look, TryRung)
            and (look.database, look.rung) == (database, rung)
            and isinstance(outcome, RungTried)
            and outcome.verdict == "opened"
            for look, outcome in self.outcomes.items()
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What several checks are about; makes them."""

    area: Area
    name: str

    def check(  # noqa: PLR0917 - the first three are a sentence: check, status, what was seen
        self,
        name: str,
        status: CheckStatus,
        said: str,
        hint: str | None = None,
        mend: str = "",
        seconds: float | None = None,
    ) -> Check:
        """Return one check of this subject."""
        return Check(
            area=self.area,
            name=name,
            subject=self.name,
            status=status,
            said=said,
            hint=hint or "",
            mend=mend,
            seconds=None if seconds is None else round(seconds, 3),
        )

    def failed(self, name: str, error: DoorError, mend: str = "") -> Check:
        """Return the check of a look that ended in an error."""
        return self.check(name, "missing", error.message, error.hint, mend)
