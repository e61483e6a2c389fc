"""References inside an inventory that must lead somewhere: groups, hosts, databases, selectors."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from itertools import islice

from runbook.model.document import Document, DocumentPath, Problem, nearest
from runbook.model.errors import InvalidDocument, UsageError
from runbook.model.fleet import Fleet
from runbook.model.inventory import Argv, Drain, Gate, Inventory, Service
from runbook.model.templates import expand, placeholders
from runbook.model.validation import problem_at


def check_references(inventory: Inventory, document: Document) -> Fleet:
    """Return the inventory made ready, once every name in it leads to something in it.

    Raises:
        InvalidDocument: with each reference that leads nowhere.
    """
    problems = [*_databases(inventory, document), *_bouncers(inventory, document)]
    fleet = Fleet(inventory, document.source)
    for name, service in inventory.services.items():
        problems += _service(fleet, name, service, document)
    if problems:
        raise InvalidDocument(problems)
    return fleet


def _missing(
    document: Document, path: DocumentPath, kind: str, name: str | None, known: Collection[str]
) -> Iterator[Problem]:
    if name is None or name in known:
        return
    near = nearest(name, known)
    listed = ", ".join(islice(known, 8)) or "none"
    hint = f"did you mean {near!r}?" if near else f"there are: {listed}"
    yield problem_at(document, path, f"there is no {kind} named {name!r}", hint)


def _databases(inventory: Inventory, document: Document) -> Iterator[Problem]:
    for name, database in inventory.databases.items():
        path = ("databases", name, "host")
        yield from _missing(document, path, "host", database.host, inventory.hosts)


def _bouncers(inventory: Inventory, document: Document) -> Iterator[Problem]:
    for name, bouncer in inventory.pgbouncers.items():
        path = ("pgbouncers", name)
        databases = inventory.databases
        yield from _missing(document, (*path, "host"), "host", bouncer.host, inventory.hosts)
        yield from _missing(document, (*path, "database"), "database", bouncer.database, databases)


def _service(fleet: Fleet, name: str, service: Service, document: Document) -> Iterator[Problem]:
    path = ("services", name)
    databases = fleet.inventory.databases
    yield from _missing(document, (*path, "database"), "database", service.database, databases)
    for index, gate in enumerate(service.gates):
        for kind, asked in (("sql", gate.sql), ("pg_released", gate.pg_released)):
            own = (*path, "gates", index, kind, "database")
            named = asked.database if asked is not None else None
            yield from _missing(document, own, "database", named, databases)
            if asked is not None and named is None and service.database is None:
                message = f"{kind} asks no database: neither the gate nor the service names one"
                hint = "write database: NAME in the gate or in the service"
                yield problem_at(document, own, message, hint)
    try:
        hosts = fleet.whole(service.hosts)
    except UsageError as error:
        yield problem_at(document, (*path, "hosts"), error.message, error.hint)
        return
    yield from _twins(fleet, hosts, (*path, "hosts"), document)
    yield from _drain(fleet, service, hosts, (*path, "drain"), document)
    for where, text in _templates(service):
        for host in hosts if _differs(text) else hosts[:1]:
            try:
                expand(text, {"host": fleet.host(host).scope()})
            except UsageError as error:
                message = f"{error.message} (for host {host})"
                yield problem_at(document, (*path, *where), message, error.hint)
                break


def _differs(text: str) -> bool:
    """Whether a template may be good for one host and not for another: every host has a name."""
    return bool(set(placeholders(text)) - {"host.name", "host.address"})


def _drain(
    fleet: Fleet, service: Service, hosts: tuple[str, ...], path: DocumentPath, document: Document
) -> Iterator[Problem]:
    """The machines that take hosts out of rotation are hosts of the inventory themselves."""
    drain, known = service.drain, fleet.inventory.hosts
    if drain is None:
        return
    if drain.haproxy is not None:
        on = drain.haproxy.on
        if isinstance(on, str):
            yield from _missing(document, (*path, "haproxy", "on"), "host", on, known)
            return
        for index, name in enumerate(on):
            yield from _missing(document, (*path, "haproxy", "on", index), "host", name, known)
    elif drain.command is not None and drain.command.on is not None:
        where = (*path, "command", "on")
        for name in dict.fromkeys(_expanded(fleet, drain.command.on, hosts)):
            yield from _missing(document, where, "host", name, known)


def _expanded(fleet: Fleet, text: str, hosts: tuple[str, ...]) -> Iterator[str]:
    """The text for each host; a var that is missing is told with the other templates."""
    for host in hosts:
        with suppress(UsageError):
            yield fleet.expand(text, fleet.host(host))


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
        for where, text in _gate_templates(gate):
            yield ("gates", index, *where), text
    if service.drain is not None:
        for where, text in _drain_templates(service.drain):
            yield ("drain", *where), text
    if service.manager != "systemd":
        command = service.manager.command
        yield from _words(("manager", "command", "restart"), command.restart)
        yield from _words(("manager", "command", "status"), command.status)


def _gate_templates(gate: Gate) -> Iterator[tuple[DocumentPath, str]]:
    if gate.http is not None:
        yield ("http", "url"), gate.http.url
        for name, value in gate.http.send.items():
            yield ("http", "send", name), value
    if gate.tcp is not None:
        yield ("tcp", "host"), gate.tcp.host
        yield ("tcp", "port"), str(gate.tcp.port)
    if gate.systemd is not None and gate.systemd.unit is not None:
        yield ("systemd", "unit"), gate.systemd.unit
    if gate.command is not None:
        yield from _words(("command", "argv"), gate.command.argv)
    if gate.sql is not None:
        yield ("sql", "sql"), gate.sql.sql


def _drain_templates(drain: Drain) -> Iterator[tuple[DocumentPath, str]]:
    if drain.haproxy is not None:
        yield ("haproxy", "server"), drain.haproxy.server
    if drain.command is not None:
        yield ("command", "on"), drain.command.on or ""
        for key in ("drain", "undrain", "status"):
            yield from _words(("command", key), getattr(drain.command, key) or ())
    yield from _words(("connections",), drain.connections or ())


def _words(path: DocumentPath, argv: Argv) -> Iterator[tuple[DocumentPath, str]]:
    for index, word in enumerate(argv):
        yield (*path, index), word
