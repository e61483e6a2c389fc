"""`role_guards`: propose what guards a database against the next leak; it only looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import Field

from runbook.model.application_name import as_server_keeps
from runbook.model.effects import Drive
from runbook.model.errors import UsageError
from runbook.model.fleet import Fleet
from runbook.model.inventory import Closed, Name, Service
from runbook.model.plan import Result
from runbook.model.pool_facts import Configured
from runbook.model.role_guards import (
    IDLE_IN_TRANSACTION_S,
    Guard,
    GuardedRole,
    GuardedService,
    GuardWishes,
    propose,
)
from runbook.model.role_settings import CONNECTION_LIMIT, PARAMETERS, RoleSetting
from runbook.model.step import StepContext, StepType
from runbook.model.units import Duration
from runbook.steps.pool_check import PoolSize, budgets_of
from runbook.steps.pool_settings import configured
from runbook.steps.role_look import RoleSeen, RolesSeen, look


class RoleGuardsArgs(Closed):
    """What `role_guards` is given."""

    database: Name = Field(description="the inventory's name of the database")
    service: Name | None = Field(None, description="only the role of this service")
    idle_in_transaction: Duration = Field(
        IDLE_IN_TRANSACTION_S, description="silent in a transaction for this long is no work"
    )
    transaction_timeout: Duration | None = Field(
        None, description="proposed only when given: it ends work that is under way"
    )


def act(args: RoleGuardsArgs, ctx: StepContext) -> Drive[Result]:
    """Look at the roles of the services, and weigh each guard; `data` has them with reasons."""
    services = _services(args, ctx.fleet)
    declared = [service.role for service in services.values() if service.role]
    seen = yield from look(args.database, tuple(dict.fromkeys(declared)), ctx.fleet)
    owners, unowned = _owners(services, seen, ctx.fleet)
    observed = tuple(role for role in owners if role not in seen.roles)
    if observed:
        every = tuple(dict.fromkeys((*declared, *observed)))
        seen = yield from look(args.database, every, ctx.fleet)
    # Of a role that is shared, every service counts.
    read = yield from configured(tuple(_of_server(args.database, ctx.fleet)), ctx.fleet)
    wishes = GuardWishes(
        idle_in_transaction_s=args.idle_in_transaction, transaction_s=args.transaction_timeout
    )
    guards: list[Guard] = []
    for role, names in owners.items():
        unfit = _unfit(args.database, seen.roles[role], ctx.fleet)
        if unfit:
            unowned += tuple(f"{name}: {unfit}" for name in names)
        else:
            guards += propose(_role(args, role, names, seen, ctx.fleet, read.configured), wishes)
    return _result(args, guards, unowned, {role: seen.roles[role].sessions for role in owners})


def _services(args: RoleGuardsArgs, fleet: Fleet) -> dict[str, Service]:
    services = _of_server(args.database, fleet)
    if args.service is None:
        return services
    service = fleet.service(args.service)
    if args.service not in services:
        raise UsageError(
            f"service {args.service!r} uses database {service.database!r}, not {args.database!r}"
        )
    return {args.service: service}


def _of_server(database: str, fleet: Fleet) -> dict[str, Service]:
    """The services of all the inventory's databases on that server: roles are the server's."""
    names = fleet.same_server(database)
    return {name: service for each in names for name, service in fleet.services_of(each).items()}


def _owners(
    services: Mapping[str, Service], seen: RolesSeen, fleet: Fleet
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Return role -> services that log in as it, and what is known of no role, in sentences."""
    owners: dict[str, list[str]] = {}
    unowned: list[str] = []
    for name, service in services.items():
        roles = [service.role] if service.role else _observed(name, service, seen, fleet)
        if not roles:
            unowned.append(
                f"{name}: services.{name}.role is not declared, and no session of it is seen now"
            )
        for role in roles:
            owners.setdefault(role, []).append(name)
    return owners, tuple(unowned)


def _observed(name: str, service: Service, seen: RolesSeen, fleet: Fleet) -> list[str]:
    applications = _applications(name, service, seen, fleet)
    return sorted({role for role, application, _ in seen.sessions if application in applications})


