"""`runbook inventory`: list, show, validate and import inventories."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from runbook.cli import inventory_import, options

if TYPE_CHECKING:
    from runbook.model.fleet import Fleet, ResolvedHost
    from runbook.model.inventory import Service

#: Names that a line of the list shows before it counts the rest.
_SHOWN = 6


@click.group("inventory")
def command() -> None:
    """List, show, validate the inventory; make one of an Ansible inventory."""


command.add_command(inventory_import.command)

limit = click.option(
    "--limit",
    metavar="SELECTOR",
    help="Only these hosts: names, groups, env=prod, with and, or, not.",
)


@command.command("list")
@options.inventory
@limit
@options.output("text", "json")
def list_(inventory: str | None, limit: str | None, output_format: str) -> None:
    """List databases, services, hosts and groups: the names that other commands take."""
    from runbook import wiring

    fleet = wiring.load_fleet(inventory).limited(limit)
    listing = _listing(fleet, full=output_format == "json")
    if output_format == "json":
        click.echo(json.dumps(listing, indent=2))
        return
    for kind, items in listing.items():
        click.echo(f"{kind}:" + ("" if items else " none"))
        for name, about in items.items():
            click.echo(f"  {name:<24} {about}".rstrip())


def _listing(fleet: Fleet, *, full: bool) -> dict[str, dict[str, str]]:
    found = fleet.inventory
    chosen = [fleet.hosts[name] for name in fleet.select("all")] if fleet.hosts else []
    hosts = {"hosts": {host.name: host.address for host in chosen}}
    groups = {"groups": _groups(chosen, full=full)}
    if fleet.limit is not None:
        return {**groups, **hosts}
    return {
        "databases": {n: f"{d.connect.host}:{d.connect.port}" for n, d in found.databases.items()},
        "services": {
            n: f"{len(fleet.service_hosts(n))} hosts ({s.hosts}), database {s.database or '-'}"
            for n, s in found.services.items()
        },
        "pgbouncers": {n: f"port {b.port}, for {b.database}" for n, b in found.pgbouncers.items()},
        **groups,
        **hosts,
    }


def _groups(hosts: list[ResolvedHost], *, full: bool) -> dict[str, str]:
    groups: dict[str, list[str]] = {}
    for host in hosts:
        for group in host.groups:
            groups.setdefault(group, []).append(host.name)
    return {name: _some(members, full=full) for name, members in groups.items()}


def _some(members: list[str], *, full: bool) -> str:
    more = len(members) - _SHOWN
    if full or more <= 0:
        return ", ".join(members)
    return f"{', '.join(members[:_SHOWN])} and {more} more"


@command.command("show")
@click.argument("name", required=False)
@options.inventory
@limit
def show(name: str | None, inventory: str | None, limit: str | None) -> None:
    """Print the inventory, or one NAME of it, as it came to be after groups and defaults.

    A service is shown with its hosts, and with what one host and all of them may hold of its
    database; a database with the services and PgBouncers that use it. Secrets are references, and
    are printed as such.
    """
    from runbook import wiring
    from runbook.model.errors import UsageError

    fleet = wiring.load_fleet(inventory).limited(limit)
    whole = _resolved(fleet)
    if name is None:
        click.echo(json.dumps(whole, indent=2))
        return
    found = {kind: {name: items[name]} for kind, items in whole.items() if name in items}
    if not found:
        known = sorted({key for items in whole.values() for key in items})
        raise UsageError(f"{name!r} is nowhere in {fleet.source}", hint=_near(name, known))
    click.echo(json.dumps(found, indent=2))


def _near(name: str, known: list[str]) -> str:
    from runbook.model.document import nearest

    near = nearest(name, known)
    return f"did you mean {near!r}?" if near else "`runbook inventory list` shows all names"


def _resolved(fleet: Fleet) -> dict[str, dict[str, Any]]:
    def dump(items: Any) -> dict[str, Any]:
        return {n: i.model_dump(mode="json", exclude_none=True) for n, i in items.items()}

    found = fleet.inventory
    chosen = fleet.select("all") if fleet.hosts else ()
    hosts = {name: _host(fleet.hosts[name]) for name in chosen}
    groups: dict[str, Any] = {}
    for name in chosen:
        for group in fleet.hosts[name].groups:
            groups.setdefault(group, {"hosts": []})["hosts"].append(name)
    databases = {n: {**d, **_users_of(fleet, n)} for n, d in dump(found.databases).items()}
    services = {n: {**s, **_came_to(fleet, n)} for n, s in dump(found.services).items()}
    return {
        "hosts": hosts,
        "groups": groups,
        "databases": databases,
        "services": services,
        "pgbouncers": dump(found.pgbouncers),
    }


def _host(host: ResolvedHost) -> dict[str, Any]:
    return {
        "address": host.address,
        "connection": "local" if host.local else "ssh",
        "sudo": host.sudo,
        "groups": list(host.groups),
        "vars": dict(host.vars),
        "ssh": host.ssh.model_dump(mode="json", exclude_none=True),
    }


def _users_of(fleet: Fleet, database: str) -> dict[str, Any]:
    bouncers = fleet.inventory.pgbouncers.items()
    budgets = {
        name: _budget(fleet, name, service) for name, service in fleet.services_of(database).items()
    }
    return {
        "used_by": list(budgets),
        "pgbouncers": [name for name, bouncer in bouncers if bouncer.database == database],
        "declared_connections": sum(budget or 0 for budget in budgets.values()),
        "undeclared_services": [name for name, budget in budgets.items() if budget is None],
    }


def _came_to(fleet: Fleet, name: str) -> dict[str, Any]:
    """What a service's selector, templates and pool come to; `hosts` stays as written."""
    service, hosts = fleet.service(name), fleet.service_hosts(name)
    names = {host.name: dict(_filled(fleet, service, host)) for host in hosts}
    return {
        "selected_hosts": names,
        "connections_per_host": service.pool.budget if service.pool else None,
        "connections": _budget(fleet, name, service),
    }


def _filled(fleet: Fleet, service: Service, host: ResolvedHost) -> Iterator[tuple[str, Any]]:
    yield "address", host.address
    if service.application_name is not None:
        yield "application_name", fleet.expand(service.application_name, host)
    urls = [fleet.expand(g.http.url, host) for g in service.gates if g.http is not None]
    if urls:
        yield "http_gates", urls


def _budget(fleet: Fleet, name: str, service: Service) -> int | None:
    """What the service may hold in all; None when it declares no pool."""
    return service.pool.budget * len(fleet.service_hosts(name)) if service.pool else None


@command.command("validate")
@options.inventory
def validate(inventory: str | None) -> None:
    """Check the inventory; all mistakes are told, with file:line:column."""
    from runbook import wiring
    from runbook.model.document import visible

    fleet = wiring.load_fleet(inventory)
    for remark in fleet.remarks:
        click.echo(visible(f"{remark.owner}: {remark.what}"), err=True)
    found = fleet.inventory
    click.echo(
        f"{fleet.source}: ok ({len(found.hosts)} hosts, {len(found.databases)} databases,"
        f" {len(found.services)} services, {len(found.pgbouncers)} PgBouncers)"
    )


@command.command("schema")
def schema() -> None:
    """Print the JSON Schema of the inventory, for editors."""
    from runbook.engine.schema import inventory_schema

    click.echo(json.dumps(inventory_schema(), indent=2))
