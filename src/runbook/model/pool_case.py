"""What a budget is made of: the inventory's pools, what hosts are configured for, what was seen."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runbook.model.pool_plan import CountedBy, Sum
from runbook.model.units import amount_ceil

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runbook.model.fleet import Fleet
    from runbook.model.inventory import Pool, Service
    from runbook.model.pool_facts import BouncerUse, Configured, PoolFacts, ServiceUse

#: The values of a pool that its arithmetic needs.
VALUES = ("processes", "size", "overflow")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """So many hosts, each with so many processes, each with a pool of size + overflow."""

    hosts: int
    processes: int
    size: int
    overflow: int

    @property
    def each(self) -> int:
        """Connections of one process."""
        return self.size + self.overflow

    @property
    def per_host(self) -> int:
        """Connections of one host."""
        return self.processes * self.each

    @property
    def connections(self) -> int:
        """Connections of all the hosts."""
        return self.hosts * self.per_host

    def sum(self) -> Sum:
        """Return it as a line of the plan."""
        return Sum(
            hosts=self.hosts,
            processes=self.processes,
            size=self.size,
            overflow=self.overflow,
            connections=self.connections,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceCase:
    """One service in the sum."""

    name: str
    counted_by: CountedBy
    #: Hosts that it runs on.
    hosts: int
    #: What runs: the hosts by what they are configured for, the most common first; () not known.
    shapes: tuple[Shape, ...]
    #: What the inventory says, or the what-if.
    declared: Shape | None
    service: Service
    use: ServiceUse | None
    #: Hosts that are configured otherwise than the most common.
    unlike: Mapping[str, Shape] = field(default_factory=dict)

    def of_host(self, host: str) -> Shape | None:
        """Return what one host has; None where nobody says."""
        return self.unlike.get(host, self.shapes[0]) if self.shapes else None

    @property
    def pool(self) -> Pool | None:
        """The declared pool."""
        return self.service.pool

    @property
    def counted(self) -> int:
        """Connections that it takes of the budget."""
        if self.counted_by == "bouncer":
            return 0
        if self.counted_by == "observed":
            return self.use.peak if self.use is not None else 0
        return sum(shape.connections for shape in self.shapes)

    @property
    def processes(self) -> int:
        """Processes on all of its hosts."""
        return sum(shape.hosts * shape.processes for shape in self.shapes)

    @property
    def surge_hosts(self) -> int:
        """Hosts that a deploy starts beside the running ones; 0 where nobody says."""
        surge = self.pool.surge if self.pool is not None else None
        return amount_ceil(surge, self.hosts) if surge is not None else 0

    @property
    def further_hosts(self) -> int:
        """Hosts that autoscaling may add; 0 where nobody says."""
        most = self.pool.scales_to if self.pool is not None else None
        return max(0, (most or 0) - self.hosts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """All of the sum, and what it has to fit into."""

    database: str
    max_connections: int
    superuser_reserved: int
    reserved: int
    #: Connections past every pool that count.
    direct: int
    #: A count or a share of usable that is to stay free.
    reserve_asked: str
    services: tuple[ServiceCase, ...]
    bouncers: tuple[BouncerUse, ...]

    @property
    def usable(self) -> int:
        """Slots for ordinary roles on a quiet day."""
        return max(0, self.max_connections - self.superuser_reserved - self.reserved)

    @property
    def reserve(self) -> int:
        """Usable slots that are to stay free, rounded up."""
        return min(self.usable, amount_ceil(self.reserve_asked, self.usable))

    @property
    def target(self) -> int:
        """What the proposal keeps to."""
        return self.usable - self.reserve

    @property
    def pooled(self) -> tuple[ServiceCase, ...]:
        """Services that count by their own pools."""
        return tuple(case for case in self.services if case.counted_by == "pool")

    @property
    def fixed(self) -> int:
        """What no pool's size changes: direct, PgBouncers, services without a known pool."""
        untold = sum(case.counted for case in self.services if case.counted_by == "observed")
        return self.direct + untold + sum(pool.budget for pool in self.bouncers)

    @property
    def together(self) -> int:
        """All that may be opened."""
        return self.fixed + sum(case.counted for case in self.pooled)

    @property
    def declared(self) -> int:
        """The same, were each host configured as the inventory says."""
        return self.fixed + sum(
            case.counted if case.declared is None else case.declared.connections
            for case in self.pooled
        )


