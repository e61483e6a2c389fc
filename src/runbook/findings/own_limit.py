"""The limits that roles and databases have of their own: the same arithmetic for both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook.findings.connection_limits import LimitUse, limits_in_use
from runbook.findings.finding_type import Verdict
from runbook.findings.leak_proof import prove
from runbook.findings.words import count, identifier, psql, remediate, whose
from runbook.model.diagnosis import Finding
from runbook.model.leaks import LeakPolicy

if TYPE_CHECKING:
    from runbook.findings.view import View
    from runbook.model.leaks import LimitKind

#: Percent of a limit from which on it is worth a word.
NEAR = 80
#: A smaller limit is a fence around one monitor or one job, and full whenever that is at work.
FENCE = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnLimit:
    """One kind of limit: what it is called, and how it is changed."""

    cause: str
    kind: LimitKind
    alter: str


def judge_limit(view: View, limit: OwnLimit) -> Verdict | None:
    """Judge the fullest limit of a kind; None when none is near."""
    uses = limits_in_use(view, limit.kind)
    near = [use for use in uses if len(use.sessions) * 100 >= NEAR * use.most]
    if not near:
        return None
    use = max(near, key=lambda use: len(use.sessions) / use.most)
    full = len(use.sessions) >= use.most
    hurts = full and use.most >= FENCE
    return Verdict(finding=_finding(view, limit, use), weight="cause" if hurts else "also")


def _finding(view: View, limit: OwnLimit, use: LimitUse) -> Finding:
    name, most, held = use.name, use.most, use.sessions
    used, owners = len(held), view.owners(held)
    full = used >= most
    slots = view.slots
    raise_it = f"{limit.alter} {identifier(name)} CONNECTION LIMIT {max(used, most) * 3 // 2 + 1}"
    return Finding(
        cause=limit.cause,
        title=f"{limit.kind} {name} {'has used up' if full else 'is close to'} its own limit:"
        f" {used} of {count(most, 'connection')}",
        confidence="certain",
        because=f"the server's catalogue sets the limit, and {used} sessions of it are in use",
        share=view.share(len(held)),
        evidence=(
            f"CONNECTION LIMIT of {limit.kind} {name}: {most}; in use: {used}",
            f"the server as a whole: {slots.used} of {slots.usable} slots in use",
            f"held by {whose(owners)}",
        ),
        owners=owners,
        advice=f"The limit was set on purpose: find out first why it is full. To raise it, as its"
        f" owner or a superuser, where the server has room: {raise_it}",
        command=_command(view, {s.pid for s in held}, raise_it),
    )


def _command(view: View, held: set[int], raise_it: str) -> str:
    """Leaked sessions under the limit are the better remedy; raising it is the other one."""
    leaked = {proved.session.pid for proved in prove(view, LeakPolicy()).sessions}
    if held & leaked:
        return remediate(view, "--terminate-idle")
    return psql(view, raise_it)
