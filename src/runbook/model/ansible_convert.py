"""Makes a runbook inventory of an Ansible one: the same hosts, groups and vars, exactly.

Ansible lays a host's vars over each other in an order that no order of groups alone can repeat
(`group_vars/all` wins over a group's vars in the inventory's own file). So each host's vars are
worked out as Ansible does; groups then carry what comes out right for all of their hosts, and a
host says what differs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from runbook.model.ansible_inventory import (
    ALL,
    UNGROUPED,
    AnsibleGroup,
    AnsibleInventory,
    Ranking,
    Raw,
    Remark,
)
from runbook.model.ansible_settings import (
    ADDRESS,
    CONNECTION,
    Setting,
    Settings,
    settings_of,
)
from runbook.model.document import Place
from runbook.model.inventory import Scalar

#: RFC 2606 keeps this domain from ever being somebody's: nothing is reached by a guess.
UNKNOWN_ADDRESS = "address-not-carried-over.invalid"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_ADDRESS = re.compile(r"[A-Za-z0-9:\[][A-Za-z0-9.:%_\[\]-]{0,252}")
_REACHED_BY = (ADDRESS, ("ssh", "port"))

Values = dict[Setting, Scalar]


@dataclass(kw_only=True, slots=True)
class Imported:
    """A runbook inventory in the making, and what is to be said about it."""

    defaults: Values = field(default_factory=dict)
    groups: dict[str, Values] = field(default_factory=dict)
    hosts: dict[str, Values] = field(default_factory=dict)
    #: Each host's groups, by the names that they have here.
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    #: Vars that only Ansible has a use for, and how often they were given.
    ansibles_own: Counter[str] = field(default_factory=Counter)
    #: Hosts whose address is not known.
    unreachable: set[str] = field(default_factory=set)


def convert(inventory: AnsibleInventory) -> Imported:
    """Return the inventory in runbook's terms, with a remark for whatever it could not take."""
    return _Conversion(inventory).run()


