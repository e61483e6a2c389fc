"""What the inventory leaves out, and what cannot be told or done at night because of it."""

from __future__ import annotations

from collections.abc import Iterator

from runbook.model.doctor import Check
from runbook.model.inventory import Service
from runbook.steps.doctor_scope import Scope, Seen, Subject


def judge(scope: Scope, _seen: Seen) -> Iterator[Check]:
    """Yield a warning for each key that is worth having, and one check for each service."""
    for name, service in scope.services.items():
        yield from _service(Subject(area="inventory", name=name), name, service)
    yield from _unused(scope)
    if not scope.databases and not scope.hosts:
        # Nothing was tried, and nothing may not pass for everything being well.
        subject = Subject(area="inventory", name=scope.fleet.source)
        said = "it has no database and no host: there is no door to try"
        yield subject.check("empty", "missing", said, "is it the right file? -i names another")


def _service(subject: Subject, name: str, service: Service) -> Iterator[Check]:
    lacking = tuple(_lacking(name, service))
    for key, said, mend in lacking:
        hint = f"under services.{name} in the inventory"
        yield subject.check(f"no-{key}", "warning", f"no {key}: {said}", hint, mend)
    if not lacking:
        yield subject.check("declared", "ok", "everything that tells its sessions apart")


def _lacking(name: str, service: Service) -> Iterator[tuple[str, str, str]]:
    """Yield each missing key, what it costs, and the YAML to add."""
    if service.database is None:
        said = "its sessions are nobody's, and a restart is not held against any database"
        yield "database", said, "database: NAME"
        return  # the keys below are about its sessions
    if service.application_name is None:
        said = "its sessions are told apart by address alone, and behind a pooler or NAT not at all"
        yield "application_name", said, f"application_name: {name}-${{host.name}}"
    if service.pool is None:
        said = "nobody knows how many sessions it may hold, so that hardly a leak can be proved"
        yield "pool", said, "pool: {processes: 1, size: 5, overflow: 0}"
    if not service.gates:
        said = "a restarted host counts as healthy as soon as its process runs"
        yield "gates", said, 'gates: [{http: {url: "http://${host.address}:8000/healthz"}}]'


def _unused(scope: Scope) -> Iterator[Check]:
    """A database without a service: whose sessions are those?"""
    for name in scope.databases:
        if not scope.fleet.services_of(name):
            said = "no service uses it: its sessions are told by role and address, owned by nobody"
            hint = "under services in the inventory, for the application that uses it"
            mend = f"NAME: {{hosts: GROUP, unit: NAME.service, database: {name}}}"
            subject = Subject(area="inventory", name=name)
            yield subject.check("no-service", "warning", said, hint, mend)
