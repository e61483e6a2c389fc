"""Is the database full, and no other finding explains it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings.finding_type import FindingType, Verdict
from runbook.findings.words import count, filled, whose
from runbook.model.diagnosis import Finding

if TYPE_CHECKING:
    from runbook.findings.view import View


def judge(view: View) -> Verdict | None:
    """Say so rather than guess; the table asks this one after all that know a reason."""
    if not view.saturated:
        return None
    return Verdict(finding=_hidden(view) if _mostly_hidden(view) else _plain(view), weight="cause")


def _mostly_hidden(view: View) -> bool:
    return len(view.hidden) * 2 >= len(view.clients) > 0


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
        command=f"runbook diagnose {view.target}",
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
        command=f"runbook diagnose {view.target}",
    )


def grant(granted: str, role: str) -> str:
    """Return the statement that mends a missing right."""
    quoted = role.replace('"', '""')
    return f'GRANT {granted} TO "{quoted}";'


FINDING = FindingType(
    name="unexplained",
    summary="The slots are full, and nothing that could be seen tells why.",
    judge=judge,
)
