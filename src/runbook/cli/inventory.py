"""`runbook inventory`: list, show and validate the inventory."""

from __future__ import annotations

import json
from typing import Any

import click

from runbook.cli import options


@click.group("inventory")
def command() -> None:
    """List, show, validate the inventory."""


@command.command("list")
@options.inventory
@options.output("text", "json")
def list_(inventory: str | None, output_format: str) -> None:
    """List databases, services, hosts and groups: the names that other commands take."""
    from runbook import wiring
    from runbook.model.fleet import Fleet

    fleet: Fleet = wiring.load_fleet(inventory)
    listing = _listing(fleet)
    if output_format == "json":
        click.echo(json.dumps(listing, indent=2))
        return
    for kind, items in listing.items():
        click.echo(f"{kind}:" + ("" if items else " none"))
        for name, about in items.items():
            click.echo(f"  {name:<24} {about}".rstrip())


def _listing(fleet: Any) -> dict[str, dict[str, str]]:
    found = fleet.inventory
    groups: dict[str, list[str]] = {}
    for host in fleet.hosts.values():
        for group in host.groups:
            groups.setdefault(group, []).append(host.name)
    return {
        "databases": {n: f"{d.connect.host}:{d.connect.port}" for n, d in found.databases.items()},
        "services": {
            n: f"{len(fleet.service_hosts(n))} hosts ({s.hosts}), database {s.database or '-'}"
            for n, s in found.services.items()
        },
        "pgbouncers": {n: f"port {b.port}, for {b.database}" for n, b in found.pgbouncers.items()},
        "groups": {name: ", ".join(members) for name, members in groups.items()},
        "hosts": {h.name: h.address for h in fleet.hosts.values()},
    }


@command.command("show")
@click.argument("name", required=False)
@options.inventory
def show(name: str | None, inventory: str | None) -> None:
    """Print the inventory, or one NAME of it, as it came to be after groups and defaults.

    Secrets are references, and are printed as such.
    """
    from runbook import wiring
    from runbook.model.errors import UsageError

    fleet = wiring.load_fleet(inventory)
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


def _resolved(fleet: Any) -> dict[str, dict[str, Any]]:
    def dump(items: Any) -> dict[str, Any]:
        return {n: i.model_dump(mode="json", exclude_none=True) for n, i in items.items()}

    hosts = {
        host.name: {
            "address": host.address,
            "connection": "local" if host.local else "ssh",
            "sudo": host.sudo,
            "groups": list(host.groups),
            "vars": dict(host.vars),
            "ssh": host.ssh.model_dump(mode="json", exclude_none=True),
        }
        for host in fleet.hosts.values()
    }
    found = fleet.inventory
    return {
        "hosts": hosts,
        "databases": dump(found.databases),
        "services": dump(found.services),
        "pgbouncers": dump(found.pgbouncers),
    }


@command.command("validate")
@options.inventory
def validate(inventory: str | None) -> None:
    """Check the inventory; all mistakes are told, with file:line:column."""
    from runbook import wiring

    fleet = wiring.load_fleet(inventory)
    found = fleet.inventory
    click.echo(
        f"{fleet.source}: ok ({len(found.hosts)} hosts, {len(found.databases)} databases,"
        f" {len(found.services)} services, {len(found.pgbouncers)} PgBouncers)"
    )


@command.command("schema")
def schema() -> None:
    """Print the JSON Schema of the inventory, for editors."""
    from runbook.model.inventory import Inventory

    schema = Inventory.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    click.echo(json.dumps(schema, indent=2))
