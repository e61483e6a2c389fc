"""The inventory made ready: groups and defaults applied, names looked up, hosts selected."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from runbook.model.ansible_inventory import Remark
from runbook.model.document import nearest, quoted, shorten
from runbook.model.errors import UsageError
from runbook.model.inventory import (
    Database,
    Host,
    Inventory,
    PgBouncer,
    Scalar,
    Service,
    Ssh,
)
from runbook.model.selectors import HostIndex
from runbook.model.sockets import plain
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

    def __init__(
        self, inventory: Inventory, source: str = "inventory.yaml", *, limit: str | None = None
    ) -> None:
        self.inventory = inventory
        #: The file it came from, for error messages.
        self.source = source
        #: A selector that `select` is narrowed to; see `limited`.
        self.limit = limit
        #: What a program's output had, and this inventory could not take over.
        self.remarks: tuple[Remark, ...] = ()

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

    def limited(self, selector: str | None) -> Fleet:
        """Return this inventory with every `select` narrowed to what `selector` names.

        Only the choice of hosts to act on is narrowed: a service is still as large as it is, see
        `whole` and `service_hosts`. None is no limit.

        Raises:
            UsageError: for a selector that cannot be read or selects nothing.
        """
        narrowed = Fleet(self.inventory, self.source, limit=selector)
        narrowed.__dict__.update(
            {key: self.__dict__[key] for key in ("hosts", "_index") if key in self.__dict__}
        )
        narrowed.remarks = self.remarks
        if selector is not None:
            self.whole(selector)
        return narrowed

    def select(self, expression: str) -> tuple[str, ...]:
        """Return the hosts to act on: those that a selector names, within the limit, never none.

        They come in the inventory's order.

        Raises:
            UsageError: see `runbook.model.selectors.select`; and when the limit leaves none.
        """
        chosen = self.whole(expression)
        within = tuple(name for name in chosen if name in self._within)
        if not within:
            raise UsageError(
                f"--limit {shorten(str(self.limit))} leaves none of the {len(chosen)} hosts that"
                f" {quoted(expression)} selects",
                hint=f"those are {some_of(chosen)}; `runbook inventory list --limit SELECTOR` shows"
                " what a limit selects",
            )
        return within

    def whole(self, expression: str) -> tuple[str, ...]:
        """Return all the hosts that a selector names, whatever the limit: to count, not to act.

        Raises:
            UsageError: see `runbook.model.selectors.select`.
        """
        return self._index.select(expression)

    def beyond_limit(self, expression: str) -> tuple[str, ...]:
        """Return the hosts that a selector names and the limit drops."""
        return tuple(name for name in self.whole(expression) if name not in self._within)

    def service_hosts(self, service: str) -> tuple[ResolvedHost, ...]:
        """Return the hosts that a service runs on, whatever the limit."""
        return tuple(self.hosts[name] for name in self.whole(self.service(service).hosts))

    def services_of(self, database: str) -> dict[str, Service]:
        """Return the services that use a database."""
        return {n: s for n, s in self.inventory.services.items() if s.database == database}

    def same_server(self, database: str) -> tuple[str, ...]:
        """Return the databases behind the same host and port, itself among them.

        Sessions and slots are the server's: two of the inventory's databases may be on one.
        """
        known = self.inventory.databases
        if database not in known:
            return (database,)
        places = {
            name: (plain(other.connect.host.casefold()), other.connect.port)
            for name, other in known.items()
        }
        return tuple(name for name, place in places.items() if place == places[database])

    def pgbouncer(self, name: str) -> PgBouncer:
        """Return one PgBouncer.

        Raises:
            UsageError: when the inventory has none of that name.
        """
        return self._find("PgBouncer", name, self.inventory.pgbouncers)

    def pgbouncers_of(self, target: str | None) -> dict[str, PgBouncer]:
        """Return a PgBouncer, those in front of a database, or (None) all; never none.

        Raises:
            UsageError: when there is neither of that name, or no PgBouncer.
        """
        known = self.inventory.pgbouncers
        if target in known:
            return {target: known[target]}
        if target is not None and target not in self.inventory.databases:
            names: dict[str, object] = {**known, **self.inventory.databases}
            self._find("PgBouncer or database", target, names)
        found = {n: b for n, b in known.items() if target in {None, b.database}}
        if not found:
            where = f" in front of {target!r}" if target else ""
            raise UsageError(
                f"{self.source} has no PgBouncer{where}",
                hint="declare it under pgbouncers, or put one in between: `runbook pgbouncer"
                " introduce`",
            )
        return found

    def expand(self, text: str, host: ResolvedHost) -> str:
        """Return `text` with `${host.…}` filled in."""
        return str(expand(text, {"host": host.scope()}))

    @cached_property
    def _index(self) -> HostIndex:
        return HostIndex(
            tuple(
                (
                    host.name,
                    frozenset(host.groups),
                    {key: _word(value) for key, value in host.vars.items()},
                )
                for host in self.hosts.values()
            )
        )

    @cached_property
    def _within(self) -> Collection[str]:
        return self.hosts if self.limit is None else frozenset(self.whole(self.limit))

    def _find(self, kind: str, name: str, items: Mapping[str, ItemT]) -> ItemT:
        if name in items:
            return items[name]
        near = nearest(name, list(items))
        listing = ", ".join(list(items)[:8]) or "none"
        hint = f"did you mean {near!r}?" if near else f"{self.source} has: {listing}"
        raise UsageError(f"{self.source} has no {kind} named {name!r}", hint=hint)

    def _resolve(self, name: str, host: Host) -> ResolvedHost:
        layers = [self.inventory.groups[g] for g in host.groups if g in self.inventory.groups]
        merged_vars: dict[str, Scalar] = dict(self.inventory.defaults.vars)
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


def some_of(names: Sequence[str]) -> str:
    """A few of the names, and how many more there are."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def _word(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
