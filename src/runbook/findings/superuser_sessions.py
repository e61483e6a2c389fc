"""Do superusers' sessions take the slots, or the reserve that is meant for an emergency?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings.finding_type import FindingType, Verdict
from runbook.findings.refusals import refused_everybody
from runbook.findings.words import age, count, look_again, psql, session_words, whose
from runbook.model.diagnosis import Finding

if TYPE_CHECKING:
    from runbook.findings.view import View
    from runbook.model.diagnosis import Owner
    from runbook.model.sessions import Session

#: A DBA at a console and an exporter are two; PostgreSQL reserves three for them by default.
AT_LEAST = 3
#: Percent of max_connections from which on they are a cause of their own: so many are no people
#: and no monitors, but an application.
PERCENT = 20
#: Evidence names this many sessions.
NAMED = 3


def judge(view: View) -> Verdict | None:
    """A cause once they are many and the slots are gone; worth a word when they eat the reserve."""
    inside = [s for s in view.clients if s.superuser]
    if len(inside) < AT_LEAST:
        return None
    many = len(inside) * 100 >= PERCENT * view.slots.max_connections
    full = view.saturated or refused_everybody(view.snapshot)
    eaten = len(inside) >= view.slots.superuser_reserved
    if not (full and eaten) and not many:
        return None
    finding = _finding(view, inside, full=full)
    return Verdict(finding=finding, weight="cause" if full and many else "also")


def _finding(view: View, inside: list[Session], *, full: bool) -> Finding:
    owners = view.owners(inside)
    slots = view.slots
    return Finding(
        cause="superuser-sessions",
        title=f"{count(len(inside), 'session')} of superusers: {whose(owners)}",
        confidence="certain" if full else "strong",
        because="each takes an ordinary slot while the reserve stays reserved: of max_connections"
        f" {slots.max_connections}, {slots.usable} are left to ordinary roles"
        + (", and at an emergency no superuser gets in" if full else ""),
        share=view.share(len(inside)),
        evidence=_evidence(view, inside),
        owners=owners,
        advice=_advice(owners),
        command=psql(view, _who_may_what(inside)) if view.database else look_again(view),
    )


def _evidence(view: View, inside: list[Session]) -> tuple[str, ...]:
    slots = view.slots
    longest = sorted(inside, key=lambda s: -(s.age_s or 0.0))[:NAMED]
    reserve = count(slots.superuser_reserved, "slot")
    return (
        f"superusers hold {count(len(inside), 'slot')}; the reserve for them is {reserve}",
        *(
            f"{session_words(s, view)}, as {s.role or 'a hidden role'},"
            f" connected for {age(s.age_s)}"
            for s in longest
        ),
    )


def _roles(inside: list[Session]) -> list[str]:
    return sorted({s.role for s in inside if s.role})


def _advice(owners: tuple[Owner, ...]) -> str:
    service = next((owner.service for owner in owners if owner.service), None)
    who = f"{service} logs in" if service else "What logs in so often"
    return (
        f"runbook terminates no superuser's session: ask the owners to let go. {who}"
        f"{' as a superuser' if service else ' as one'} needs a role of its own without SUPERUSER"
        " (CREATE ROLE … LOGIN, GRANT what it uses); a monitor needs pg_monitor, a backup"
        " REPLICATION or pg_read_all_data, whoever terminates pg_signal_backend."
    )


def _who_may_what(inside: list[Session]) -> str:
    """Return the statement that counts these roles' sessions by application and address."""
    names = ", ".join("'" + role.replace("'", "''") + "'" for role in _roles(inside))
    return (
        "SELECT usename, application_name, client_addr, count(*), min(backend_start)"  # noqa: S608 - for people; quoted
        f" FROM pg_stat_activity WHERE usename IN ({names}) GROUP BY 1, 2, 3 ORDER BY 4 DESC"
    )


FINDING = FindingType(
    name="superuser-sessions",
    summary="Superusers' sessions take the slots and the reserve: often an application that"
    " should not be one.",
    judge=judge,
    looks="Ordinary roles are refused long before `max_connections` are in use, and in the end"
    " everybody is, with `sorry, too many clients already`: the reserve for superusers is taken by"
    " superusers, so the one who is to help does not get in.",
    told_apart=f"By the role's attribute SUPERUSER: at least {AT_LEAST} such sessions, and"
    f" {PERCENT}% of `max_connections` with the slots gone, make a cause. Fewer are named besides"
    " the cause when they are as many as `superuser_reserved_connections` while the slots are gone."
    " What the sessions do does not matter here; leaked ones among them are counted over their pool"
    " as well.",
    remedy="Now: ask their owners to let go; they are never terminated by runbook. For good: give"
    " each application, monitor and backup a role of its own without SUPERUSER, and keep the"
    " reserve for people.",
)
