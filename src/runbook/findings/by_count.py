"""What the count of a holder's sessions proves where nobody tells which process holds which.

A count says how many are too many, and not which. Four healthy things look like a leak then: two
generations of processes during a deploy, a cron job under the service's name, a process that has
been idle for longer than its neighbour has been leaking, and the tail of a pool that always takes
the connection used last. What they may explain is left alone; whoever lets runbook see the app
hosts' sockets gets the sharper answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runbook.model.sessions import Session

#: Seconds that the old generation of processes may stay beside the new one: systemd gives a service
#: 90 s to stop by default, Kubernetes 30 s; with the start of the new one, 2 minutes.
OVERLAP_S = 120.0
#: Sessions under a service's name that are no part of its pool: a cron job with the service's
#: settings, and a listener.
STRANGERS = 2
#: Seconds between a session's opening and its last work from which on it has been used again: a
#: connection that is opened for one request and lost has worked for that request alone.
USED_AGAIN_S = 10.0
#: Seconds of silence up to which a session that has been used again is in its pool's daily work.
IN_WORK_S = 60.0


def excess(sessions: Sequence[Session], budget: int) -> int:
    """Return how many of a holder's sessions neither a deploy nor strangers explain.

    Each generation of processes may hold the declared budget. Sessions whose age is hidden count as
    old: that is the larger generation in any case. More sessions at their daily work than the
    budget refute what is declared, and then nothing is proved by it.
    """
    if sum(map(_at_work, sessions)) > budget:
        return 0
    young = sum(s.age_s is not None and s.age_s < OVERLAP_S for s in sessions)
    over = max(0, young - budget) + max(0, len(sessions) - young - budget)
    return over if over > STRANGERS else 0


def maybe_pooled(sessions: Sequence[Session], budget: int) -> frozenset[int]:
    """Return the pids that may be the pool itself, however long they have been idle.

    A pool opens its connections before others are opened beside it. What is seen at its daily work
    is the pool; for the rest of the budget, those that were opened first may be.
    """
    at_work = [s for s in sessions if _at_work(s)]
    others = [s for s in sessions if not _at_work(s)]
    others.sort(key=lambda s: -(s.age_s or 0.0))
    return frozenset(s.pid for s in (*at_work, *others[: max(0, budget - len(at_work))]))


def _at_work(session: Session) -> bool:
    """Whether a session has been used again and again, and just now."""
    if session.age_s is None or session.state_age_s is None:
        return False
    used_for = session.age_s - (session.state_age_s if session.idle else 0.0)
    silent = session.state_age_s if session.state != "active" else 0.0
    return used_for >= USED_AGAIN_S and silent < IN_WORK_S