def _applications(name: str, service: Service, seen: RolesSeen, fleet: Fleet) -> set[str]:
    """The application names by which the service's sessions are told apart."""
    if service.application_name is None:
        return set()
    expanded = (fleet.expand(service.application_name, h) for h in fleet.service_hosts(name))
    return {as_server_keeps(application, seen.version_num) for application in expanded}


def _unfit(database: str, role: RoleSeen, fleet: Fleet) -> str:
    """Why a role is guarded by nothing; "" when it can be."""
    if not role.exists:
        return f"{database} has no role {role.name!r}: correct services.NAME.role"
    if role.superuser:
        return f"{role.name} is a superuser, whom no limit holds: give the service an ordinary role"
    if role.replication:
        return f"{role.name} has REPLICATION: give the service a role of its own"
    declared = fleet.database(database)
    if role.name in {d.user for d in (declared.connect, declared.admin, declared.rescue) if d}:
        return f"{role.name} is a role that runbook itself comes in by: give the service its own"
    return ""


def _role(  # noqa: PLR0917 - all that is known of it
    args: RoleGuardsArgs,
    role: str,
    names: list[str],
    seen: RolesSeen,
    fleet: Fleet,
    there: Sequence[Configured],
) -> GuardedRole:
    # A role that other services share is limited for all of them.
    sharing = [
        name
        for name, service in _of_server(args.database, fleet).items()
        if name in names or service.role == role
    ]
    known = set().union(
        *(_applications(name, fleet.service(name), seen, fleet) for name in sharing)
    )
    others = sum(
        n for of, application, n in seen.sessions if of == role and application not in known
    )
    named = all(fleet.service(name).application_name for name in sharing)
    return GuardedRole(
        name=role,
        major=seen.major,
        services=tuple(_service(name, args.database, fleet, there) for name in sharing),
        sessions=seen.roles[role].sessions,
        others=others if named else 0,
        usable=seen.usable,
        current={name: seen.effective(role, name) for name in (*PARAMETERS, CONNECTION_LIMIT)},
    )


def _service(name: str, database: str, fleet: Fleet, there: Sequence[Configured]) -> GuardedService:
    bouncers = fleet.inventory.pgbouncers.items()
    pool = fleet.service(name).pool
    budgets = budgets_of(PoolSize(service=name), fleet, there) if pool is not None else {}
    return GuardedService(
        name=name,
        hosts=len(fleet.service_hosts(name)),
        pool=pool,
        beyond=tuple(
            f"{host} {may}" for host, may in budgets.items() if pool and may > pool.budget
        ),
        poolers=tuple(b for b, of in bouncers if of.database in fleet.same_server(database)),
    )


def _result(
    args: RoleGuardsArgs,
    guards: list[Guard],
    unowned: tuple[str, ...],
    sessions: Mapping[str, int],
) -> Result:
    proposed = [guard for guard in guards if guard.value is not None]
    lines = [RoleSetting(role=g.role, name=g.name, value=g.value).line for g in proposed]
    data: dict[str, Any] = {
        "database": args.database,
        "guards": [asdict(guard) for guard in guards],
        "unguarded": list(unowned),
        "sessions": dict(sessions),
        "settings": lines,
    }
    roles = ", ".join(dict.fromkeys(guard.role for guard in proposed))
    summary = f"{len(lines)} settings proposed for {roles}" if lines else "nothing to propose"
    return Result(status="ok", summary=summary, data=data)


def _targets(args: RoleGuardsArgs, fleet: Fleet) -> tuple[str, ...]:
    fleet.database(args.database)
    _services(args, fleet)
    return (args.database,)


ROLE_GUARDS = StepType(
    verb="role_guards",
    summary="Propose timeouts, keepalives and connection limits of a database's roles; it looks.",
    args=RoleGuardsArgs,
    phases={"act": act},
    changes=lambda _args: False,
    targets=_targets,
    after_crash="repeat",
    default_timeout_s=60.0,
    target_kind="database",
)
