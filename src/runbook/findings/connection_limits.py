"""The connection limits that roles and databases have of their own, and who counts against them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runbook.findings.view import View
    from runbook.model.leaks import LimitKind
    from runbook.model.sessions import Session


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitUse:
    """One limit, and the sessions that count against it."""

    kind: LimitKind
    name: str
    #: Connections that it allows, above 0.
    most: int
    sessions: tuple[Session, ...]


_QUESTIONS: dict[LimitKind, str] = {"role": "role-limits", "database": "database-limits"}
_OF: dict[LimitKind, Callable[[Session], str | None]] = {
    "role": lambda session: session.role,
    "database": lambda session: session.database,
}


def limits_in_use(view: View, *kinds: LimitKind) -> Iterator[LimitUse]:
    """Return the limits of these kinds; of all when none is named.

    A limit of 0 keeps everyone out on purpose, and superusers are exempt from every limit.
    """
    for kind in kinds or tuple(_QUESTIONS):
        for row in view.snapshot.extra.get(_QUESTIONS[kind], ()):
            if row["connlimit"] > 0:
                held = (s for s in view.clients if _OF[kind](s) == row["name"] and not s.superuser)
                yield LimitUse(
                    kind=kind, name=row["name"], most=row["connlimit"], sessions=tuple(held)
                )
