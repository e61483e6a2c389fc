"""Proposes what guards a database against the next leak: timeouts and limits of services' roles.

Each number has its reason, each proposal what it does to those that are innocent. What is not
proposed is told with its reason as well: what was weighed must not look like what was forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runbook.model.inventory import Pool
from runbook.model.role_settings import (
    CONNECTION_LIMIT,
    LIMIT_EFFECT,
    NO_LIMIT,
    PARAMETERS,
    measure,
    written,
)
from runbook.model.units import amount_ceil, format_duration

#: Seconds that a session may be silent in a transaction: what runbook itself takes for a leak from
#: on. A web request is over in seconds, and what waits for a lock is not idle.
IDLE_IN_TRANSACTION_S = 300.0
#: Seconds that a session is left beyond the age at which its own pool would have closed it: a pool
#: that finds its connection gone has an error, one that closes it itself has none.
BEYOND_THE_POOL_S = 120.0
#: A dead host's sessions end after 60 s + 6 x 10 s = 2 minutes; Linux asks after 7200 s for the
#: first time. Short enough for an incident, long enough for a switch that is restarted.
KEEPALIVES: Mapping[str, str] = {
    "tcp_keepalives_idle": "1min",
    "tcp_keepalives_interval": "10s",
    "tcp_keepalives_count": "6",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardedService:
    """A service that logs in as the role."""

    name: str
    hosts: int
    pool: Pool | None
    #: PgBouncers through which it may come: the database's own in the inventory.
    poolers: tuple[str, ...] = ()
    #: Hosts that are set to hold more than is declared: `web-2 16`.
    beyond: tuple[str, ...] = ()

    @property
    def most_hosts(self) -> int:
        """Hosts that may hold connections at once: a deploy starts new ones beside the old."""
        if self.pool is None:
            return self.hosts
        # Undeclared, a deploy is taken to have one host's sessions twice for a moment.
        surge = 1 if self.pool.surge is None else amount_ceil(self.pool.surge, self.hosts)
        return max(self.hosts, self.pool.scales_to or 0) + surge


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardedRole:
    """A role, whose it is, and what it has now."""

    name: str
    major: int
    services: tuple[GuardedService, ...]
    #: Sessions of the role now; and those of them that belong to none of its services.
    sessions: int
    others: int
    #: Slots of the server for ordinary roles.
    usable: int
    #: Parameter -> what a new session gets; None where that could not be seen.
    current: Mapping[str, str | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardWishes:
    """What was asked for."""

    idle_in_transaction_s: float = IDLE_IN_TRANSACTION_S
    #: None proposes none: it ends work that is under way.
    transaction_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Guard:
    """One setting that is proposed, or left as it is (`value` None), and why."""

    role: str
    name: str
    current: str | None
    value: str | None
    why: str
    #: What it does to sessions, in one sentence.
    effect: str = ""


def propose(role: GuardedRole, wishes: GuardWishes) -> tuple[Guard, ...]:
    """Return a guard for each parameter, proposed or not."""
    return (
        _idle_in_transaction(role, wishes),
        _idle_session(role),
        *_transaction(role, wishes),
        *_keepalives(role),
        _limit(role),
    )


# ---- timeouts ------------------------------------------------------------------------------


def _idle_in_transaction(role: GuardedRole, wishes: GuardWishes) -> Guard:
    name = "idle_in_transaction_session_timeout"
    seconds = wishes.idle_in_transaction_s
    why = (
        f"silent in a transaction for {format_duration(seconds)}: no request takes that long, and"
        " its locks and its slot are nobody's"
    )
    return _shortened(role, name, seconds, why)


def _idle_session(role: GuardedRole) -> Guard:
    name = "idle_session_timeout"
    if role.major < PARAMETERS[name].since:
        return _left(role, name, f"PostgreSQL {PARAMETERS[name].since} and later have it")
    poolers = sorted({pooler for service in role.services for pooler in service.poolers})
    if poolers:
        return _left(
            role,
            name,
            f"{', '.join(poolers)} may hold its connections: behind a pooler it stays 0, because"
            " the pooler's idle connections serve many and would be ended under it",
        )
    longest = [_own_age(service) for service in role.services]
    unknown = [s.name for s, age in zip(role.services, longest, strict=True) if age is None]
    if unknown or not longest:
        return _left(
            role,
            name,
            f"services.{unknown[0] if unknown else 'NAME'}.pool declares neither idle_timeout nor"
            " max_lifetime: below what the pool itself keeps idle, its next request would find a"
            " dead connection (57P05)",
        )
    most = max(age for age in longest if age is not None)
    seconds = -(-(most + BEYOND_THE_POOL_S) // 60) * 60
    why = (
        f"the pool itself lets go of an idle connection by {format_duration(most)}: what is idle"
        f" {format_duration(BEYOND_THE_POOL_S)} longer is in no pool"
    )
    return _shortened(role, name, float(seconds), why)


def _own_age(service: GuardedService) -> float | None:
    """Seconds that a connection may be idle in the service's pool at most; None: not declared."""
    if service.pool is None:
        return None
    # A pool of a fixed size ignores its idle timeout, so that the longer one counts.
    ages = [age for age in (service.pool.idle_timeout, service.pool.max_lifetime) if age]
    return max(ages) if ages else None