class _Conversion:
    def __init__(self, inventory: AnsibleInventory) -> None:
        self._inventory = inventory
        self._ranking = Ranking(inventory)
        self._imported = Imported(remarks=list(inventory.remarks))
        self._groups: dict[str, str] = {}
        self._given: dict[str, Values] = {}
        self._inherited_by: dict[tuple[str, ...], Values] = {}

    def run(self) -> Imported:
        self._remark_vars()
        ranked = {name: self._ranking.groups_of(name) for name in self._inventory.hosts}
        wanted = {name: self._wanted(name, groups) for name, groups in ranked.items()}
        names = self._host_names(wanted)
        self._name_groups({group for name in names for group in ranked[name]})
        self._give({n: ranked[n] for n in names}, {n: wanted[n].values for n in names})
        for name, new in names.items():
            self._host(name, new, ranked[name], wanted[name])
        imported = self._imported
        imported.defaults = self._given.get(ALL, {})
        imported.groups = {new: self._given.get(old, {}) for old, new in self._groups.items()}
        imported.groups = {name: values for name, values in imported.groups.items() if values}
        self._remark_names()
        return imported

    # Hosts

    def _wanted(self, name: str, groups: tuple[str, ...]) -> Settings:
        """What a host comes to, by Ansible's own order: files of vars over the inventory's."""
        host = self._inventory.hosts[name]
        ranked = [self._inventory.groups[group] for group in (ALL, *groups)]
        layers = [
            *(group.vars for group in ranked),
            *(group.file_vars for group in ranked),
            host.vars,
            host.file_vars,
        ]
        merged: dict[str, Raw] = {}
        for layer in layers:
            merged.update(layer)
        return settings_of(merged)

    def _host_names(self, wanted: Mapping[str, Settings]) -> dict[str, str]:
        """The hosts that can be carried over, and the names that they have here."""
        names: dict[str, str] = {}
        taken = {name for name in self._inventory.hosts if _NAME.fullmatch(name)}
        for name, host in self._inventory.hosts.items():
            if CONNECTION in wanted[name].lost:
                why = wanted[name].reasons.get("ansible_connection", "cannot be carried over")
                self._remark(f"host {name}", f"left out: its ansible_connection {why}", host.place)
                continue
            new = _fitting(name, taken)
            if new is None:
                what = "left out: its name cannot be one here (letters, digits, '.', '_', '-')"
                self._remark(f"host {name}", what, host.place)
                continue
            if new != name:
                self._remark(f"host {name}", f"is called {new} here", host.place)
            names[name] = new
        return names

    def _host(self, name: str, new: str, groups: tuple[str, ...], wanted: Settings) -> None:
        own = {
            key: value
            for key, value in wanted.values.items()
            if not _same(self._inherited(groups).get(key), value)
        }
        if own.get(CONNECTION) == "ssh":
            del own[CONNECTION]
        if new != name and ADDRESS not in own and _ADDRESS.fullmatch(name):
            own[ADDRESS] = name
        lost = [setting for setting in _REACHED_BY if setting in wanted.lost]
        if (lost or (new != name and ADDRESS not in own)) and own.get(CONNECTION) != "local":
            own[ADDRESS] = UNKNOWN_ADDRESS
            self._imported.unreachable.add(new)
            what = f"how it is reached is not known: its address is {UNKNOWN_ADDRESS}; mend it"
            self._remark(f"host {name}", what, self._inventory.hosts[name].place)
        self._imported.hosts[new] = own
        self._imported.members[new] = tuple(
            self._groups[group] for group in groups if group in self._groups
        )

    # Groups

    def _name_groups(self, used: set[str]) -> None:
        taken = {name for name in used if _NAME.fullmatch(name)}
        for name in sorted(used, key=list(self._inventory.groups).index):
            if name == UNGROUPED:
                continue
            new = _fitting(name, taken)
            if new is None:
                self._remark(f"group {name}", "left out: its name cannot be one here", None)
                continue
            if new != name:
                self._remark(f"group {name}", f"is called {new} here", None)
            self._groups[name] = new

    def _give(self, ranked: Mapping[str, tuple[str, ...]], wanted: Mapping[str, Values]) -> None:
        """Let groups carry what their hosts have, and nothing that one of them must not have."""
        for name in (ALL, *self._groups):
            values = settings_of(_vars_of(self._inventory.groups[name])).values
            self._given[name] = {k: v for k, v in values.items() if k[0] != "host"}
        unwanted: set[Setting] = set()
        for host, groups in ranked.items():
            unwanted |= self._inherited(groups).keys() - wanted[host].keys()
        for values in self._given.values():
            for setting in unwanted & values.keys():
                del values[setting]
        while useless := self._useless(ranked, wanted):
            for group, setting in useless:
                del self._given[group][setting]
        self._inherited_by.clear()

    def _useless(
        self, ranked: Mapping[str, tuple[str, ...]], wanted: Mapping[str, Values]
    ) -> set[tuple[str, Setting]]:
        """What groups carry, and each host that it comes to must overrule."""
        useless = {(group, setting) for group, found in self._given.items() for setting in found}
        for host, groups in ranked.items():
            winners: dict[Setting, str] = {}
            for group in (ALL, *groups):
                winners.update(dict.fromkeys(self._given.get(group, {}), group))
            for setting, group in winners.items():
                if _same(self._given[group][setting], wanted[host][setting]):
                    useless.discard((group, setting))
        return useless

    def _inherited(self, groups: tuple[str, ...]) -> Values:
        """What a host in these groups has without a word of its own."""
        if groups not in self._inherited_by:
            merged: Values = {}
            for group in (ALL, *groups):
                merged.update(self._given.get(group, {}))
            self._inherited_by[groups] = merged
        return self._inherited_by[groups]

    # What is said

    def _remark_vars(self) -> None:
        for group in self._inventory.groups.values():
            for layer in (group.vars, group.file_vars):
                self._remark_layer(f"group {group.name}", layer)
        for host in self._inventory.hosts.values():
            for layer in (host.vars, host.file_vars):
                self._remark_layer(f"host {host.name}", layer)

    def _remark_layer(self, owner: str, layer: Mapping[str, Raw]) -> None:
        found = settings_of(layer)
        self._imported.ansibles_own.update(found.ansibles_own)
        for name, reason in found.reasons.items():
            self._remark(owner, f"{name} {reason}", layer[name].place)

    def _remark_names(self) -> None:
        for name in sorted(set(self._groups.values()) & self._imported.hosts.keys()):
            what = f"a host has this name too: select the group as group={name}"
            self._remark(f"group {name}", what, None)
        empty = [n for n in self._inventory.groups if n not in {ALL, UNGROUPED, *self._groups}]
        for name in empty:
            if not any(r.owner == f"group {name}" for r in self._imported.remarks):
                self._remark(f"group {name}", "left out: it has no hosts", None)

    def _remark(self, owner: str, what: str, place: Place | None) -> None:
        self._imported.remarks.append(Remark(owner, what, place))


def _vars_of(group: AnsibleGroup) -> dict[str, Raw]:
    return {**group.vars, **group.file_vars}


def _same(given: Scalar | None, wanted: Scalar) -> bool:
    """1, 1.0, true and "1" are four different values."""
    return type(given) is type(wanted) and given == wanted


def _fitting(name: str, taken: set[str]) -> str | None:
    """The name, or the nearest that is allowed here and not taken."""
    if _NAME.fullmatch(name):
        return name
    new = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")
    if not _NAME.fullmatch(new) or new in taken:
        return None
    taken.add(new)
    return new


def inventory_data(imported: Imported) -> dict[str, object]:
    """Return the inventory as the plain data that `Inventory` takes."""
    return {
        "version": 1,
        "defaults": _nested(imported.defaults),
        "groups": {name: _nested(values) for name, values in imported.groups.items()},
        "hosts": {
            name: {
                **dict(_of_host(values)),
                **({"groups": list(imported.members[name])} if imported.members[name] else {}),
                **_nested(values),
            }
            for name, values in imported.hosts.items()
        },
    }


def _of_host(values: Values) -> Iterator[tuple[str, Scalar]]:
    for (kind, key), value in values.items():
        if kind == "host":
            yield key, value


def _nested(values: Values) -> dict[str, object]:
    found: dict[str, dict[str, Scalar]] = {}
    for (kind, key), value in values.items():
        if kind != "host":
            found.setdefault(kind, {})[key] = value
    return {kind: found[kind] for kind in ("ssh", "vars") if kind in found}
