"""From all verdicts to one diagnosis: the cause, what else matters, what is less likely.

Several causes may hold at once. The rule:

1. The order of the table is the order in which one should act, and the first cause in it is the
   cause.
2. What an earlier finding accounts for is no evidence of another: a transaction that holds a lock
   for which others wait is the root of the pile-up, and not also an idle transaction; work on
   connections that come and go is churn, and not also a surge. A finding of whose sessions at
   least half are accounted for becomes a runner-up.
3. A cause further down comes first when it explains `OUTWEIGHS` times as many slots. A limit of
   its own is never outweighed: whoever hits it is refused by it alone.
4. The other causes follow in the order of the table, then what matters besides.
5. A cause that takes no ordinary slot is the cause only when nothing else is. "Unexplained" and
   "healthy" are said only when no cause holds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from runbook.findings.table import FINDINGS
from runbook.findings.unseen import unseen
from runbook.findings.view import View
from runbook.model.diagnosis import (
    Ages,
    Count,
    Diagnosis,
    Finding,
    LockWait,
    PoolerPool,
    PoolUse,
    ServerInfo,
)
from runbook.model.leaks import LeakPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from runbook.findings.bouncers import Bouncer, Pool
    from runbook.findings.finding_type import Verdict
    from runbook.findings.holders import Seat
    from runbook.model.fleet import Fleet
    from runbook.model.sessions import Session, Snapshot

#: A cause further down the table takes precedence when it explains this many times as much: a
#: few silent transactions must not hide the leak that fills the rest.
OUTWEIGHS = 2.0
#: These are certain wherever they hold: whoever hits such a limit is refused by it alone.
FIRST = ("role-limit", "database-limit")
#: Their sessions need no other explanation: these say why a session is as it is, the others what
#: it looks like.
ACCOUNT_FOR = ("stalled-logins", "lock-pile-up", "churn")
#: These take no ordinary slot.
APART = ("replication-limit",)
#: These only speak when no other finding has a cause.
LAST = ("unexplained", "healthy")


def diagnose(snapshot: Snapshot, fleet: Fleet, policy: LeakPolicy | None = None) -> Diagnosis:
    """Name the cause of what a snapshot shows."""
    view = View(snapshot=snapshot, fleet=fleet, policy=policy or LeakPolicy())
    verdicts = [v for v in (kind.judge(view) for kind in FINDINGS) if v is not None]
    cause, also, runners_up = weigh(verdicts)
    return Diagnosis(
        target=snapshot.database,
        server=_server(snapshot),
        slots=view.slots,
        finding=cause,
        also=also,
        runners_up=runners_up,
        pools=_pools(view),
        poolers=tuple(_pooler(b, pool) for b in view.bouncers for pool in b.pools),
        silent_poolers=tuple(look.name for look in snapshot.poolers if look.error),
        by_state=_counts(view, _state),
        by_database=_counts(view, lambda s: s.database or "(none)"),
        by_role=_counts(view, lambda s: s.role or "(none)"),
        by_application=_counts(view, lambda s: s.application_name or "(no name)"),
        by_address=_counts(view, _from),
        by_wait=_waits(view),
        ages=_ages(view),
        lock_waits=tuple(
            LockWait(pid=pid, waits_for=others) for pid, others in view.locks.waits_for.items()
        ),
        unseen=unseen(view),
    )


def weigh(
    verdicts: list[Verdict],
) -> tuple[Finding, tuple[Finding, ...], tuple[Finding, ...]]:
    """Return the cause, the others that matter and the runners-up, from verdicts in table order."""
    verdicts = _accounted(verdicts)
    causes = [v.finding for v in verdicts if v.weight == "cause"]
    cause = _first(causes)
    others = [f for f in causes if f is not cause and f.cause not in LAST]
    also = [v.finding for v in verdicts if v.weight == "also"]
    runners_up = [v.finding for v in verdicts if v.weight == "runner_up"]
    return cause, (*others, *also), tuple(runners_up)


def _accounted(verdicts: list[Verdict]) -> list[Verdict]:
    """Make runners-up of findings whose sessions an earlier one accounts for, by half or more."""
    known: set[int] = set()
    kept = []
    for verdict in verdicts:
        explained = len(verdict.concerns & known)
        if explained and explained * 2 >= len(verdict.concerns):
            kept.append(replace(verdict, weight="runner_up"))
            continue
        if verdict.finding.cause in ACCOUNT_FOR and verdict.weight != "runner_up":
            known |= verdict.concerns
        kept.append(verdict)
    return kept


def _first(causes: list[Finding]) -> Finding:
    """Return the cause of several, in table order, by what each of them explains."""
    strong = [f for f in causes if f.cause not in (*APART, *LAST)]
    if not strong:
        ranks = ("unexplained", *APART, *LAST)
        return min(causes, key=lambda finding: ranks.index(finding.cause))
    cause = strong[0]
    if cause.cause not in FIRST:
        for other in strong[1:]:
            if other.share >= OUTWEIGHS * cause.share:
                cause = other
    return cause


def _server(snapshot: Snapshot) -> ServerInfo:
    return ServerInfo(
        version=snapshot.limits.version,
        server_time=snapshot.limits.server_time,
        started_at=snapshot.limits.started_at,
        in_recovery=snapshot.limits.in_recovery,
        rung=snapshot.rung,
        refusals=tuple(f"{rung}: {text}" for rung, text in snapshot.refusals),
        connect_ms=round(snapshot.connect_s * 1000, 1),
        query_ms=round(snapshot.query_s * 1000, 1),
    )


def _pools(view: View) -> tuple[PoolUse, ...]:
    """Return every declared service on every host, those without sessions too."""
    held = [h for h in view.holders if h.service]
    uses = [
        _pool(h.service, h.host, h.budget, h.sessions).model_copy(
            update={"pgbouncer": h.bouncer or None}
        )
        for h in held
        if h.service and h.host
    ]
    seen = {(seat.service, seat.host.name) for holder in held for seat in holder.seats}
    return tuple(uses) + tuple(
        _pool(seat.service, seat.host.name, seat.budget, ())
        for seat in view.seats
        if _place(seat) not in seen
    )


def _place(seat: Seat) -> tuple[str, str]:
    return seat.service, seat.host.name


def _pool(service: str, host: str, budget: int | None, sessions: tuple[Session, ...]) -> PoolUse:
    idle = [s.state_age_s for s in sessions if s.idle and s.state_age_s is not None]
    return PoolUse(
        service=service,
        host=host,
        budget=budget,
        sessions=len(sessions),
        active=sum(s.state == "active" for s in sessions),
        idle=sum(s.idle for s in sessions),
        idle_in_transaction=sum(s.idle_in_transaction for s in sessions),
        oldest_idle_s=round(max(idle), 1) if idle else None,
    )


def _pooler(bouncer: Bouncer, pool: Pool) -> PoolerPool:
    return PoolerPool(
        pgbouncer=bouncer.name,
        version=bouncer.version,
        database=pool.database,
        user=pool.user,
        mode=pool.mode,
        pool_size=pool.size,
        reserve=pool.reserve,
        sv_active=pool.sv_active,
        sv_idle=pool.sv_idle,
        cl_active=pool.cl_active,
        cl_waiting=pool.cl_waiting,
        maxwait_s=round(pool.maxwait_s, 1),
        binds=pool.binding,
        bound=pool.bound or None,
    )


def _counts(view: View, name: Callable[[Session], str]) -> tuple[Count, ...]:
    counted = Counter(name(session) for session in view.clients)
    return tuple(Count(name=key, sessions=number) for key, number in counted.most_common())


def _waits(view: View) -> tuple[Count, ...]:
    """Count what sessions at work wait for; that an idle one waits for its client says nothing."""
    counted = Counter(
        f"{s.wait_event_type}/{s.wait_event}" if s.wait_event_type else "running"
        for s in view.clients
        if s.state == "active"
    )
    return tuple(Count(name=key, sessions=number) for key, number in counted.most_common())


def _ages(view: View) -> Ages:
    def oldest(ages: Iterable[float | None]) -> float | None:
        return max((round(age, 1) for age in ages if age is not None), default=None)

    return Ages(
        transaction_s=oldest(s.xact_age_s for s in view.clients),
        statement_s=oldest(s.query_age_s for s in view.clients if s.state == "active"),
        idle_s=oldest(s.state_age_s for s in view.idle),
        idle_in_transaction_s=oldest(s.state_age_s for s in view.clients if s.idle_in_transaction),
    )


def _state(session: Session) -> str:
    if session.hidden:
        return "hidden"
    if session.state == "active" and session.wait_event_type == "Lock":
        return "waiting for a lock"
    return session.state or "starting"


def _from(session: Session) -> str:
    return session.client_addr or ("hidden" if session.hidden else "local socket")
