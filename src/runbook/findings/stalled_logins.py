"""Do logins that never end hold the slots, while few sessions are seen?"""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook.findings import churn
from runbook.findings.finding_type import FindingType, Verdict, Weight
from runbook.findings.refusals import refused_everybody, slot_refusals, taken_at_least
from runbook.findings.words import age, count, look_again
from runbook.model.diagnosis import Confidence, Finding, Owner
from runbook.model.effects import Question

if TYPE_CHECKING:
    from runbook.findings.view import View

#: Seconds after which a login counts as stalled: a password check takes milliseconds, a directory
#: server (LDAP, RADIUS) that answers at all takes less than a second.
STALLED_S = 1.0
#: Fewer than this many are a port scan, or a client with a slow line.
AT_LEAST = 3
#: Percent of max_connections that they must hold to be a cause.
PERCENT = 20
#: One shut door is chance: slots come and go. This many in a row, with slots that nobody is seen
#: to hold, are not.
REFUSALS = 2
#: PostgreSQL's default; a login that takes longer is ended by the server.
AUTHENTICATION_TIMEOUT_S = 60

# A login is inside a transaction from before its password is asked for, so it holds the lock of
# its own virtual transaction; the list of sessions does not show it before PostgreSQL 18 (measured
# on 15 and 18). What has sent no startup packet has no such lock: only the host sees that.
QUESTION = Question(
    name="logins",
    sql="""
SELECT l.pid
  FROM pg_locks l LEFT JOIN pg_stat_get_activity(NULL) a USING (pid)
 WHERE l.locktype = 'virtualxid' AND l.pid IS NOT NULL AND a.pid IS NULL""",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """Logins that have not ended, and who told of them."""

    number: int
    #: In words: `the processes of db-01`.
    by: str
    #: Where they come from, where that is told, with their numbers.
    addresses: Counter[str]
    oldest_s: float | None
    #: Those of them that have not even said who they are, so that no address is told.
    silent: int = 0


def judge(view: View) -> Verdict | None:
    """What is seen of logins comes first; slots that nobody is seen to hold are a hint."""
    seen = _by_host(view) or _by_server(view)
    if seen is not None:
        return _seen_verdict(view, seen)
    return _inferred(view)


def suspects(view: View) -> bool:
    """Whether the server's own host is worth asking who holds the slots."""
    return _by_server(view) is not None or _many(view, unaccounted(view))


def unaccounted(view: View) -> int:
    """Return the slots that were taken when a door was shut and that nobody is seen to hold."""
    held = sum(s.is_client for s in view.snapshot.sessions)
    return max(0, taken_at_least(view.snapshot) - held)


def _many(view: View, number: int) -> bool:
    """Whether this many slots are too many for chance, as a part of max_connections."""
    return number >= AT_LEAST and number * 100 >= PERCENT * view.slots.max_connections


def _by_host(view: View) -> _Seen | None:
    processes = view.snapshot.processes
    if processes is None:
        return None
    stalled = [p for p in processes.processes if p.kind == "logging_in" and p.age_s >= STALLED_S]
    if len(stalled) < AT_LEAST:
        return None
    return _Seen(
        number=len(stalled),
        by=f"the processes of {processes.host} show them",
        addresses=Counter(p.client_addr for p in stalled if p.client_addr),
        oldest_s=max(p.age_s for p in stalled),
        silent=sum(p.client_addr is None for p in stalled),
    )


def _by_server(view: View) -> _Seen | None:
    """PostgreSQL 18 lists logins as `starting`; before, their locks give them away."""
    starting = [s for s in view.clients if s.state == "starting" and (s.age_s or 0.0) >= STALLED_S]
    known = {s.pid for s in view.snapshot.sessions}
    locked = [row for row in view.snapshot.extra.get(QUESTION.name, ()) if row["pid"] not in known]
    if len(starting) + len(locked) < AT_LEAST:
        return None
    told = "the server lists them as starting" if starting else "their locks give them away"
    return _Seen(
        number=len(starting) + len(locked),
        by=told,
        addresses=Counter(s.client_addr for s in starting if s.client_addr),
        oldest_s=max((s.age_s for s in starting if s.age_s is not None), default=None),
    )


def _seen_verdict(view: View, seen: _Seen) -> Verdict | None:
    weight: Weight = "cause" if _many(view, seen.number) else "also"
    if weight == "also" and not refused_everybody(view.snapshot):
        return None  # logins that nobody is kept out by
    old = f", the oldest for {age(seen.oldest_s)}" if seen.oldest_s is not None else ""
    starting = frozenset(s.pid for s in view.clients if s.state == "starting")
    finding = _finding(
        view,
        number=seen.number,
        title=f"{count(seen.number, 'login')} {'has' if seen.number == 1 else 'have'} begun and not"
        f" ended{old}: they hold slots before anybody is logged in",
        confidence="certain" if seen.oldest_s is not None else "strong",
        because=seen.by,
        evidence=_whence(seen),
        owners=_owners(view, seen.addresses),
    )
    return Verdict(finding=finding, weight=weight, concerns=starting)


def _whence(seen: _Seen) -> tuple[str, ...]:
    lines = [f"{number} from {address}" for address, number in seen.addresses.most_common(4)]
    if seen.silent:
        lines.append(
            f"{seen.silent} have not said who they are: a title shows no address before that;"
            " `ss` on the server's host does"
        )
    return tuple(lines)


def _inferred(view: View) -> Verdict | None:
    """Slots are gone, and nobody is seen to hold them: likely after several shut doors only.

    Where the host's processes were seen, there is nobody who is not.
    """
    if view.snapshot.processes is not None:
        return None
    gone = unaccounted(view)
    if not _many(view, gone):
        return None
    doors = slot_refusals(view.snapshot)
    several = len(doors) >= REFUSALS
    likely = several and not churn.suspects(view)
    held = sum(s.is_client for s in view.snapshot.sessions)
    finding = _finding(
        view,
        number=gone,
        title=f"{gone} slots are taken by nobody who is seen: {held} sessions are in, and"
        f" {count(len(doors), 'door')} {'was' if len(doors) == 1 else 'were'} shut",
        confidence="likely" if likely else "weak",
        because="logins that have not ended hold slots, and the server does not list them"
        if several
        else "one shut door is no proof: slots come and go",
        evidence=(),
        owners=(),
    )
    return Verdict(finding=finding, weight="cause" if likely else "runner_up")


def _finding(
    view: View,
    *,
    number: int,
    title: str,
    confidence: Confidence,
    because: str,
    evidence: tuple[str, ...],
    owners: tuple[Owner, ...],
) -> Finding:
    held = len(view.clients)
    shut = slot_refusals(view.snapshot)
    refused = (f"no slot for us at {', '.join(shut)}",) if shut else ()
    # Sockets without a startup packet fill a larger table than max_connections.
    share = view.share(min(number, view.slots.max_connections))
    return Finding(
        cause="stalled-logins",
        title=title,
        confidence=confidence,
        because=because,
        share=share,
        evidence=(
            f"{count(held, 'session')} in the list; max_connections {view.slots.max_connections}",
            *refused,
            *evidence,
        ),
        owners=owners,
        advice="See on the server's host who they are. Usual: a load balancer's or a monitor's"
        " check that only opens the port, clients behind a network that drops packets, a slow"
        " directory server, a storm of reconnects. The server ends each after"
        f" authentication_timeout ({AUTHENTICATION_TIMEOUT_S} s by default); a lower one frees them"
        " sooner.",
        command=_command(view),
    )


def _command(view: View) -> str:
    """Return the command that counts the addresses behind the server's port, on its host."""
    database = view.database
    if database is None or database.host is None:
        return look_again(view)
    port = database.local.port if database.local else database.connect.port
    look = f"ss -Htn state established '( sport = :{port} )' | awk '{{print $4}}'"
    remote = f"{look} | sed 's/:[0-9]*$//' | sort | uniq -c | sort -rn | head"
    return shlex.join(["ssh", view.fleet.host(database.host).address, remote])


def _owners(view: View, addresses: Counter[str]) -> tuple[Owner, ...]:
    """Return whose they are by address: the service of that host, where there is one only."""
    found = []
    for address, number in addresses.most_common():
        at = {(seat.service, seat.host.name) for seat in view.seats if seat.host.address == address}
        service, host = at.pop() if len(at) == 1 else (None, None)
        found.append(
            Owner(
                service=service,
                host=host,
                client_addr=address,
                sessions=number,
                concerned=number,
            )
        )
    return tuple(found)


FINDING = FindingType(
    name="stalled-logins",
    summary="Logins that never end hold the slots: all are refused, and few sessions are seen.",
    judge=judge,
    questions=(QUESTION,),
    looks="Everybody is refused with `sorry, too many clients already`, superusers too, while the"
    " list of sessions is short and the applications that are in work on without trouble.",
    told_apart=f"By logins older than {STALLED_S:g} s: the processes of the server's host show"
    " them (`authentication`, or no title yet); PostgreSQL 18 lists those that have said who they"
    " are as `starting`; before, their locks give them away. They are a cause when they are at"
    f" least {AT_LEAST} and {PERCENT}% of `max_connections`. Where only the arithmetic speaks"
    f" (doors were shut, and {PERCENT}% of the slots have no holder), it takes {REFUSALS} shut"
    " doors to call it likely: after one it may be churn. A leak and a surge show their sessions in"
    " the list.",
    remedy="Now: find the address that holds most of the port's connections (`ss` on the server's"
    " host), and stop that client or check. For good: let health checks log in or keep to"
    f" `pg_isready`, lower `authentication_timeout` ({AUTHENTICATION_TIMEOUT_S} s by default;"
    " `ALTER SYSTEM` and a reload), mend the slow directory server, let clients reconnect with"
    " backoff and jitter, and let only the application's network reach the port.",
)