def _transaction(role: GuardedRole, wishes: GuardWishes) -> Iterator[Guard]:
    name = "transaction_timeout"
    if wishes.transaction_s is None:
        return
    if role.major < PARAMETERS[name].since:
        yield _left(role, name, f"PostgreSQL {PARAMETERS[name].since} and later have it")
        return
    yield _shortened(role, name, wishes.transaction_s, "asked for")


def _shortened(role: GuardedRole, name: str, seconds: float, why: str) -> Guard:
    """Propose a timeout where there is none, or a longer one."""
    current = role.current.get(name)
    has, value = measure(name, current), round(seconds * 1000)
    if not value:
        return _left(role, name, "0 was asked for, which is no guard")
    if has and has <= value:
        return _left(role, name, f"it is {current} already")
    return _proposed(role, name, written(value), why)


def _keepalives(role: GuardedRole) -> Iterator[Guard]:
    """The three belong together: each alone says little."""
    has = {name: measure(name, role.current.get(name)) for name in KEEPALIVES}
    if all(has.values()):
        said = ", ".join(f"{name.rpartition('_')[2]} {role.current[name]}" for name in KEEPALIVES)
        yield _left(role, "tcp_keepalives_idle", f"they are set already ({said})")
        return
    why = "the sessions of a host that died end after 2 minutes; Linux alone takes over 2 hours"
    for name, value in KEEPALIVES.items():
        yield _proposed(role, name, value, why)


# ---- the limit -----------------------------------------------------------------------------


def _limit(role: GuardedRole) -> Guard:
    why = _no_budget(role)
    if why:
        return _left(role, CONNECTION_LIMIT, why)
    limit, sum_ = _budget(role)
    if limit > role.usable:
        why = (
            f"the budget is {sum_}, and the server has {role.usable} usable slots: such a limit"
            " would never be met. `runbook pool plan` proposes sizes that fit"
        )
        return _left(role, CONNECTION_LIMIT, why)
    if role.sessions > limit:
        why = (
            f"it has {role.sessions} sessions now, and its budget is {sum_}: under that limit none"
            " of its clients could connect. `runbook diagnose` says whose they are"
        )
        return _left(role, CONNECTION_LIMIT, why)
    if role.current.get(CONNECTION_LIMIT) == str(limit):
        return _left(role, CONNECTION_LIMIT, f"it is {limit} already")
    return _proposed(role, CONNECTION_LIMIT, str(limit), f"its budget: {sum_}")


def _no_budget(role: GuardedRole) -> str:
    """Say why what is declared is no measure of what the role's services may hold, or ""."""
    poolers = sorted({pooler for service in role.services for pooler in service.poolers})
    if poolers:
        return (
            f"{', '.join(poolers)} may open its connections: what the pooler may open is the"
            " limit, so set it there"
        )
    for service in role.services:
        if service.pool is None:
            return f"services.{service.name}.pool is not declared: there is no budget to hold it to"
        if service.beyond:
            return (
                f"hosts of {service.name} are set to more than the {service.pool.budget} that the"
                f" inventory declares for each ({', '.join(service.beyond[:4])}): rightful sessions"
                " would be refused. Bring one to the other first: `runbook pool plan` shows both"
            )
    return ""


def _budget(role: GuardedRole) -> tuple[int, str]:
    """Return the limit, and the sum as an engineer would write it."""
    terms = []
    total = role.others
    for service in role.services:
        if service.pool is None:
            continue
        hosts, pool = service.most_hosts, service.pool
        total += hosts * pool.budget
        size = f"({pool.size} + {pool.overflow})" if pool.overflow else str(pool.size)
        beyond = hosts - service.hosts
        more = f" ({beyond} for a deploy)" if beyond else ""
        terms.append(f"{service.name} {hosts} hosts{more} x {pool.processes} processes x {size}")
    if role.others:
        terms.append(f"{role.others} of others that use the role now")
    return total, f"{' + '.join(terms)} = {total}"


# ---- small words ---------------------------------------------------------------------------


def _proposed(role: GuardedRole, name: str, value: str, why: str) -> Guard:
    effect = LIMIT_EFFECT if name == CONNECTION_LIMIT else PARAMETERS[name].effect
    current = role.current.get(name)
    return Guard(role=role.name, name=name, current=current, value=value, why=why, effect=effect)


def _left(role: GuardedRole, name: str, why: str) -> Guard:
    return Guard(role=role.name, name=name, current=role.current.get(name), value=None, why=why)


def shown(name: str, value: str | None) -> str:
    """Return a value for people: 0 and -1 are words."""
    if value is None:
        return "not told"
    if name == CONNECTION_LIMIT:
        return "no limit" if value == NO_LIMIT else value
    if not measure(name, value):
        return "the system's (Linux: 2 h)" if name == "tcp_keepalives_idle" else "0"
    return value
