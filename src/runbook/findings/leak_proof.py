"""Which sessions have leaked, by which rule, and which of them may be terminated.

Sockets, arithmetic and lifetimes prove; looks do not. A pooled session that waits for work and a
leaked one have the same state, the same wait and often the same last statement (measured with
SQLAlchemy, Django, node-postgres, psycopg_pool and asyncpg), so a long idle time alone makes a
suspect, and nothing more.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runbook.findings.connection_limits import LimitUse, limits_in_use
from runbook.findings.lock_tree import QUESTION as LOCK_WAITS
from runbook.findings.over_pool import over_pool
from runbook.findings.protection import QUESTION as ADVISORY_LOCKS
from runbook.findings.protection import lasting, protected, untouchable
from runbook.findings.seats import same_server
from runbook.model.leaks import (
    LeakedSession,
    LeakPolicy,
    Rule,
    ShortLimit,
    Spared,
    TerminationPlan,
    missing,
)
from runbook.model.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runbook.findings.holders import Holder
    from runbook.findings.orphans import Orphan
    from runbook.findings.over_pool import Lot
    from runbook.findings.view import View
    from runbook.model.inventory import Protect
    from runbook.model.sessions import Session

#: Seconds that a session over its pool must have been idle: between two statements of one request
#: a session in use looks idle too, for milliseconds, rarely for a second.
IDLE_AT_LEAST_S = 2.0
#: Seconds of grace on a pool's maximum lifetime: pools retire in rounds of 30 s (HikariCP) or when
#: a connection comes back, not on the second.
LIFETIME_GRACE_S = 120.0
#: Sessions that every group keeps, whatever is proved against it: the larger of 2 and a quarter of
#: its budget, so that an error of ours degrades a service and does not take it down. Sessions
#: without a client serve nobody: they are no part of the floor, and none is kept for it.
FLOOR = 2
FLOOR_PERCENT = 25

#: What a list that was made from the operating system's view owes to whoever is asked to agree.
BLIND = (
    "seen by the operating system alone: advisory locks, LISTEN, application names and what a"
    " transaction has written cannot be seen; so only idle sessions of declared pools are listed,"
    " and no more of them than the headroom needs"
)

#: What drivers send when a connection comes back to its pool: such a session is not checked out,
#: so among equals it is taken last. "" is a pool's connection that was never used.
RETURNED = ("rollback", "discard all", "select pg_advisory_unlock_all()")


def prove(view: View, policy: LeakPolicy) -> TerminationPlan:
    """Return what may be terminated under a policy, oldest first, and what is left alone."""
    case = _Case(view=view, policy=policy)
    if policy.which == "blockers":
        found = case.blockers()
    else:
        found = [leaked for holder in view.holders for leaked in case.leaked(holder)]
    short = _short_limits(view, policy, found)
    helping = {s.pid for use in short for s in use.sessions}
    found.sort(key=lambda leaked: (leaked.session.pid not in helping, *_order(leaked)))
    wanted = _wanted(view, policy, short)
    kept = found[: case.bound(wanted)]
    for leaked in found[len(kept) :]:
        case.spare(f"beyond the bound of {len(kept)} sessions a run", leaked.session)
    proved = {leaked.session.pid for leaked in found} | case.looked_at
    return TerminationPlan(
        sessions=tuple(kept),
        spared=tuple(Spared(reason=r, pids=tuple(pids)) for r, pids in case.spared.items()),
        suspects=tuple(_suspects(view, policy, proved)),
        used=view.slots.used,
        usable=view.slots.usable,
        wanted=wanted,
        short=tuple(ShortLimit(kind=use.kind, name=use.name) for use in short),
        blind=BLIND if case.blind else "",
    )


@dataclass(kw_only=True)
class _Case:
    """The evidence at hand, and who has been spared so far."""

    view: View
    policy: LeakPolicy
    spared: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    looked_at: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        rows = self.view.snapshot.extra.get(ADVISORY_LOCKS.name)
        self.advisory = frozenset(row["pid"] for row in rows or ())
        self.advisory_known = rows is not None
        self.blind = self.view.snapshot.rung == "os"
        self.privileged = _privileged(self.view) if self.blind else frozenset()
        database = self.view.database
        bound = database.max_terminated if database else None
        self.most = min(self.policy.max_sessions, bound or self.policy.max_sessions)

    def bound(self, wanted: int) -> int:
        """Return how many may go: seen from the operating system, no more than are needed."""
        return min(self.most, wanted) if self.blind else self.most

    def spare(self, reason: str, session: Session) -> None:
        self.looked_at.add(session.pid)
        self.spared[reason].append(session.pid)

    def leaked(self, holder: Holder) -> list[LeakedSession]:
        """Return the sessions of one holder that are proved leaked and may go, its floor kept."""
        found: dict[int, LeakedSession] = {}
        for rule in self._rules(holder):
            for leaked in rule(holder):
                found.setdefault(leaked.session.pid, leaked)
        return self._above_floor(holder, list(found.values()))

    def _rules(self, holder: Holder) -> tuple[Callable[[Holder], Iterator[LeakedSession]], ...]:
        if not self.blind:
            return self._orphaned, self._over_pool, self._outlived, self._idle_in_transaction
        # From the operating system, what sits idle in a transaction may have written, and an
        # unknown session may be anything.
        known = holder.budget is not None and not holder.doubt
        return (self._orphaned, self._over_pool) if known else ()

    def _orphaned(self, holder: Holder) -> Iterator[LeakedSession]:
        for session in holder.sessions:
            orphan = self.view.orphans.get(session.pid)
            if orphan is None or (self.blind and not session.idle):
                continue
            if reason := self._privilege(session) or untouchable(session, self.view.protect):
                self.spare(reason, session)
                continue
            proof = (
                f"its client is gone: {orphan.host} has no {_end(orphan)}, in two looks"
                f"{_rollback(session)}"
            )
            yield self._leak(session, "orphan", proof, holder)

    def _over_pool(self, holder: Holder) -> Iterator[LeakedSession]:
        # What a protected session is may be no part of the pool (a listener, a migration): it is
        # not counted against it. That errs on the side of the pool.
        aside = {s.pid for s in holder.sessions if self._lasting(s) is not None}
        over = over_pool(self.view, holder, aside)
        if over is None:
            return
        found = [pair for lot in over.lots for pair in self._settled(holder, lot)]
        found.sort(key=lambda pair: _likeliest(pair[0]))
        for session, proof in found[: max(0, over.excess)]:
            yield self._leak(session, "over_pool", proof, holder)

    def _settled(self, holder: Holder, lot: Lot) -> Iterator[tuple[Session, str]]:
        """Yield as many sessions of a lot as it has too many: idle for a while, and free to go."""
        settled = [s for s in lot.sessions if s.idle and (s.state_age_s or 0) >= IDLE_AT_LEAST_S]
        free = [
            s for s in sorted(settled, key=_likeliest) if not self._spared(s, quietly=lot.over < 1)
        ]
        for session in free[lot.skipped : max(lot.skipped, lot.over)]:
            if session.pid in lot.maybe_pooled:
                self.spare(f"may be the pool of {holder.label} itself: opened first", session)
            else:
                yield session, lot.proof
        self._too_fresh(holder, lot, lot.over - len(free))

    def _too_fresh(self, holder: Holder, lot: Lot, missing: int) -> None:
        """Say of the rest of an excess that it was used a moment ago: the next look may tell."""
        known = [s for s in lot.sessions if s.idle and s.state_age_s is not None]
        fresh = [s for s in known if (s.state_age_s or 0.0) < IDLE_AT_LEAST_S]
        unknown = [s for s in fresh if s.pid not in self.looked_at]
        for session in unknown[: max(0, missing)]:
            self.spare(
                f"over the pool of {holder.owner(0).label}, but used less than"
                f" {IDLE_AT_LEAST_S:g}s ago: look again",
                session,
            )

    def _outlived(self, holder: Holder) -> Iterator[LeakedSession]:
        lifetime = holder.max_lifetime_s
        # Most pools look at a connection's age only when it is taken or given back: there an idle
        # one grows old in peace (measured: SQLAlchemy, Django, psycopg_pool).
        if lifetime is None or not holder.retires_idle or holder.doubt:
            return
        for session in holder.sessions:
            old = (session.age_s or 0.0) > lifetime + LIFETIME_GRACE_S
            if session.idle and old and not self._spared(session):
                proof = (
                    f"idle, and connected for {_age(session.age_s)}: its pool retires connections"
                    f" after {_age(lifetime)}"
                )
                yield self._leak(session, "outlived", proof, holder)

    def _idle_in_transaction(self, holder: Holder) -> Iterator[LeakedSession]:
        limit = self.policy.idle_in_transaction_s
        for session in holder.sessions:
            long = (session.state_age_s or 0.0) > limit
            if not session.idle_in_transaction or not long or self._spared(session):
                continue
            if reason := self._may_be_waited_for(session):
                self.spare(reason, session)
                continue
            proof = (
                f"in a transaction and silent for {_age(session.state_age_s)} (over {_age(limit)});"
                " nobody waits for it, it has written nothing"
            )
            yield self._leak(session, "idle_in_transaction", proof, holder)

    def _may_be_waited_for(self, session: Session) -> str | None:
        locks = self.view.locks
        if session.pid in locks.blockers:
            return "others wait for its lock: `--terminate-blocker` is the remedy for that"
        if not locks.complete and (locks.waiting or LOCK_WAITS.name in self.view.snapshot.failed):
            return "whether others wait for its lock could not be seen"
        return None

    def blockers(self) -> list[LeakedSession]:
        """Return the roots of lock pile-ups that sit idle in a transaction."""
        found = []
        for pid, waiters in self.view.locks.roots.items():
            session = self.view.by_pid.get(pid)
            if session is None:
                continue  # a prepared transaction, or gone since: there is no session to end
            if reason := self._lasting(session) or _still_at_work(session):
                self.spare(reason, session)
                continue
            holder = self.view.holder_of[pid]
            proof = (
                f"{waiters} {'session waits' if waiters == 1 else 'sessions wait'} for its locks;"
                f" in a transaction for {_age(session.xact_age_s)}, silent for"
                f" {_age(session.state_age_s)}; {_rolled_back(session)}"
            )
            found.append(self._leak(session, "blocker", proof, holder))
        return found

    def _above_floor(self, holder: Holder, found: list[LeakedSession]) -> list[LeakedSession]:
        floor = max(FLOOR, -(-(holder.budget or 0) * FLOOR_PERCENT // 100))
        alive = sum(s.pid not in self.view.orphans for s in holder.sessions)
        found.sort(key=_order)
        orphaned = sum(leaked.rule == "orphan" for leaked in found)
        most = orphaned + max(0, alive - floor)
        for leaked in found[most:]:
            self.spare(f"left as the floor of {leaked.owner} ({floor} sessions)", leaked.session)
        return found[:most]

    def _lasting(self, session: Session) -> str | None:
        if not self.advisory_known and not self.blind:
            return "whether it holds an advisory lock could not be seen"
        kept = self._privilege(session) or lasting(session, self.view.protect, self.advisory)
        return kept or (_maybe_protected(session, self.view.protect) if self.blind else None)

    def _privilege(self, session: Session) -> str | None:
        if session.role in self.privileged:
            return "its role may be a superuser's, which the operating system does not tell"
        return None

    def _spared(self, session: Session, *, quietly: bool = False) -> bool:
        """Whether a session is protected; tells so, once, unless asked to be quiet."""
        reason = self._lasting(session) or protected(session, self.view.protect, self.advisory)
        if reason and not quietly and session.pid not in self.looked_at:
            self.spare(reason, session)
        return reason is not None

    def _leak(self, session: Session, rule: Rule, proof: str, holder: Holder) -> LeakedSession:
        if self.blind:
            proof += "; whether it holds an advisory lock or LISTENs is not known"
        return LeakedSession(session=session, rule=rule, proof=proof, owner=holder.label)


def _order(leaked: LeakedSession) -> tuple[bool, float]:
    """Order: those without a client first, for nobody misses them; then silent longest."""
    return leaked.rule != "orphan", -(leaked.session.state_age_s or 0.0)


def _maybe_protected(session: Session, protect: Protect) -> str | None:
    """Return why the inventory may protect a session of which the host does not tell enough."""
    unseen = {
        "application name": bool(protect.applications),
        "role": bool(protect.roles) and session.role is None,
        "database": bool(protect.databases) and session.database is None,
        "address": bool(protect.addresses) and not _numeric(session.client_addr),
    }
    names = [name for name, missing in unseen.items() if missing]
    if not names:
        return None
    return f"the inventory may protect it: its {' and '.join(names)} cannot be seen"


def _numeric(address: str | None) -> bool:
    """Whether an address is one, and not a name that log_hostname has put in its place."""
    return address is None or all(char in "0123456789abcdefABCDEF.:%" for char in address)


def _privileged(view: View) -> frozenset[str]:
    """Return the roles that may be superusers, by what the inventory and the custom call them."""
    databases = [
        view.fleet.inventory.databases.get(n) for n in same_server(view.target, view.fleet)
    ]
    doors = [
        door.user
        for database in databases
        if database is not None
        for door in (database.connect, database.admin, database.rescue)
        if door is not None
    ]
    locals_ = [d.local.os_user for d in databases if d is not None and d.local is not None]
    return frozenset(["postgres", *doors, *locals_])


def _end(orphan: Orphan) -> str:
    address, port = orphan.end
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _rollback(session: Session) -> str:
    return f"; {_rolled_back(session)}" if session.idle_in_transaction else ""


def _likeliest(session: Session) -> tuple[bool, float]:
    """Order: not seen returning to its pool first, then idle longest."""
    query = session.query.strip().casefold()
    returned = query == "" or query.startswith(RETURNED)
    return (returned, -(session.state_age_s or 0.0))


def _still_at_work(session: Session) -> str | None:
    if session.idle_in_transaction:
        return None
    if session.hidden:
        return "blocks others; what it does is hidden from our role"
    age = _age(session.query_age_s)
    return (
        f"blocks others and is {session.state}, its statement begun {age} ago: not idle, so"
        f" yours to judge (SELECT pg_cancel_backend({session.pid}))"
    )


def _rolled_back(session: Session) -> str:
    if session.has_xid:
        return "what it has written will be rolled back"
    return "it has written nothing"


def _suspects(view: View, policy: LeakPolicy, proved: set[int]) -> Iterator[LeakedSession]:
    """Return idle sessions whose age alone speaks against them, longest idle first."""
    if policy.which == "blockers":
        return
    for session in sorted(view.idle, key=lambda s: -(s.state_age_s or 0.0)):
        holder = view.holder_of[session.pid]
        limit = max(policy.report_idle_s, 2 * holder.idle_timeout_s)
        if (session.state_age_s or 0.0) > limit and session.pid not in proved:
            yield LeakedSession(
                session=session,
                rule="idle_age",
                proof=f"idle for {_age(session.state_age_s)}; that alone proves nothing",
                owner=holder.label,
            )


def _short_limits(
    view: View, policy: LeakPolicy, found: Sequence[LeakedSession]
) -> tuple[LimitUse, ...]:
    """Return the limits of roles and databases that lack headroom and that `found` would relieve.

    One that nothing proved leaked counts against (a monitor's own `CONNECTION LIMIT 1`) is no
    reason to terminate anything.
    """
    pids = {leaked.session.pid for leaked in found}
    return tuple(
        use
        for use in limits_in_use(view)
        if missing(use.most, len(use.sessions), policy.headroom_percent) > 0
        and any(s.pid in pids for s in use.sessions)
    )


def _wanted(view: View, policy: LeakPolicy, short: Sequence[LimitUse]) -> int:
    """Return how many slots must come free for the headroom, of the server and of full limits."""
    bounds = [(view.slots.usable, view.slots.used)]
    bounds += [(use.most, len(use.sessions)) for use in short]
    return max(0, *(missing(*bound, policy.headroom_percent) for bound in bounds))


def _age(seconds: float | None) -> str:
    return format_duration(seconds) if seconds is not None else "unknown time"
