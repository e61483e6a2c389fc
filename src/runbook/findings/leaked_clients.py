"""Do applications hold connections to a PgBouncer that they have lost?"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from runbook.findings.finding_type import FindingType, Verdict, Weight
from runbook.findings.words import count, look_again, remediate
from runbook.model.diagnosis import Finding

if TYPE_CHECKING:
    from runbook.findings.holders import Callers
    from runbook.findings.view import View
    from runbook.model.sessions import Session

#: A group of clients over its declared pool by this many is a leak and no deploy's overlap.
AT_LEAST = 3
#: Percent of the usable slots that the excess must keep, as for leaked sessions: only in session
#: mode does an idle client keep one at all.
PERCENT_OF_SLOTS = 10
#: Groups that are named in the evidence.
NAMED = 4


def judge(view: View) -> Verdict | None:
    """Clients over a declared pool are leaked in any mode; they are a cause as far as they keep
    sessions of PostgreSQL.
    """
    groups = over_pool(view)
    if not groups:
        return None
    kept = {group.label: _kept(view, group) for group in groups}
    return Verdict(finding=_finding(view, groups, kept), weight=_weight(view, groups, kept))


def over_pool(view: View, bouncer: str | None = None) -> tuple[Callers, ...]:
    """Return the groups of clients that hold more connections than their declared pools."""
    return tuple(
        group
        for group in view.callers
        if group.budget is not None
        and not group.doubt
        and len(group.clients) >= group.budget + AT_LEAST
        and bouncer in {None, group.bouncer}
    )


def over(group: Callers) -> str:
    """Return `shop on web-01 holds 13 connections to PgBouncer bouncer-01, its pool is 10`."""
    return (
        f"{group.label} holds {len(group.clients)} connections to PgBouncer {group.bouncer}, its"
        f" pool is {group.budget}"
    )


def restart(view: View, group: Callers) -> str:
    """Return the rolling restart of a group's service; another look if it is not one."""
    if group.service is None:
        return look_again(view)
    return remediate(view, f"--rolling-restart --service {shlex.quote(group.service)}")


def _kept(view: View, group: Callers) -> list[Session]:
    """Return the idle sessions that a group's clients keep from everybody else."""
    clients = {client.ptr for client in group.clients}
    return [
        session
        for holder in view.holders
        if holder.bouncer == group.bouncer and any(c.ptr in clients for c in holder.clients)
        for session in holder.sessions
        if session.idle
    ]


def _excess(group: Callers) -> int:
    return len(group.clients) - (group.budget or 0)


def _weight(view: View, groups: tuple[Callers, ...], kept: dict[str, list[Session]]) -> Weight:
    lost = sum(min(_excess(group), len(kept[group.label])) for group in groups)
    return "cause" if view.share(lost) * 100 >= PERCENT_OF_SLOTS else "also"


def _finding(view: View, groups: tuple[Callers, ...], kept: dict[str, list[Session]]) -> Finding:
    first = groups[0]
    held = [session for sessions in kept.values() for session in sessions]
    more = f"; {count(len(groups) - 1, 'other owner')} likewise" if len(groups) > 1 else ""
    return Finding(
        cause=FINDING.name,
        title=f"{over(first)}{more}",
        confidence="strong",
        because="a pool cannot hold more connections than it may open (declared in the inventory)",
        share=view.share(len(held)),
        evidence=(
            *(f"{over(group)}: {_excess(group)} too many" for group in groups[:NAMED]),
            f"idle sessions of PostgreSQL that these clients keep: {len(held)}",
        ),
        owners=view.owners(held),
        advice="The leak is in the code of the service. In session mode each of these clients keeps"
        " a session; in any mode they count against max_client_conn. Ending a session of"
        " PgBouncer's frees its slot for a moment, and not the client: the restart gives both"
        " back, for a while.",
        command=restart(view, first),
    )


FINDING = FindingType(
    name="leaked-clients",
    summary="Applications hold connections to a PgBouncer that their pools have lost.",
    judge=judge,
    looks="PgBouncer has more and more clients, most of them idle. In session mode its pool fills,"
    " or PostgreSQL does; in transaction mode nothing is felt until max_client_conn is reached.",
    told_apart="A service on one host has at least three connections more to PgBouncer than its"
    " declared pool may open; in leaked-sessions the connections go to PostgreSQL directly. It is a"
    " cause when those too many keep 10% of the usable slots, which only session mode lets them,"
    " and worth a word in any case.",
    remedy="Restart the service that holds them, a few hosts at a time, and mend its code. Ending"
    " sessions of PostgreSQL does not reach the clients. Transaction mode keeps idle clients from"
    " holding sessions, where the application can live with it.",
)
