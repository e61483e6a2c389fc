"""What a diagnosis could not see, a line each, with what would mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings import app_hosts, server_host
from runbook.findings.table import FINDINGS
from runbook.findings.unexplained import grant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.findings.view import View


def unseen(view: View) -> tuple[str, ...]:
    """Return what could not be seen, what weighs most first."""
    lines = (
        *by_rung(view),
        *by_role(view),
        *_signals(view),
        *_unanswered(view),
        *_locks(view),
        *_others(view),
        *view.notes,
    )
    return tuple(dict.fromkeys(lines))


def by_rung(view: View) -> Iterator[str]:
    """Tell what the door that let us in does not show."""
    if view.snapshot.rung == "os":
        yield (
            "no door into the server was open, so all of this is from its host's processes: their"
            " titles show no application names, no statements and no waits' causes, not how long a"
            " statement has run, and no limits of single roles or databases"
        )


def by_role(view: View) -> Iterator[str]:
    """Tell what our role may not see, and the grant that mends it."""
    limits = view.snapshot.limits
    if view.snapshot.rung == "os":
        return
    if view.hidden:
        yield (
            f"{len(view.hidden)} sessions' state, age and address are hidden from role"
            f" {limits.role}; they are counted as in use. To see them, as a superuser:"
            f" {grant('pg_monitor', limits.role)}"
        )
    elif not limits.can_read_all:
        yield (
            f"role {limits.role} sees only its own sessions in full. To see all, as a superuser:"
            f" {grant('pg_monitor', limits.role)}"
        )


def _signals(view: View) -> Iterator[str]:
    limits = view.snapshot.limits
    if view.snapshot.rung != "os" and not limits.can_signal:
        yield (
            f"role {limits.role} may not terminate others' sessions. As a superuser:"
            f" {grant('pg_signal_backend', limits.role)}"
        )


def _unanswered(view: View) -> Iterator[str]:
    """Name each question that failed, and the causes that were judged without it."""
    for name, why in view.snapshot.failed.items():
        if view.snapshot.rung == "os":
            yield why  # nothing was asked of the server, so asking again tells no more
            continue
        if name == server_host.FAILED:
            yield f"the processes of the server's host were not told: {why}"
            continue
        without = [kind.name for kind in FINDINGS if name in {q.name for q in kind.questions}]
        so = f"; {', '.join(without)}: judged without it" if without else ""
        yield f"the question {name!r} was not answered: {why}{so}. Look again"


def _locks(view: View) -> Iterator[str]:
    locks = view.locks
    if locks.waiting > len(locks.waits_for) and not locks.complete:
        yield (
            f"{locks.waiting} sessions wait for locks; whom they wait for was asked for the"
            f" {len(locks.waits_for)} that have waited longest"
        )


def _others(view: View) -> Iterator[str]:
    """Tell what the witnesses could not see."""
    snapshot = view.snapshot
    if snapshot.processes is not None:
        yield from (f"{snapshot.processes.host}: {line}" for line in snapshot.processes.unseen)
    yield from app_hosts.unseen(view)
    yield from (f"PgBouncer {look.name}: {look.error}" for look in snapshot.poolers if look.error)
    if snapshot.later is not None and snapshot.later.error:
        yield (
            f"the second look at the server failed: {snapshot.later.error}; what comes and goes"
            " was judged by one look"
        )
