"""Which of a server's sessions bear a declared name, and which nobody declares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from runbook.model.application_name import as_server_keeps
from runbook.steps.database_gate import Sessions, sessions_of
from runbook.steps.doctor_scope import Scope

#: Names that are told; more would be no help.
_NAMES_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Some of the counted sessions: how many, and what they call themselves."""

    sessions: int
    named: str


def declared(row: Mapping[str, Any], known: Sessions) -> Rows:
    """Return the sessions that are recognised as one service's on one host."""
    return _summed(entry for entry in _entries(row) if _is(entry, known, row))


def strangers(row: Mapping[str, Any], known: Sessions, service: str, scope: Scope) -> Rows:
    """Return the sessions that could be this seat's under another name.

    Those of its role, where the inventory declares one; else those of its host's address; else
    all that no service declares, when the service has no recognised session on any host.
    """
    everyone = _everyone(known.database, scope)
    free = [e for e in _entries(row) if not any(_is(e, other, row) for _, other in everyone)]
    free = [e for e in free if not str(e["application"]).startswith("runbook ")]
    if known.role is not None:
        return _summed(e for e in free if e["role"] == _oid(row, known.role))
    own = [other for name, other in everyone if name == service]
    if any(declared(row, other).sessions for other in own):
        return Rows(sessions=0, named="")
    ours = {login["oid"] for login in row["roles"] or ()}
    return _summed(e for e in free if e["role"] not in ours)


def _everyone(database: str, scope: Scope) -> list[tuple[str, Sessions]]:
    found = []
    for name, service in scope.fleet.services_of(database).items():
        for host in scope.fleet.service_hosts(name):
            known = sessions_of(service, host, scope.fleet)
            if isinstance(known, Sessions):
                found.append((name, known))
    return found


def _is(entry: Mapping[str, Any], known: Sessions, row: Mapping[str, Any]) -> bool:
    """Recognise a session as the database gate does: by name, by address, by role."""
    if known.application is not None:
        kept = as_server_keeps(known.application, row["version_num"])
        if entry["application"] != kept:
            return False
    if known.address is not None and entry["address"] != known.address:
        return False
    return known.role is None or entry["role"] == _oid(row, known.role)


def _oid(row: Mapping[str, Any], role: str) -> int | None:
    return next((fact["oid"] for fact in row["roles"] or () if fact["name"] == role), None)


def _entries(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(row["sessions"] or ())


def _summed(entries: Iterable[Mapping[str, Any]]) -> Rows:
    listed = list(entries)
    counts: dict[str, int] = {}
    for entry in listed:
        name = entry["application"] or "(no name)"
        counts[name] = counts.get(name, 0) + entry["sessions"]
    top = sorted(counts.items(), key=lambda pair: -pair[1])
    shown = [f"{name} ({count})" for name, count in top[:_NAMES_SHOWN]]
    more = [f"{len(top) - _NAMES_SHOWN} more"] if len(top) > _NAMES_SHOWN else []
    return Rows(sessions=sum(counts.values()), named=", ".join([*shown, *more]))
