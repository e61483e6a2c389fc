"""The arguments of a rolling restart, what they inherit from the service, and what is frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from runbook.model.errors import UsageError
from runbook.model.fleet import Fleet, ResolvedHost, some_of
from runbook.model.inventory import Closed, GateTiming, Service
from runbook.model.step import Bound
from runbook.model.units import Amount, Duration, Floor, amount_ceil, amount_floor
from runbook.steps.draining import rotation_of
from runbook.steps.gates import gates_of
from runbook.steps.rolling_wanted import LedTo, Put, Wanted, wanted_of
from runbook.steps.service_manager import manager_of


def _listed(value: object) -> object:
    return [value] if isinstance(value, str | int) and not isinstance(value, bool) else value


def _none_when_empty(value: object) -> object:
    """A playbook's parameter that was not given is "" where its conditions ask for it."""
    return None if value == "" else value


RunId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}$")]

Amounts = Annotated[tuple[Amount, ...], BeforeValidator(_listed), Field(min_length=1)]


class GateOverride(Closed):
    """How often gates are asked in this run; what is left out is the service's own."""

    successes: Annotated[int, Field(ge=1, le=100)] | None = None
    interval: Duration | None = None
    deadline: Duration | None = None


class RollingArgs(Closed):
    """Restart a service host by host; what is left out is as the inventory says."""

    service: str = Field(description="the inventory's name of the service")
    hosts: str | None = Field(None, description="a selector: only these of the service's hosts")
    batches: Amounts | None = Field(
        None, description="sizes of the batches; the first is the canary, the last repeats"
    )
    min_available: Floor | None = Field(None, description="hosts that stay healthy at any time")
    max_failures: Annotated[int, Field(ge=0)] | None = Field(
        None, description="halt when more hosts than this have failed; the smaller bound wins"
    )
    settle: Duration | None = Field(None, description="how long a restarted unit is watched")
    gate: GateOverride = GateOverride()
    admit_deadline: Duration | None = Field(
        None, description="how long to wait for enough healthy hosts before a batch"
    )
    headroom: Annotated[int, Field(ge=0)] | None = Field(
        None, description="database slots that must be free after each host"
    )
    max_hosts: Annotated[int, Field(ge=1)] | None = Field(
        None, description="refuse to restart more hosts than this; the smaller bound wins"
    )
    put: Put | None = Field(
        None, description="new values of the pool, put on each host before its restart"
    )
    url: LedTo | None = Field(
        None, description="host and port that each host's connection string is led to"
    )
    restore: Annotated[RunId | None, BeforeValidator(_none_when_empty)] = Field(
        None, description="a run's id: each host's settings as they were before that run"
    )

    @model_validator(mode="after")
    def _one_wish(self) -> Self:
        if self.restore is not None and self.changes_settings:
            raise ValueError("restore puts back what was; put and url are left out with it")
        return self

    @property
    def led_to(self) -> LedTo | None:
        """Where the connection string is led to, where it is."""
        return self.url if self.url is not None and self.url.given else None

    @property
    def changes_settings(self) -> bool:
        """Whether it puts a new value anywhere."""
        return bool(self.put is not None and self.put.values) or self.led_to is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What holds for this run: the arguments, else the service's own. Times in seconds."""

    batches: tuple[str, ...]
    min_available: str
    max_failures: int
    settle: float
    gate: GateTiming
    admit_deadline: float
    headroom: int


def settings(args: RollingArgs, service: Service) -> Settings:
    """Lay the arguments over the service's own settings."""
    own = service.rolling
    override = args.gate.model_dump(exclude_none=True)
    return Settings(
        batches=args.batches or own.batches,
        min_available=args.min_available or own.min_available,
        max_failures=_smaller(args.max_failures, own.max_failures),
        settle=own.settle if args.settle is None else args.settle,
        gate=GateTiming.model_validate({**own.gate.model_dump(), **override}),
        admit_deadline=own.admit_deadline if args.admit_deadline is None else args.admit_deadline,
        headroom=own.headroom if args.headroom is None else args.headroom,
    )


