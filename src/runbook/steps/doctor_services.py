"""The doctor's look at services: the unit, the gates, the sessions as the inventory has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runbook.model.doctor import Check
from runbook.model.effects import Observe
from runbook.model.errors import DoorError, UsageError
from runbook.model.fleet import ResolvedHost
from runbook.model.inventory import Service
from runbook.model.systemd import Unfit
from runbook.steps.database_gate import Sessions, sessions_of
from runbook.steps.doctor_hosts import answers
from runbook.steps.doctor_rungs import row_of
from runbook.steps.doctor_scope import Scope, Seen, Subject
from runbook.steps.doctor_sessions import Rows, declared, strangers
from runbook.steps.gates import Gates, gates_of, named
from runbook.steps.service_manager import manager_of

# ---- looks ---------------------------------------------------------------------------------


def first(scope: Scope, _seen: Seen) -> Iterator[Observe[Any]]:
    """Yield the gates of every service on every host that are asked from here."""
    for name, service, host in scope.seats():
        yield from _gates(name, service, host, scope).at("here").looks()


def second(scope: Scope, seen: Seen) -> Iterator[Observe[Any]]:
    """Yield the gates that a database answers; on hosts that answer, the unit and their gates."""
    for name, service, host in scope.seats():
        gates = _gates(name, service, host, scope)
        yield from gates.at("database").looks()
        if answers(seen, host.name):
            yield manager_of(name, service, host, scope.fleet).look()
            yield from gates.at("host").looks()


def _gates(name: str, service: Service, host: ResolvedHost, scope: Scope) -> Gates:
    try:
        return gates_of(name, service, host, scope.fleet)
    except UsageError:
        return Gates(each=())  # told by `_gate`


# ---- judging -------------------------------------------------------------------------------


def judge(scope: Scope, seen: Seen) -> Iterator[Check]:
    """Yield the unit, the gates and the sessions of every service on every host."""
    for name, service, host in scope.seats():
        subject = Subject(area="services", name=f"{name} on {host.name}")
        unit = _unit(subject, name, service, host, scope, seen)
        yield unit
        if service.gates:
            yield _gate(subject, name, service, host, scope, seen, unit)
        if service.database is not None:
            yield _sessions(subject, name, service, host, scope, seen)


def _unit(  # noqa: PLR0917 - one seat, as it stands
    subject: Subject, name: str, service: Service, host: ResolvedHost, scope: Scope, seen: Seen
) -> Check:
    manager = manager_of(name, service, host, scope.fleet)
    looked = seen.of(manager.look())
    if looked is None:
        return subject.check("unit", "skipped", f"{host.name} does not answer: see hosts")
    if isinstance(looked, DoorError):
        return subject.failed("unit", looked)
    unfit = manager.unfit(looked)
    if unfit is not None:
        said = f"{unfit.problem}; a rolling restart would refuse this host"
        return subject.check("unit", "missing", said, unfit.hint)
    down = manager.down(looked)
    if down is not None:
        *by_hand, mend = manager.by_hand(looked)
        return subject.check("unit", "missing", down, f"look first: {by_hand[0]}", mend)
    return subject.check("unit", "ok", "runs")


def _gate(  # noqa: PLR0917 - one seat, as it stands
    subject: Subject,
    name: str,
    service: Service,
    host: ResolvedHost,
    scope: Scope,
    seen: Seen,
    unit: Check,
) -> Check:
    try:
        gates = gates_of(name, service, host, scope.fleet)
    except UsageError as error:
        return subject.check("gates", "missing", error.message, error.hint)
    outcomes = [seen.of(look) for look in gates.looks()]
    asked = [(gate, own) for gate, own in gates.pairs(outcomes) if None not in own]
    bad = next(((gate, own) for gate, own in asked if gate.judge(own) is not None), None)
    if bad is None and len(asked) < len(gates.each):
        return subject.check("gates", "skipped", "they were not asked")
    if bad is None:
        seconds = max((getattr(each, "seconds", 0.0) for each in outcomes), default=0.0)
        return subject.check("gates", "ok", "answer", seconds=seconds)
    gate, own = bad
    problem = f"{gate.judge(own)} ({named(gate)})"
    unfit = gate.unaskable(own)
    if unfit is not None:
        return subject.check("gates", "missing", problem, unfit.hint, gate.by_hand())
    if unit.status in {"missing", "skipped"}:
        # One fault, told once: a gate of a service that is down cannot answer.
        return subject.check("gates", "skipped", f"{problem}; its unit comes first: {unit.said}")
    hint = "by hand, from this machine; the key is gates of the service in the inventory"
    return subject.check("gates", "missing", problem, hint, gate.by_hand())


# ---- sessions ------------------------------------------------------------------------------


def _sessions(  # noqa: PLR0917 - one seat, as it stands
    subject: Subject, name: str, service: Service, host: ResolvedHost, scope: Scope, seen: Seen
) -> Check:
    known = sessions_of(service, host, scope.fleet)
    if isinstance(known, Unfit):
        said = f"{known.problem}; a rolling restart would refuse this host"
        return subject.check("sessions", "missing", said, known.hint)
    row = row_of(str(service.database), scope, seen)
    if known is None or row is None:
        return subject.check("sessions", "skipped", f"no door of {service.database} opens")
    if not row["can_read_all"]:
        said = f"{row['role']} does not see whose sessions there are"
        return subject.check("sessions", "skipped", said)
    rows = declared(row, known)
    return _counted(subject, name, service, known, rows.sessions) or _unseen(
        subject, name, known, row, scope
    )


def _counted(
    subject: Subject, name: str, service: Service, known: Sessions, count: int
) -> Check | None:
    if count == 0:
        return None
    if service.pool is not None and count > service.pool.budget:
        said = (
            f"{count} sessions with {known}, over its declared pool of {service.pool.budget}:"
            " sessions leak, or the pool is larger than the inventory says"
        )
        hint = f"runbook diagnose {service.database}; or mend services.{name}.pool in the inventory"
        return subject.check("sessions", "warning", said, hint)
    budget = "" if service.pool is None else f", of a pool of {service.pool.budget}"
    said = f"{count} session{'' if count == 1 else 's'} with {known}{budget}"
    return subject.check("sessions", "ok", said)


def _unseen(
    subject: Subject, name: str, known: Sessions, row: Mapping[str, Any], scope: Scope
) -> Check:
    """No session bears the declared name: none is open, or the name is not as declared."""
    others: Rows = strangers(row, known, name, scope)
    if not others.sessions:
        said = f"no session with {known} at this moment: an idle pool may have none"
        return subject.check("sessions", "skipped", said)
    said = (
        f"no session with {known}, but {others.sessions} that nobody declares: {others.named};"
        " sessions that cannot be told apart are nobody's at night"
    )
    hint = (
        "let the app set it (PGAPPNAME, or application_name in its connection string), or declare"
        " what it sets"
    )
    mend = f"PGAPPNAME={known.application}" if known.application else ""
    return subject.check("sessions", "warning", said, hint, mend)
