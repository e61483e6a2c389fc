"""Do statements run for so long that they hold the slots?"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from runbook.findings.finding_type import FindingType, Verdict
from runbook.findings.words import age, common_statements, count, psql, session_words, whose
from runbook.model.diagnosis import Finding

if TYPE_CHECKING:
    from runbook.findings.view import View
    from runbook.model.sessions import Session

#: Seconds after which a running statement is old: whoever waits for a web page has left by then.
OLD_S = 5.0
#: Percent of the sessions that run old statements from which on these are the cause.
PERCENT = 50
#: Percent of the usable slots that they must hold: half of a quiet database's few sessions may
#: well be reports.
PERCENT_OF_SLOTS = 20
#: From this many on they are worth a word.
AT_LEAST = 3


def judge(view: View) -> Verdict | None:
    """Old statements are a cause when they hold half of the sessions and many of the slots."""
    old = sorted(
        (s for s in view.active if (s.query_age_s or 0.0) >= OLD_S),
        key=lambda s: -(s.query_age_s or 0.0),
    )
    if len(old) < AT_LEAST:
        return None
    many = view.share(len(old)) * 100 >= PERCENT_OF_SLOTS
    cause = many and view.percent_of_used(len(old)) >= PERCENT
    return Verdict(
        finding=_finding(view, old),
        weight="cause" if cause else "runner_up",
        concerns=frozenset(s.pid for s in old),
    )


def _finding(view: View, old: list[Session]) -> Finding:
    owners = view.owners(old)
    median = old[len(old) // 2].query_age_s
    percent = view.percent_of_used(len(old))
    return Finding(
        cause="slow-queries",
        title=f"{count(len(old), 'slow statement')} at work, the longest for"
        f" {age(old[0].query_age_s)}: {whose(owners)}",
        confidence="strong" if percent >= PERCENT else "weak",
        because=f"{percent}% of the sessions run a statement older than {age(OLD_S)}, waiting for"
        " nobody's lock",
        share=view.share(len(old)),
        evidence=(
            f"half of them have run for more than {age(median)}",
            f"longest: {session_words(old[0], view)}",
            *(f"at work: {line}" for line in common_statements(old)),
            *_waits(old),
        ),
        owners=owners,
        advice="There is no safe automatic remedy: only its owner knows whether a statement may be"
        " lost. Cancelling ends the statement and keeps the connection; look for a missing index,"
        " stale statistics or a report at the wrong hour.",
        command=psql(view, f"SELECT pg_cancel_backend({old[0].pid})"),
    )


def _waits(old: list[Session]) -> tuple[str, ...]:
    """Tell what most of them wait for, when that is the disk or the like."""
    waiting = [f"{s.wait_event_type}/{s.wait_event}" for s in old if s.wait_event_type]
    if len(waiting) * 2 < len(old):
        return ()
    (commonest, number), *_ = Counter(waiting).most_common(1)
    return (f"{number} of them wait on {commonest}",)


FINDING = FindingType(
    name="slow-queries",
    summary="Statements run for so long that new ones find no free connection.",
    judge=judge,
    looks="Requests take long before they fail, the server's CPU or disk is busy, and the same few"
    " statements are at work in most sessions.",
    told_apart=f"By the age of the statements: at least {PERCENT}% of the sessions, and"
    f" {PERCENT_OF_SLOTS}% of the usable slots, run one for more than {age(OLD_S)} and wait for"
    " nobody's lock. A statement that waits for a lock is not slow by itself: that is a lock"
    " pile-up, and its root is named there. Younger statements in as many sessions are a surge.",
    remedy="Now: cancel (`pg_cancel_backend`) what its owner says may be lost; the connection"
    " stays, and runbook cancels nothing by itself. For good: the missing index, fresh statistics,"
    " a report at another hour or on a standby, and `statement_timeout` for the application's"
    " role.",
)
