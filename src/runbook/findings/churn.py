"""Are connections opened and closed faster than they do work?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook.findings.finding_type import FindingType, Verdict
from runbook.findings.slow_queries import OLD_S
from runbook.findings.surge import YOUNG_S
from runbook.findings.words import age, common_statements, count, filled, look_again, whose
from runbook.model.diagnosis import Confidence, Finding
from runbook.model.effects import Question

if TYPE_CHECKING:
    from runbook.findings.view import View
    from runbook.model.sessions import Session

#: Seconds of idleness from which on a young session is settled: an application that connects for
#: one request is idle for milliseconds between its statements, and a pool's connection for long.
SETTLED_S = 2.0
#: Fewer restless sessions than this are a person, a cron job or an exporter.
AT_LEAST = 3
#: Percent of the sessions that must be restless for a second look to be worth its wait, and that
#: must be gone at that look for it to be churn. Requests of 10 s still replace 20% of their
#: connections within the 2 s between the looks; a pool that retires at 30 minutes, a tenth of 1%.
PERCENT = 20
#: Percent of the usable slots that what comes and goes must hold to be a cause: below, it costs the
#: server forks and password checks, and nobody a slot.
PERCENT_OF_SLOTS = 20
#: Percent of the sessions that must be restless to say anything after one look alone.
PERCENT_ONE_LOOK = 50

# The counters grow when a session ends; of those that run they know nothing.
QUESTION = Question(
    name="session-history",
    sql="""
SELECT sum(sessions)::float8 AS sessions, sum(session_time)::float8 / 1000 AS seconds
  FROM pg_stat_database""",
    min_version=140000,
)


def suspects(view: View) -> bool:
    """Whether so many sessions are young and restless that a second look is worth its wait."""
    young = len(restless(view))
    large = view.share(young) * 100 * 2 >= PERCENT_OF_SLOTS
    return young >= AT_LEAST and large and view.percent_of_used(young) >= PERCENT


def restless(view: View) -> list[Session]:
    """Return the sessions that were opened a moment ago and have not settled in a pool."""
    return [s for s in view.clients if s.age_s is not None and s.age_s < YOUNG_S and _moves(s)]


def _moves(session: Session) -> bool:
    if session.state == "starting":
        return False  # a login that has not ended has not begun to work either
    if session.idle:
        return session.state_age_s is not None and session.state_age_s < SETTLED_S
    return (session.query_age_s or 0.0) < OLD_S


@dataclass(frozen=True, kw_only=True, slots=True)
class _Turnover:
    """What two looks tell: the sessions of the first that had gone, and how many had come."""

    gone: tuple[Session, ...]
    came: int
    after_s: float


def judge(view: View) -> Verdict | None:
    """Two looks tell churn from a deploy, whose sessions are young as well, and stay."""
    turnover = _turnover(view)
    young = restless(view)
    if turnover is None:
        return _after_one_look(view, young)
    gone = turnover.gone
    if len(gone) < AT_LEAST or view.percent_of_used(len(gone)) < PERCENT:
        return None
    # Whoever goes a moment later is as restless as who has gone already.
    concerned = list({s.pid: s for s in (*gone, *young)}.values())
    large = view.share(len(concerned)) * 100 >= PERCENT_OF_SLOTS
    return Verdict(
        finding=_finding(
            view,
            concerned,
            confidence="strong",
            title=_title(turnover),
            because=f"{len(gone)} of {len(view.clients)} sessions were gone {age(turnover.after_s)}"
            f" later, and {turnover.came} new ones were there; a pool's would have stayed",
        ),
        weight="cause" if large else "also",
        concerns=frozenset(s.pid for s in concerned),
    )


def _turnover(view: View) -> _Turnover | None:
    later = view.snapshot.later
    if later is None or later.sessions is None or later.after_s <= 0:
        return None
    then = {(s.pid, s.backend_start or "") for s in view.snapshot.sessions}
    now = {(pid, started) for pid, started, _ in later.sessions}
    # Of a hidden session only the pid is known, and pids are used again.
    gone = [s for s in view.clients if s.backend_start and (s.pid, s.backend_start) not in now]
    return _Turnover(gone=tuple(gone), came=len(now - then), after_s=later.after_s)


def _title(turnover: _Turnover) -> str:
    closed = len(turnover.gone) / turnover.after_s
    opened = turnover.came / turnover.after_s
    return (
        f"connections come and go: at least {opened:.0f} opened and {closed:.0f} closed each second"
    )


def _after_one_look(view: View, young: list[Session]) -> Verdict | None:
    """One look cannot tell churn from a deploy, so it names no cause."""
    large = view.share(len(young)) * 100 >= PERCENT_OF_SLOTS
    if len(young) < AT_LEAST or not large or view.percent_of_used(len(young)) < PERCENT_ONE_LOOK:
        return None
    finding = _finding(
        view,
        young,
        confidence="weak",
        title=f"{count(len(young), 'session')} at work, opened less than {age(YOUNG_S)} ago",
        because="there was one look only, so whether they stay could not be seen",
    )
    return Verdict(finding=finding, weight="runner_up")


def _average_life(view: View) -> float | None:
    """Return how many seconds the sessions of the past have lived, where the server counts them."""
    rows = view.snapshot.extra.get(QUESTION.name)
    if not rows or not rows[0]["sessions"]:
        return None
    return float(rows[0]["seconds"]) / float(rows[0]["sessions"])


def _finding(
    view: View, concerned: list[Session], *, confidence: Confidence, title: str, because: str
) -> Finding:
    owners = view.owners(concerned)
    ages = sorted(s.age_s for s in concerned if s.age_s is not None)
    median = f"; half of them are younger than {age(ages[len(ages) // 2])}" if ages else ""
    life = _average_life(view)
    return Finding(
        cause="churn",
        title=f"{title}: {whose(owners)}",
        confidence=confidence,
        because=because,
        share=view.share(len(concerned)),
        evidence=(
            f"{len(concerned)} of {len(view.clients)} sessions come and go{median}",
            filled(view),
            *((f"sessions that have ended lived for {age(life)} on average",) if life else ()),
            *(f"last statement: {line}" for line in common_statements(concerned)),
        ),
        owners=owners,
        advice="There is nothing to terminate: they end by themselves, and others take their"
        " place. Let the application keep its connections (a pool in each process, persistent"
        " connections), or put PgBouncer in between; where it reconnects after errors, let it wait"
        " longer each time, by a random part.",
        command=look_again(view),
    )


FINDING = FindingType(
    name="churn",
    summary="Connections are opened and closed per request, or everybody reconnects at once.",
    judge=judge,
    questions=(QUESTION,),
    looks=f"Refusals come and go within seconds, the server's CPU is busy with forks and password"
    f" checks, and the list of sessions is another one each time: most are younger than"
    f" {age(YOUNG_S)}, often younger than a second.",
    told_apart=f"By two looks: at least {AT_LEAST} sessions and {PERCENT}% of them were gone at"
    " the second one, and others had come. A deploy or a restart makes young sessions as well, and"
    " they stay. It is a cause when what comes and goes holds"
    f" {PERCENT_OF_SLOTS}% of the usable slots. Where there was one look only, it is never more"
    f" than a hint, when {PERCENT_ONE_LOOK}% of the sessions are young and at work. A surge is work"
    " on connections that stay.",
    remedy="Now: lower the number of workers that connect, or shed load; after a failover, restart"
    " clients in batches. For good: a pool in the application (Django: `CONN_MAX_AGE`; PHP:"
    " persistent connections), PgBouncer between, and reconnects with backoff and jitter.",
)
