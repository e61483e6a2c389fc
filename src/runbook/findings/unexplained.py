"""Is the database full, and no other finding explains it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings.finding_type import FindingType, Verdict
from runbook.findings.view import SATURATED
from runbook.findings.words import count, filled, look_again, whose
from runbook.model.diagnosis import Finding
from runbook.model.sessions import NO_ANSWER

if TYPE_CHECKING:
    from runbook.findings.view import View


def judge(view: View) -> Verdict | None:
    """Say so rather than guess; the table asks this one after all that know a reason."""
    if silent_doors(view):
        return Verdict(finding=_no_login(view), weight="cause")
    if not view.saturated:
        return None
    if view.snapshot.rung == "os":
        return Verdict(finding=_from_outside(view), weight="cause")
    return Verdict(finding=_hidden(view) if _mostly_hidden(view) else _plain(view), weight="cause")


def silent_doors(view: View) -> tuple[str, ...]:
    """Return the doors that took our connection and never answered the login."""
    return tuple(rung for rung, text in view.snapshot.refusals if NO_ANSWER in text)


def _no_login(view: View) -> Finding:
    doors = silent_doors(view)
    return Finding(
        cause="unexplained",
        title=f"the server takes connections and answers no login ({', '.join(doors)})",
        # Where another door of the network opened, the postmaster does answer logins.
        confidence="strong" if view.snapshot.rung in {"local", "os"} else "likely",
        because="the sessions that are in do not account for it: the postmaster is stopped or"
        " stuck, its host is overwhelmed, or something in between swallows what is sent",
        share=view.share(len(view.clients)),
        evidence=(filled(view), *(f"{rung}: {text}" for rung, text in view.snapshot.refusals)),
        owners=view.owners(view.clients),
        advice="Look on the server's host: `ps -o stat,etime,args` of the postmaster (T is stopped,"
        " D waits for a disk), its log, and the load. Nothing here is for runbook to terminate.",
        command=look_again(view),
    )


def _mostly_hidden(view: View) -> bool:
    return len(view.hidden) * 2 >= len(view.clients) > 0


def _from_outside(view: View) -> Finding:
    owners = view.owners(view.clients)
    silent = sum(s.idle_in_transaction for s in view.clients)
    return Finding(
        cause="unexplained",
        title=f"{filled(view)}: {len(view.idle)} idle, {silent} idle in transaction,"
        f" {len(view.active)} at work; whose: {whose(owners)}",
        confidence="weak",
        because="no door into the server was open, and its processes' titles tell states and"
        " addresses only",
        share=view.share(len(view.clients)),
        owners=owners,
        advice="Give runbook a door that has a slot of its own (databases: rescue, a role with"
        " REPLICATION; or admin), and look again. Until then ask the owner of the largest group.",
        command=look_again(view),
    )


def _hidden(view: View) -> Finding:
    role = view.snapshot.limits.role
    return Finding(
        cause="unexplained",
        title=f"{filled(view)}; why cannot be seen by role {role}",
        confidence="weak",
        because=f"the states of {count(len(view.hidden), 'session')} are hidden from it",
        share=view.share(len(view.hidden)),
        owners=view.owners(view.clients),
        advice=f"As a superuser: {grant('pg_monitor', role)} and diagnose again.",
        command=look_again(view),
    )


def _plain(view: View) -> Finding:
    idle, active = len(view.idle), len(view.active)
    owners = view.owners(view.clients)
    undeclared = [o for o in owners if o.budget is None]
    advice = "Look again in a minute, and compare whose share grows."
    if idle > active and undeclared:
        advice = (
            "Most are idle, in pools whose size the inventory does not know, so a leak cannot be"
            " told from healthy pools. Declare the pools (services: pool, application_name); until"
            " then ask the owner of the largest group, or restart that service."
        )
    return Finding(
        cause="unexplained",
        title=f"{filled(view)}: {idle} idle, {active} at work; whose: {whose(owners)}",
        confidence="weak",
        because="no rule singles out a cause: no limit, lock, long statement, silent transaction"
        " or declared pool accounts for it",
        share=view.share(len(view.clients)),
        evidence=(f"held by undeclared owners: {sum(o.sessions for o in undeclared)}",),
        owners=owners,
        advice=advice,
        command=look_again(view),
    )


def grant(granted: str, role: str) -> str:
    """Return the statement that mends a missing right."""
    quoted = role.replace('"', '""')
    return f'GRANT {granted} TO "{quoted}";'


FINDING = FindingType(
    name="unexplained",
    summary="The slots are full, and nothing that could be seen tells why.",
    judge=judge,
    looks=f"At least {SATURATED}% of the usable slots are in use, mostly by idle sessions, and none"
    " of the other causes holds.",
    told_apart="It is said rather than guessed: when the pools are not declared in the inventory,"
    " so that a leak cannot be told from a healthy pool; when our role may not see the states of"
    " most sessions; when only the host's processes could be seen.",
    remedy="Declare the pools (`services`: `pool`, `application_name`), grant `pg_monitor` to the"
    " role that looks, give the inventory a rescue role; then look again. Until then ask the owner"
    " of the largest group, or restart that service in batches.",
)
