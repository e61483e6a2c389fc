"""From all verdicts to one diagnosis: the cause, what else matters, what is less likely."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from runbook.findings.table import FINDINGS
from runbook.findings.unexplained import grant
from runbook.findings.view import View
from runbook.model.diagnosis import (
    Ages,
    Count,
    Diagnosis,
    Finding,
    LockWait,
    PoolUse,
    ServerInfo,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from runbook.findings.attribution import Seat
    from runbook.findings.finding_type import Verdict
    from runbook.model.fleet import Fleet
    from runbook.model.sessions import Session, Snapshot

#: A cause further down the table takes precedence when it explains this many times as much: a
#: few silent transactions must not hide the leak that fills the rest.
OUTWEIGHS = 2.0
#: These are certain wherever they hold: whoever hits such a limit is refused by it alone.
FIRST = ("role-limit", "database-limit")
#: These only speak when no other finding has a cause.
LAST = ("unexplained", "healthy")


def diagnose(snapshot: Snapshot, fleet: Fleet) -> Diagnosis:
    """Name the cause of what a snapshot shows."""
    view = View(snapshot=snapshot, fleet=fleet)
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
        unseen=_unseen(view),
    )


def weigh(
    verdicts: list[Verdict],
) -> tuple[Finding, tuple[Finding, ...], tuple[Finding, ...]]:
    """Return the cause, the others that matter and the runners-up, from verdicts in table order."""
    causes = [v.finding for v in verdicts if v.weight == "cause"]
    strong = [f for f in causes if f.cause not in LAST] or causes[:1]
    cause = strong[0]
    if cause.cause not in FIRST:
        for other in strong[1:]:
            if other.share >= OUTWEIGHS * cause.share:
                cause = other
    also = [v.finding for v in verdicts if v.weight == "also"]
    also = [f for f in strong if f is not cause] + also
    runners_up = [v.finding for v in verdicts if v.weight == "runner_up"]
    return cause, tuple(also), tuple(runners_up)


def _server(snapshot: Snapshot) -> ServerInfo:
    return ServerInfo(
        version=snapshot.limits.version,
        server_time=snapshot.limits.server_time,
        in_recovery=snapshot.limits.in_recovery,
        rung=snapshot.rung,
        refusals=tuple(f"{rung}: {text}" for rung, text in snapshot.refusals),
        connect_ms=round(snapshot.connect_s * 1000, 1),
        query_ms=round(snapshot.query_s * 1000, 1),
    )


def _pools(view: View) -> tuple[PoolUse, ...]:
    """Return every declared service on every host, those without sessions too."""
    held = [h for h in view.holders if h.service]
    uses = [_pool(h.service, h.host, h.budget, h.sessions) for h in held if h.service and h.host]
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


def _unseen(view: View) -> tuple[str, ...]:
    limits = view.snapshot.limits
    lines = []
    if view.hidden:
        lines.append(
            f"{len(view.hidden)} sessions' state, age and address are hidden from role"
            f" {limits.role}; they are counted as in use. To see them, as a superuser:"
            f" {grant('pg_monitor', limits.role)}"
        )
    elif not limits.can_read_all:
        lines.append(
            f"role {limits.role} sees only its own sessions in full. To see all, as a superuser:"
            f" {grant('pg_monitor', limits.role)}"
        )
    if not limits.can_signal:
        lines.append(
            f"role {limits.role} may not terminate others' sessions. As a superuser:"
            f" {grant('pg_signal_backend', limits.role)}"
        )
    lines += [
        f"the question {name!r} was not answered: {why}"
        for name, why in view.snapshot.failed.items()
    ]
    locks = view.locks
    if locks.waiting > len(locks.waits_for) and not locks.complete:
        lines.append(
            f"{locks.waiting} sessions wait for locks; whom they wait for was asked for the"
            f" {len(locks.waits_for)} that have waited longest"
        )
    return (*lines, *view.notes)
