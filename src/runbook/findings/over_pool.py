"""How many sessions a holder has over its declared pool, and among which of them these are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook.findings import by_count
from runbook.findings.bearers import bearers

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from runbook.findings.holders import Holder
    from runbook.findings.view import View
    from runbook.model.sessions import Session


@dataclass(frozen=True, kw_only=True, slots=True)
class Lot:
    """Sessions of which so many are too many: a holder's, or those of one of its processes."""

    sessions: tuple[Session, ...]
    over: int
    #: The proof against each that is taken from it.
    proof: str
    #: So many of those idle longest are left alone.
    skipped: int = 0
    #: Pids among them that may be the pool itself, and are left alone.
    maybe_pooled: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class OverPool:
    """An excess over a declared pool, and where it is."""

    excess: int
    lots: tuple[Lot, ...]


def over_pool(view: View, holder: Holder, aside: Collection[int] = ()) -> OverPool | None:
    """Return what a holder has over its pool; None when it is within, or that proves nothing.

    Sessions without a client are not the pool's any more: whoever restarts after a crash has a
    healthy pool beside them. Where each session is matched to one process, only the processes that
    hold more than one may open are looked at: the others' sessions are in use by a healthy pool.

    Args:
        view: what is known.
        holder: whose sessions.
        aside: pids that are not counted against the pool.
    """
    budget = holder.budget
    living = tuple(s for s in holder.sessions if s.pid not in view.orphans)
    if budget is None or holder.doubt or len(living) <= budget:
        return None
    counted = [s for s in living if s.pid not in aside]
    excess = len(counted) - budget
    said = f"{len(living)} sessions, pool of {budget}"
    lots = _by_process(view, holder, living, aside, said)
    if lots is None:
        return _by_count(living, counted, budget, said)
    # More processes than declared, each within its pool, are a deploy or an old inventory: the
    # smaller of the two figures is the one that both prove.
    return OverPool(excess=min(excess, sum(lot.over for lot in lots)), lots=lots)


def _by_count(
    living: tuple[Session, ...], counted: Sequence[Session], budget: int, said: str
) -> OverPool | None:
    excess = by_count.excess(counted, budget)
    if not excess:
        return None
    # So many are too many, whoever they are. Strangers among them are not to pay for it, be they
    # idle for longer than what has leaked, or for less.
    lot = Lot(
        sessions=living,
        over=excess - by_count.STRANGERS,
        skipped=by_count.STRANGERS,
        proof=f"{said}; among those idle longest",
        maybe_pooled=by_count.maybe_pooled(counted, budget),
    )
    return OverPool(excess=excess, lots=(lot,))


def _by_process(
    view: View, holder: Holder, living: Sequence[Session], aside: Collection[int], said: str
) -> tuple[Lot, ...] | None:
    """Return the processes over their pools; None when a session's process is not known."""
    found = bearers(view, holder)
    if sum(len(bearer.sessions) for bearer in found) < len(living):
        return None
    lots = []
    for bearer in found:
        process = bearer.process
        if process.budget is None:
            return None
        over = len(bearer.sessions) - process.budget - sum(s.pid in aside for s in bearer.sessions)
        proof = (
            f"{said}; {process.label} holds {process.sessions} and may open {process.budget}:"
            f" among its {over} idle longest"
        )
        lots.append(Lot(sessions=bearer.sessions, over=over, proof=proof))
    return tuple(lot for lot in lots if lot.over > 0)


def excess_of(view: View, holder: Holder) -> int:
    """Return how many sessions a holder has over its declared pool; 0 where that proves nothing."""
    over = over_pool(view, holder, aside=view.lasting)
    return max(0, over.excess) if over else 0