def wanted(args: RollingArgs, service: Service, host: ResolvedHost, fleet: Fleet) -> Wanted | None:
    """Return what shall become of a host's settings; None leaves them as they are.

    Raises:
        UsageError: for a value that the inventory does not say where to put.
    """
    if not args.changes_settings and args.restore is None:
        return None
    values = args.put.values if args.put is not None else {}
    led_to = args.led_to.resolved(fleet) if args.led_to is not None else None
    return wanted_of(args.service, service, host, values, led_to, args.restore)


def shared_file(each: Sequence[RollingArgs], fleet: Fleet) -> str | None:
    """Say which two of several restarts write different values into one file of a host.

    All are shown before the first is changed: in one run, the second would find its file changed.

    Raises:
        UsageError: for a value that the inventory does not say where to put.
    """
    first: dict[tuple[str, str], tuple[str, set[Any]]] = {}
    for args in each:
        for host in fleet.service_hosts(args.service):
            found = wanted(args, fleet.service(args.service), host, fleet)
            for place in found.places if found is not None else ():
                values = {(item.label, item.setting.match, str(item.new)) for item in place.items}
                other, theirs = first.setdefault((host.name, place.path), (args.service, values))
                if theirs != values:
                    return f"{other} and {args.service} keep theirs in {place.path} on {host.name}"
    return None


def targets(args: RollingArgs, fleet: Fleet) -> tuple[str, ...]:
    """Return the hosts to restart, in the inventory's order.

    Raises:
        UsageError: for an unknown service, hosts that it does not run on, or too many hosts.
    """
    service = fleet.service(args.service)
    if args.hosts is None:
        chosen = fleet.select(service.hosts)
    else:
        chosen, all_hosts = fleet.select(args.hosts), fleet.whole(service.hosts)
        foreign = sorted(set(chosen) - set(all_hosts))
        if foreign:
            raise UsageError(
                f"{args.service} does not run on {some_of(foreign)}",
                hint=f"it runs on {some_of(all_hosts)}; narrow the selector {args.hosts!r}",
            )
    _check_count(args, service, chosen)
    return chosen


def bound(args: RollingArgs, fleet: Fleet) -> Bound | None:
    """Return what the step takes of the service's `max_hosts`."""
    most = fleet.service(args.service).max_hosts
    if most is None:
        return None
    return Bound(
        of=f"hosts of {args.service}",
        takes=len(targets(args, fleet)),
        most=most,
        hint="narrow the steps with hosts, or raise max_hosts in the inventory",
    )


def freeze(args: RollingArgs, fleet: Fleet) -> Mapping[str, Any]:
    """Return sizes of the batches, the floor and the threshold, as integers.

    Every gate's URL and every command is filled in once, so that a mistake in one host's values
    is told before anything is touched.

    Raises:
        UsageError: see `targets`; and for a URL or a command that cannot be filled in.
    """
    service, names = fleet.service(args.service), targets(args, fleet)
    for name in names:
        gates_of(args.service, service, fleet.host(name), fleet)
        manager_of(args.service, service, fleet.host(name), fleet)
        rotation_of(service, fleet.host(name), fleet)
        wanted(args, service, fleet.host(name), fleet)
    chosen = settings(args, service)
    return {
        "batches": batch_sizes(chosen.batches, len(names)),
        # Of the whole service: who restarts one host of it leaves the others up.
        "min_available": amount_ceil(chosen.min_available, len(fleet.whole(service.hosts))),
        "max_failures": chosen.max_failures,
    }


def batch_sizes(amounts: tuple[str, ...], total: int) -> tuple[int, ...]:
    """Return the size of each batch until `total` hosts are covered; the last amount repeats."""
    sizes: list[int] = []
    left = total
    while left > 0:
        amount = amounts[min(len(sizes), len(amounts) - 1)]
        sizes.append(min(left, amount_floor(amount, total)))
        left -= sizes[-1]
    return tuple(sizes)


def _check_count(args: RollingArgs, service: Service, chosen: tuple[str, ...]) -> None:
    bounds = [bound for bound in (args.max_hosts, service.max_hosts) if bound is not None]
    if bounds and len(chosen) > min(bounds):
        raise UsageError(
            f"{len(chosen)} hosts are selected, and no run may restart more than {min(bounds)}",
            hint="narrow it with hosts, or raise max_hosts in the inventory and the playbook",
        )


def _smaller(given: int | None, own: int) -> int:
    return own if given is None else min(given, own)
