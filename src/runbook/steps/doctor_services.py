"""The doctor's look at services: the unit, the gates, the sessions as the inventory has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runbook.model.doctor import Check
from runbook.model.effects import HttpGet, HttpReply, Observe
from runbook.model.errors import DoorError, UsageError
from runbook.model.fleet import ResolvedHost
from runbook.model.inventory import Service
from runbook.model.systemd import Unfit
from runbook.steps.database_gate import Sessions, sessions_of
from runbook.steps.doctor_hosts import answers
from runbook.steps.doctor_rungs import row_of
from runbook.steps.doctor_scope import Scope, Seen, Subject
from runbook.steps.doctor_sessions import Rows, declared, strangers
from runbook.steps.gates import gate_looks, gate_problem
from runbook.steps.service_manager import manager_of

# ---- looks ---------------------------------------------------------------------------------


def first(scope: Scope, _seen: Seen) -> Iterator[HttpGet]:
    """Yield the gates of every service on every host: they are asked from here."""
    for _, service, host in scope.seats():
        yield from _gates(service, host, scope)


def second(scope: Scope, seen: Seen) -> Iterator[Observe[Any]]:
    """Yield a look at the unit, on the hosts that answer."""
    for name, service, host in scope.seats():
        if answers(seen, host.name):
            yield manager_of(name, service, host, scope.fleet).look()


def _gates(service: Service, host: ResolvedHost, scope: Scope) -> tuple[HttpGet, ...]:
    try:
        return gate_looks(service, host, scope.fleet)
    except UsageError:
        return ()  # told by `_gate`


# ---- judging -------------------------------------------------------------------------------


def judge(scope: Scope, seen: Seen) -> Iterator[Check]:
    """Yield the unit, the gates and the sessions of every service on every host."""
    for name, service, host in scope.seats():
        subject = Subject(area="services", name=f"{name} on {host.name}")
        unit = _unit(subject, name, service, host, scope, seen)
        yield unit
        if service.gates:
            yield _gate(subject, service, host, scope, seen, unit)
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
    service: Service,
    host: ResolvedHost,
    scope: Scope,
    seen: Seen,
    unit: Check,
) -> Check:
    try:
        looks = gate_looks(service, host, scope.fleet)
    except UsageError as error:
        return subject.check("gates", "missing", error.message, error.hint)
    replies = [seen.of(look) for look in looks]
    for reply in replies:
        if isinstance(reply, DoorError):
            return subject.failed("gates", reply)
    answered = tuple(reply for reply in replies if isinstance(reply, HttpReply))
    if len(answered) < len(looks):
        return subject.check("gates", "skipped", "they were not asked")
    problem = gate_problem(service, looks, answered)
    if problem is None:
        seconds = max(reply.seconds for reply in answered)
        return subject.check("gates", "ok", "answer", seconds=seconds)
    if unit.status in {"missing", "skipped"}:
        # One fault, told once: a gate of a service that is down cannot answer.
        return subject.check("gates", "skipped", f"{problem}; its unit comes first: {unit.said}")
    hint = "by hand, from this machine; the key is gates of the service in the inventory"
    failing = next(
        look
        for look, reply in zip(looks, answered, strict=True)
        if gate_problem(service, looks, answered) is not None and look.url in problem
    )
    return subject.check("gates", "missing", problem, hint, f"curl -i '{failing.url}'")


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
