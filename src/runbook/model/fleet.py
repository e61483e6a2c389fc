"""The inventory made ready: groups and defaults applied, names looked up, hosts selected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from runbook.model.document import nearest
from runbook.model.errors import UsageError
from runbook.model.inventory import (
    Database,
    Host,
    Inventory,
    Scalar,
    Service,
    Ssh,
)
from runbook.model.selectors import Attributes, select
from runbook.model.templates import expand

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedHost:
    """A host with everything that its groups and the defaults give it."""

    name: str
    address: str
    local: bool
    #: Whether changes are prefixed with `sudo -n`.
    sudo: bool
    groups: tuple[str, ...]
    vars: Mapping[str, Scalar]
    ssh: Ssh

    def scope(self) -> dict[str, object]:
        """Return what `${host.…}` may name."""
        return {"name": self.name, "address": self.address, "vars": dict(self.vars)}


class Fleet:
    """Looks things up in an inventory; every miss is an error that names the nearest."""

    def __init__(self, inventory: Inventory, source: str = "inventory.yaml") -> None:
        self.inventory = inventory
        #: The file it came from, for error messages.
        self.source = source

    @cached_property
    def hosts(self) -> Mapping[str, ResolvedHost]:
        """Every host, resolved, in the inventory's order."""
        return {name: self._resolve(name, host) for name, host in self.inventory.hosts.items()}

    def host(self, name: str) -> ResolvedHost:
        """Return one host.

        Raises:
            UsageError: when the inventory has none of that name.
        """
        return self._find("host", name, self.hosts)

    def database(self, name: str) -> Database:
        """Return one database.

        Raises:
            UsageError: when the inventory has none of that name.
        """
        return self._find("database", name, self.inventory.databases)

    def service(self, name: str) -> Service:
        """Return one service.

        Raises:
            UsageError: when the inventory has none of that name.
        """
        return self._find("service", name, self.inventory.services)

    def select(self, expression: str) -> tuple[str, ...]:
        """Return the hosts that a selector names, in the inventory's order, never none.

        Raises:
            UsageError: see `runbook.model.selectors.select`.
        """
        return select(expression, self._attributes)

    def service_hosts(self, service: str) -> tuple[ResolvedHost, ...]:
        """Return the hosts that a service runs on."""
        return tuple(self.hosts[name] for name in self.select(self.service(service).hosts))

    def services_of(self, database: str) -> dict[str, Service]:
        """Return the services that use a database."""
        return {n: s for n, s in self.inventory.services.items() if s.database == database}

    def expand(self, text: str, host: ResolvedHost) -> str:
        """Return `text` with `${host.…}` filled in."""
        return str(expand(text, {"host": host.scope()}))

    @cached_property
    def _attributes(self) -> tuple[Attributes, ...]:
        return tuple(
            (
                host.name,
                frozenset(host.groups),
                {key: _word(value) for key, value in host.vars.items()},
            )
            for host in self.hosts.values()
        )

    def _find(self, kind: str, name: str, items: Mapping[str, ItemT]) -> ItemT:
        if name in items:
            return items[name]
        near = nearest(name, list(items))
        listing = ", ".join(list(items)[:8]) or "none"
        hint = f"did you mean {near!r}?" if near else f"{self.source} has: {listing}"
        raise UsageError(f"{self.source} has no {kind} named {name!r}", hint=hint)

    def _resolve(self, name: str, host: Host) -> ResolvedHost:
        layers = [self.inventory.groups[g] for g in host.groups if g in self.inventory.groups]
        merged_vars: dict[str, Scalar] = {}
        for layer in layers:
            merged_vars.update(layer.vars)
        ssh = _merge(self.inventory.defaults.ssh, *(layer.ssh for layer in layers), host.ssh)
        return ResolvedHost(
            name=name,
            address=host.address or name,
            local=host.connection == "local",
            sudo=host.sudo if host.sudo is not None else _sudo_by_default(host, ssh),
            groups=host.groups,
            vars={**merged_vars, **host.vars},
            ssh=ssh,
        )


def _merge(*layers: Ssh) -> Ssh:
    given: dict[str, object] = {}
    for layer in layers:
        given.update(layer.model_dump(exclude_none=True))
    return Ssh.model_validate(given)


def _sudo_by_default(host: Host, ssh: Ssh) -> bool:
    """Root needs no sudo, and a command on this very machine runs as whoever asked."""
    return host.connection == "ssh" and ssh.user != "root"


def _word(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