def case_of(fleet: Fleet, facts: PoolFacts, reserve: str | None = None) -> Case:
    """Return what the budget of a database is made of, as it is.

    Raises:
        UsageError: when the inventory has no such database.
    """
    database = fleet.database(facts.database)
    siblings = fleet.same_server(facts.database)
    uses = {use.service: use for use in facts.services}
    configured = _trusted(facts.configured)
    behind = frozenset(facts.behind_bouncer)
    return Case(
        database=facts.database,
        max_connections=facts.server.max_connections,
        superuser_reserved=facts.server.superuser_reserved,
        reserved=facts.server.reserved,
        direct=max(declared_direct(fleet, facts.database), sum(o.peak for o in facts.others)),
        reserve_asked=reserve if reserve is not None else database.budget.reserve,
        services=tuple(
            _service(
                name,
                service,
                [host.name for host in fleet.service_hosts(name)],
                configured.get(name, {}),
                uses.get(name),
                behind=name in behind,
            )
            for sibling in siblings
            for name, service in fleet.services_of(sibling).items()
        ),
        bouncers=facts.bouncers,
    )


def declared_direct(fleet: Fleet, database: str) -> int:
    """Return the connections past every pool that the inventory tells of a server."""
    names = fleet.same_server(database)
    return max(fleet.database(name).budget.direct for name in names)


def _service(
    name: str,
    service: Service,
    hosts: list[str],
    configured: Mapping[str, Mapping[str, int]],
    use: ServiceUse | None,
    *,
    behind: bool,
) -> ServiceCase:
    pool = service.pool
    declared = (
        Shape(hosts=len(hosts), processes=pool.processes, size=pool.size, overflow=pool.overflow)
        if pool is not None
        else None
    )
    shapes, unlike = _shapes(hosts, declared, configured)
    return ServiceCase(
        name=name,
        counted_by="bouncer" if behind else "pool" if shapes else "observed",
        hosts=len(hosts),
        shapes=shapes,
        declared=declared,
        service=service,
        use=use,
        unlike=unlike,
    )


def _shapes(
    hosts: list[str], declared: Shape | None, configured: Mapping[str, Mapping[str, int]]
) -> tuple[tuple[Shape, ...], dict[str, Shape]]:
    """Return the hosts by what runs there: configured where a host told, declared elsewhere.

    The most common comes first; then which hosts are unlike it. Nothing when a host neither told
    its size and its processes, nor has them declared: no guess.
    """
    if not configured:
        return ((declared,) if declared is not None else ()), {}
    base = (
        {name: getattr(declared, name) for name in VALUES}
        if declared is not None
        else {"overflow": 0}
    )
    found: dict[str, tuple[int, ...]] = {}
    for host in hosts:
        values = {**base, **configured.get(host, {})}
        if not values.keys() >= set(VALUES):
            return (), {}
        found[host] = tuple(values[name] for name in VALUES)
    shapes = {
        values: Shape(hosts=count, processes=values[0], size=values[1], overflow=values[2])
        for values, count in Counter(found.values()).most_common()
    }
    common = next(iter(shapes))
    unlike = {host: shapes[key] for host, key in found.items() if key != common}
    return tuple(shapes.values()), unlike


def _trusted(configured: Iterable[Configured]) -> dict[str, dict[str, dict[str, int]]]:
    """Return the numbers that stand where the inventory says that they live: service, host, name.

    What was merely found beside may belong to something else: it is told, and not counted.
    """
    values: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for one in configured:
        number = number_of(one)
        if one.declared and number is not None:
            values[one.service][one.host][one.name] = number
    return values


def number_of(one: Configured) -> int | None:
    """Return a configured size, overflow or number of processes; None for all else."""
    text = one.value.strip()
    if one.name not in VALUES or not (text.isascii() and text.isdigit() and len(text) <= 9):
        return None
    number = int(text)
    return number if number or one.name == "overflow" else None
