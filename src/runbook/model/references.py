"""References inside an inventory that must lead somewhere: groups, hosts, databases, selectors."""

from __future__ import annotations

from collections.abc import Iterator

from runbook.model.document import Document, DocumentPath, Problem, nearest
from runbook.model.errors import InvalidDocument, UsageError
from runbook.model.fleet import Fleet
from runbook.model.inventory import Argv, Inventory, Service
from runbook.model.templates import expand
from runbook.model.validation import problem_at


def check_references(inventory: Inventory, document: Document) -> None:
    """Check that every name in the inventory leads to something in it.

    Raises:
        InvalidDocument: with each reference that leads nowhere.
    """
    problems = [*_databases(inventory, document), *_bouncers(inventory, document)]
    fleet = Fleet(inventory, document.source)
    for name, service in inventory.services.items():
        problems += _service(fleet, name, service, document)
    if problems:
        raise InvalidDocument(problems)


def _missing(
    document: Document, path: DocumentPath, kind: str, name: str | None, known: list[str]
) -> Iterator[Problem]:
    if name is None or name in known:
        return
    near = nearest(name, known)
    hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(known[:8]) or 'none'}"
    yield problem_at(document, path, f"there is no {kind} named {name!r}", hint)


def _databases(inventory: Inventory, document: Document) -> Iterator[Problem]:
    for name, database in inventory.databases.items():
        path = ("databases", name, "host")
        yield from _missing(document, path, "host", database.host, list(inventory.hosts))


def _bouncers(inventory: Inventory, document: Document) -> Iterator[Problem]:
    for name, bouncer in inventory.pgbouncers.items():
        path = ("pgbouncers", name)
        databases = list(inventory.databases)
        yield from _missing(document, (*path, "host"), "host", bouncer.host, list(inventory.hosts))
        yield from _missing(document, (*path, "database"), "database", bouncer.database, databases)


def _service(fleet: Fleet, name: str, service: Service, document: Document) -> Iterator[Problem]:
    path = ("services", name)
    databases = list(fleet.inventory.databases)
    yield from _missing(document, (*path, "database"), "database", service.database, databases)
    try:
        hosts = fleet.select(service.hosts)
    except UsageError as error:
        yield problem_at(document, (*path, "hosts"), error.message, error.hint)
        return
    yield from _twins(fleet, hosts, (*path, "hosts"), document)
    for where, text in _templates(service):
        for host in hosts:
            try:
                expand(text, {"host": fleet.host(host).scope()})
            except UsageError as error:
                message = f"{error.message} (for host {host})"
                yield problem_at(document, (*path, *where), message, error.hint)
                break


def _twins(
    fleet: Fleet, names: tuple[str, ...], path: DocumentPath, document: Document
) -> Iterator[Problem]:
    """One machine under two names would be restarted twice, and count as its own spare."""
    seen: dict[tuple[str, int | None, str | None], str] = {}
    for host in (fleet.host(name) for name in names):
        if host.local:
            continue  # one machine may well run several servers by commands of its own
        first = seen.setdefault((host.address, host.ssh.port, host.ssh.jump), host.name)
        if first != host.name:
            message = f"{first} and {host.name} are the same machine: {host.address}"
            hint = "leave one of them out of this service's hosts"
            yield problem_at(document, path, message, hint)


def _templates(service: Service) -> Iterator[tuple[DocumentPath, str]]:
    if service.application_name is not None:
        yield ("application_name",), service.application_name
    for index, gate in enumerate(service.gates):
        if gate.http is not None:
            yield ("gates", index, "http", "url"), gate.http.url
    if service.manager != "systemd":
        command = service.manager.command
        yield from _words("restart", command.restart)
        yield from _words("status", command.status)


def _words(key: str, argv: Argv) -> Iterator[tuple[DocumentPath, str]]:
    for index, word in enumerate(argv):
        yield ("manager", "command", key, index), word
