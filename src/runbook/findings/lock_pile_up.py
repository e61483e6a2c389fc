"""Do sessions queue behind somebody's lock?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings.finding_type import FindingType, Verdict
from runbook.findings.leak_proof import prove
from runbook.findings.lock_tree import LOOKED_INTO, PREPARED_TRANSACTION, QUESTION
from runbook.findings.words import (
    age,
    common_statements,
    count,
    look_again,
    psql,
    remediate,
    session_words,
)
from runbook.findings.words import statement as one_line
from runbook.model.diagnosis import Confidence, Finding
from runbook.model.leaks import LeakPolicy

if TYPE_CHECKING:
    from runbook.findings.view import View
    from runbook.model.sessions import Session

#: Percent of the sessions that wait for locks from which on it is a pile-up: ordinary contention
#: keeps a few percent waiting at a time, a stuck root gathers every worker that meets it.
PERCENT = 20
#: Two waiting sessions are contention, whatever their percentage.
AT_LEAST = 3
#: Evidence names this many roots.
ROOTS_NAMED = 3


def judge(view: View) -> Verdict | None:
    """A pile-up is a cause once it holds its share of the sessions; below, it is mentioned."""
    waiting = [s for s in view.clients if s.wait_event_type == "Lock"]
    if not waiting:
        return None
    large = len(waiting) >= AT_LEAST and view.percent_of_used(len(waiting)) >= PERCENT
    if not large and len(waiting) < AT_LEAST:
        return None
    finding = _finding(view, waiting)
    return Verdict(
        finding=finding,
        weight="cause" if large else "also",
        concerns=frozenset(s.pid for s in waiting) | view.locks.blockers,
    )


def _finding(view: View, waiting: list[Session]) -> Finding:
    pid, behind = next(iter(view.locks.roots.items()), (None, 0))
    root = view.by_pid.get(pid) if pid is not None else None
    concerned = [*waiting, *([root] if root and root.is_client else [])]
    return Finding(
        cause="lock-pile-up",
        title=_title(view, len(waiting), pid, behind),
        confidence=_confidence(pid, behind, view),
        because=_because(pid, behind, view),
        share=view.share(len(concerned)),
        evidence=tuple(_evidence(view, waiting)),
        owners=view.owners(concerned),
        advice=_advice(root, pid),
        command=_command(view, root, pid),
    )


def _title(view: View, waiting: int, pid: int | None, behind: int) -> str:
    sessions = f"{count(waiting, 'session')} {'waits' if waiting == 1 else 'wait'}"
    if pid is None:
        return f"{sessions} for locks"
    if len(view.locks.roots) == 1:
        return f"{sessions} for a lock behind {_root_words(view, pid)}"
    return f"{sessions} for locks, {behind} behind {_root_words(view, pid)}"


def _root_words(view: View, pid: int | None) -> str:
    root = view.by_pid.get(pid) if pid is not None else None
    if pid == PREPARED_TRANSACTION:
        return "a prepared transaction"
    return session_words(root, view) if root else f"pid {pid}, which has gone since"


def _confidence(pid: int | None, behind: int, view: View) -> Confidence:
    if pid is None:
        return "likely"
    return "certain" if behind * 2 >= len(view.locks.waits_for) else "strong"


def _because(pid: int | None, behind: int, view: View) -> str:
    if pid is None:
        return "the sessions say that they wait for locks; for whose, could not be seen"
    looked = len(view.locks.waits_for)
    return f"the server names the blockers: {behind} of {looked} waits looked into lead to one root"


def _evidence(view: View, waiting: list[Session]) -> list[str]:
    longest = max((s.state_age_s or 0.0 for s in waiting), default=0.0)
    lines = [
        f"{len(waiting)} of {len(view.clients)} sessions wait for a lock, longest {age(longest)}"
    ]
    for pid, behind in list(view.locks.roots.items())[:ROOTS_NAMED]:
        root = view.by_pid.get(pid)
        last = f"; last statement: {one_line(root.query)}" if root and root.query else ""
        lines.append(f"{behind} behind {_root_words(view, pid)}{last}")
    return lines + [f"waiting: {line}" for line in common_statements(waiting, 2)]


#: Roots that are no client's session, and that nobody needs to end.
_SERVERS_OWN = {
    "startup": "The root is recovery itself: this standby replays a lock of its primary (ALTER,"
    " DROP, VACUUM that cuts a table's end off) and goes on by itself. There is nothing to"
    " terminate here: look at that statement on the primary.",
    "autovacuum worker": "The root is autovacuum. It gives way to others by itself after"
    " deadlock_timeout, unless it guards against wraparound: then let it finish, and do what waits"
    " later.",
}


def _advice(root: Session | None, pid: int | None) -> str:
    if pid == PREPARED_TRANSACTION:
        return (
            "A prepared transaction holds the lock: look at pg_prepared_xacts, then COMMIT PREPARED"
            " or ROLLBACK PREPARED as its transaction manager says."
        )
    if root is None:
        return "Look again: the root has changed since, or could not be seen."
    if root.idle_in_transaction:
        return (
            "Its client has gone silent inside a transaction. Ending it rolls that transaction back"
            " and lets the others go on."
        )
    if root.backend_type in _SERVERS_OWN:
        return _SERVERS_OWN[root.backend_type]
    if root.state == "active":
        return (
            "The root is at work. If its statement may be lost, cancel it; the others go on by"
            " themselves once it is done."
        )
    return "The root is idle outside a transaction: it holds a session-level lock; ask its owner."


def _command(view: View, root: Session | None, pid: int | None) -> str:
    if pid == PREPARED_TRANSACTION:
        return psql(view, "SELECT * FROM pg_prepared_xacts")
    if prove(view, LeakPolicy(which="blockers")).sessions:
        return remediate(view, "--terminate-blocker")
    if root is not None and root.is_client and root.state == "active":
        return psql(view, f"SELECT pg_cancel_backend({root.pid})")
    return look_again(view)


FINDING = FindingType(
    name="lock-pile-up",
    summary="Sessions queue behind a lock, and each that waits holds a connection slot.",
    judge=judge,
    questions=(QUESTION,),
    looks="Some requests hang, always the same kind, while others work; the CPU is idle, and the"
    " sessions that hang all want one table or one row.",
    told_apart=f"At least {AT_LEAST} sessions, and {PERCENT}% of them, wait with"
    " `wait_event_type = 'Lock'`. The server names whom each of them waits for"
    f" (`pg_blocking_pids`, asked for the {LOOKED_INTO} that have waited longest), and the walk up"
    " from there ends at the root. A root that is idle in its transaction is not accused a second"
    " time as an idle transaction, and statements that wait for a lock do not count as slow.",
    remedy="Now: end the root if it sits idle in a transaction (`--terminate-blocker`: what it has"
    " written is rolled back), or cancel its statement if it is at work and may be lost; those that"
    " wait go on by themselves. For good: short transactions, `lock_timeout` for whatever alters"
    " tables, `idle_in_transaction_session_timeout` for the application's role.",
)
