"""`service`: start, stop, reload or restart one service, with proof that it came about.

What is so already is left alone: a service that runs is not started. A restart goes the way of a
rolling restart's host, without its drain and its gates: for many hosts there is `rolling`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from runbook.model.effects import Drive, Observe, ReadCommand, Together, ask
from runbook.model.errors import DoorError, Unreachable, UsageError
from runbook.model.fleet import Fleet
from runbook.model.inventory import Closed, Service, UnitName
from runbook.model.plan import Crashed, Result
from runbook.model.step import StepContext, StepType
from runbook.model.sudo import LIST_ARGV
from runbook.model.systemd import Unfit
from runbook.model.units import Duration
from runbook.steps.rolling_args import RollingArgs, settings
from runbook.steps.rolling_host import travel
from runbook.steps.rolling_journey import Journey
from runbook.steps.rolling_subject import Subject
from runbook.steps.service_action import already, carry_out, nothing_done
from runbook.steps.service_manager import manager_of
from runbook.steps.sudo_proof import sudo_unfit

_LOOK_TIMEOUT_S = 15.0
#: A unit without limits may take 10m to stop and as long to start; then it is watched.
_DEFAULT_TIMEOUT_S = 3600.0


class ServiceArgs(Closed):
    """One service of the inventory, or one unit, on some hosts."""

    action: Literal["restart", "start", "stop", "reload"]
    service: str | None = Field(None, description="the inventory's name of the service")
    unit: UnitName | None = Field(None, description="a systemd unit, in place of a service")
    hosts: str | None = Field(
        None, description="a selector; all of the service's hosts, if left out"
    )
    at_once: Annotated[int, Field(ge=1)] = Field(
        1, description="so many hosts may be restarted or stopped side by side; see also `rolling`"
    )
    settle: Duration | None = Field(
        None, description="how long what was started is watched; the service's own, if left out"
    )

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if (self.service is None) == (self.unit is None):
            raise ValueError("name exactly one of service and unit")
        if self.unit is not None and self.hosts is None:
            raise ValueError("a unit needs hosts: no service says where it runs")
        return self


def targets(args: ServiceArgs, fleet: Fleet) -> tuple[str, ...]:
    """Return the hosts, in the inventory's order.

    Raises:
        UsageError: for a service, hosts or a command that do not fit the inventory, and for more
            hosts than may be without the service at once.
    """
    names = _hosts(args, fleet)
    for name in names:
        manager_of(_name(args), _service(args, fleet), fleet.host(name), fleet)
    if args.action in {"restart", "stop"} and len(names) > args.at_once:
        raise UsageError(
            f"{args.action} of {_name(args)} on {len(names)} hosts at once, and {args.at_once} may"
            " be",
            hint="the verb `rolling` restarts one batch after the other, with gates between;"
            f" `at_once: {len(names)}` does all of them side by side",
        )
    return names


def _hosts(args: ServiceArgs, fleet: Fleet) -> tuple[str, ...]:
    if args.service is None:
        return fleet.select(str(args.hosts))
    runs_on = fleet.service(args.service).hosts
    if args.hosts is None:
        return fleet.select(runs_on)
    chosen, known = fleet.select(args.hosts), fleet.whole(runs_on)
    foreign = [name for name in chosen if name not in known]
    if foreign:
        raise UsageError(
            f"{args.service} does not run on {', '.join(foreign)}",
            hint=f"narrow the selector {args.hosts!r}",
        )
    return chosen


def _name(args: ServiceArgs) -> str:
    return str(args.service or args.unit)


def _service(args: ServiceArgs, fleet: Fleet) -> Service:
    """Return it without gates, database and drain: those are for `rolling`."""
    if args.service is None:
        return Service(hosts=str(args.hosts), unit=args.unit)
    bare = {"gates": (), "database": None, "drain": None}
    return fleet.service(args.service).model_copy(update=bare)


def _subject(args: ServiceArgs, ctx: StepContext) -> Subject:
    service, host = _service(args, ctx.fleet), ctx.fleet.host(ctx.target)
    return Subject(
        name=_name(args),
        service=service,
        host=host,
        fleet=ctx.fleet,
        manager=manager_of(_name(args), service, host, ctx.fleet),
        settings=settings(RollingArgs(service=_name(args), settle=args.settle), service),
        rotation=None,
    )


# ---- prepare -------------------------------------------------------------------------------


def prepare(args: ServiceArgs, ctx: StepContext) -> Drive[Result]:
    """Look at the service, and prove that the command would be allowed."""
    subject = _subject(args, ctx)
    manager = subject.manager
    looks: tuple[Observe[Any], ...] = (manager.look(),)
    if subject.host.sudo:
        listing = ReadCommand(host=subject.host.name, argv=LIST_ARGV, timeout_s=_LOOK_TIMEOUT_S)
        looks = (*looks, listing)
    seen, *listings = yield from ask(Together(effects=looks))
    if isinstance(seen, DoorError):
        status: Literal["unreachable", "refused"] = (
            "unreachable" if isinstance(seen, Unreachable) else "refused"
        )
        return Result(status=status, summary=seen.message, hint=seen.hint or "")
    if already(manager, args.action, seen):
        return Result(
            status="ok", summary=nothing_done(manager, args.action, seen), data={"already": True}
        )
    unfit = manager.unfit_for(args.action, seen)
    argv = manager.argv_of(args.action)
    if unfit is None and listings and argv is not None:
        unfit = sudo_unfit(subject.host, listings[0], (argv,))
    if unfit is not None:
        return _refused(subject, seen, unfit)
    return _would(args, ctx, subject, seen)


def _refused(subject: Subject, seen: Any, unfit: Unfit) -> Result:
    looks = subject.manager.by_hand(seen)[:1]
    return Result(status="refused", summary=unfit.problem, hint=unfit.hint, by_hand=looks)


def _would(args: ServiceArgs, ctx: StepContext, subject: Subject, seen: Any) -> Result:
    change = subject.manager.take(args.action, 0)
    warnings = []
    declared = ctx.fleet.service(args.service) if args.service is not None else None
    if declared is not None and declared.drain is not None and args.action in {"restart", "stop"}:
        warnings.append(f"{args.service} declares a drain, and `service` does not drain it")
    return Result(
        status="ok",
        summary="; ".join([change.sentence(), *warnings]),
        data={
            "already": False,
            "timeouts": {"restart_s": subject.manager.restart_timeout(seen)},
            "warnings": warnings,
        },
        touches=tuple(sorted(change.footprint())),
        not_exercised=(f"the {args.action} itself", "the look at what came of it"),
    )


# ---- act -----------------------------------------------------------------------------------


def act(args: ServiceArgs, ctx: StepContext) -> Drive[Result]:
    """Do it on one host, once, and see it done."""
    subject, prepared = _subject(args, ctx), ctx.given["prepared"]
    crashed = Crashed(**ctx.given["crashed"]) if ctx.given.get("crashed") else None
    if prepared.get("already"):
        return (yield from _still_so(args, subject))
    journey = Journey(
        subject=subject,
        timeout_s=float(prepared["timeouts"]["restart_s"]),
        sessions=None,
        crashed=crashed,
    )
    if args.action == "restart":
        return (yield from travel(journey))
    return (yield from carry_out(journey, args.action))


def _still_so(args: ServiceArgs, subject: Subject) -> Drive[Result]:
    """Nothing was shown, so nothing may be done; only say what is so."""
    manager = subject.manager
    seen = yield from ask(manager.look())
    if already(manager, args.action, seen):
        return Result(status="ok", summary=nothing_done(manager, args.action, seen))
    return Result(
        status="failed",
        summary=f"nothing was done: it was {_DONE[args.action]} when this was shown, and is not"
        " any more",
        hint="run it again",
        by_hand=manager.by_hand(seen)[:1],
    )


_DONE = {"start": "running", "stop": "stopped"}


SERVICE = StepType(
    verb="service",
    summary="restart, start, stop or reload a service on a host, and see it done",
    args=ServiceArgs,
    phases={"prepare": prepare, "act": act},
    changes=lambda _args: True,
    targets=targets,
    after_crash="probe",
    lock=lambda args: f"service {args.service or args.unit}",
    default_timeout_s=_DEFAULT_TIMEOUT_S,
    undo="start undoes a stop, stop undoes a start; a restart or a reload has no inverse",
    target_kind="host",
)
