"""The limits that roles and databases have of their own: the same arithmetic for both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook.findings.finding_type import Verdict
from runbook.findings.leak_proof import prove
from runbook.findings.words import count, identifier, psql, remediate, whose
from runbook.model.diagnosis import Finding
from runbook.model.leaks import LeakPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from runbook.findings.view import View
    from runbook.model.sessions import Session

#: Percent of a limit from which on it is worth a word.
NEAR = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnLimit:
    """One kind of limit: where it is read, and which sessions count against it."""

    cause: str
    question: str
    kind: str
    alter: str
    of: Callable[[Session], str | None]


def judge_limit(view: View, limit: OwnLimit) -> Verdict | None:
    """Judge the fullest limit of a kind; None when none is near."""
    reached = [
        (sum(limit.of(s) == row["name"] and not s.superuser for s in view.clients), row)
        for row in view.snapshot.extra.get(limit.question, ())
        if row["connlimit"] > 0  # 0 keeps everyone out on purpose
    ]
    near = [(used, row) for used, row in reached if used * 100 >= NEAR * row["connlimit"]]
    if not near:
        return None
    used, row = max(near, key=lambda pair: pair[0] / pair[1]["connlimit"])
    finding = _finding(view, limit, row["name"], used, row["connlimit"])
    return Verdict(finding=finding, weight="cause" if used >= row["connlimit"] else "also")


def _finding(view: View, limit: OwnLimit, name: str, used: int, most: int) -> Finding:
    held = [s for s in view.clients if limit.of(s) == name and not s.superuser]
    owners = view.owners(held)
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
