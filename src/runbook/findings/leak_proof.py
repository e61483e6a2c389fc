"""Which sessions have leaked, by which rule, and which of them may be terminated.

Arithmetic and lifetimes prove; looks do not. A pooled session that waits for work and a leaked one
have the same state, the same wait and often the same last statement (measured with SQLAlchemy,
Django, node-postgres, psycopg_pool and asyncpg), so a long idle time alone makes a suspect, and
nothing more.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runbook.findings.connection_limits import LimitUse, limits_in_use
from runbook.findings.lock_tree import QUESTION as LOCK_WAITS
from runbook.findings.protection import QUESTION as ADVISORY_LOCKS
from runbook.findings.protection import lasting, protected
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
    from collections.abc import Iterator, Sequence

    from runbook.findings.attribution import Holder
    from runbook.findings.view import View
    from runbook.model.sessions import Session

#: Seconds that a session over its pool must have been idle: between two statements of one request
#: a session in use looks idle too, for milliseconds, rarely for a second.
IDLE_AT_LEAST_S = 2.0
#: Seconds of grace on a pool's maximum lifetime: pools retire in rounds of 30 s (HikariCP) or when
#: a connection comes back, not on the second.
LIFETIME_GRACE_S = 120.0
#: Sessions that every group keeps, whatever is proved against it: the larger of 2 and a quarter of
#: its budget, so that an error of ours degrades a service and does not take it down.
FLOOR = 2
FLOOR_PERCENT = 25

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
    found.sort(key=lambda p: (p.session.pid not in helping, -(p.session.state_age_s or 0.0)))
    kept = found[: case.most]
    for leaked in found[case.most :]:
        case.spare(f"beyond the bound of {case.most} sessions a run", leaked.session)
    proved = {leaked.session.pid for leaked in found} | case.looked_at
    return TerminationPlan(
        sessions=tuple(kept),
        spared=tuple(Spared(reason=r, pids=tuple(pids)) for r, pids in case.spared.items()),
        suspects=tuple(_suspects(view, policy, proved)),
        used=view.slots.used,
        usable=view.slots.usable,
        wanted=_wanted(view, policy, short),
        short=tuple(ShortLimit(kind=use.kind, name=use.name) for use in short),
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
        database = self.view.database
        bound = database.max_terminated if database else None
        self.most = min(self.policy.max_sessions, bound or self.policy.max_sessions)

    def spare(self, reason: str, session: Session) -> None:
        self.looked_at.add(session.pid)
        self.spared[reason].append(session.pid)

    def leaked(self, holder: Holder) -> list[LeakedSession]:
        """Return the sessions of one holder that are proved leaked and may go, its floor kept."""
        found: dict[int, LeakedSession] = {}
        rules = (self._over_pool, self._outlived, self._idle_in_transaction)
        for rule in rules:
            for leaked in rule(holder):
                found.setdefault(leaked.session.pid, leaked)
        return self._above_floor(holder, list(found.values()))

    def _over_pool(self, holder: Holder) -> Iterator[LeakedSession]:
        budget = holder.budget
        if budget is None or holder.doubt or len(holder.sessions) <= budget:
            return
        # What a protected session is may be no part of the pool (a listener, a migration): it is
        # not counted against it. That errs on the side of the pool.
        aside = sum(self._lasting(s) is not None for s in holder.sessions)
        excess = len(holder.sessions) - aside - budget
        settled = [s for s in holder.sessions if s.idle and (s.state_age_s or 0) >= IDLE_AT_LEAST_S]
        free = [
            s for s in sorted(settled, key=_likeliest) if not self._spared(s, quietly=excess < 1)
        ]
        for session in free[: max(0, excess)]:
            proof = (
                f"{len(holder.sessions)} sessions, pool of {budget}; among the {excess} idle"
                " longest"
            )
            yield self._leak(session, "over_pool", proof, holder)
        self._too_fresh(holder, excess - len(free))

    def _too_fresh(self, holder: Holder, missing: int) -> None:
        """Say of the rest of an excess that it was used a moment ago: the next look may tell."""
        fresh = [s for s in holder.sessions if s.idle and (s.state_age_s or 0) < IDLE_AT_LEAST_S]
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
        most = max(0, len(holder.sessions) - floor)
        found.sort(key=lambda leaked: -(leaked.session.state_age_s or 0.0))
        for leaked in found[most:]:
            self.spare(f"left as the floor of {leaked.owner} ({floor} sessions)", leaked.session)
        return found[:most]

    def _lasting(self, session: Session) -> str | None:
        if not self.advisory_known:
            return "whether it holds an advisory lock could not be seen"
        return lasting(session, self.view.protect, self.advisory)

    def _spared(self, session: Session, *, quietly: bool = False) -> bool:
        """Whether a session is protected; tells so, once, unless asked to be quiet."""
        reason = self._lasting(session) or protected(session, self.view.protect, self.advisory)
        if reason and not quietly and session.pid not in self.looked_at:
            self.spare(reason, session)
        return reason is not None

    def _leak(self, session: Session, rule: Rule, proof: str, holder: Holder) -> LeakedSession:
        return LeakedSession(session=session, rule=rule, proof=proof, owner=holder.label)


def excess_of(holder: Holder) -> int:
    """Return how many sessions a holder has over its declared pool; 0 where that proves nothing."""
    if holder.budget is None or holder.doubt:
        return 0
    return max(0, len(holder.sessions) - holder.budget)


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
