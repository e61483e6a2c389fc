"""An Ansible inventory as its files say it: groups of groups, hosts, vars, each with its place.

Sources add to it one after the other, as Ansible reads them; nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from runbook.model.document import Place, quoted

ALL, UNGROUPED = "all", "ungrouped"


@dataclass(frozen=True, slots=True)
class Foreign:
    """A value that only Ansible can read, by its YAML tag: `!vault`."""

    tag: str


@dataclass(frozen=True, slots=True)
class Raw:
    """The value of a var as it is written, and where."""

    value: object
    place: Place


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that is not carried over, or not as it stands: whose, what, and where."""

    #: `host web-01`, `group web`, or the file's own name.
    owner: str
    what: str
    place: Place | None = None


@dataclass(slots=True)
class AnsibleGroup:
    """One group."""

    name: str
    children: dict[str, None] = field(default_factory=dict)
    hosts: dict[str, None] = field(default_factory=dict)
    #: Vars of the inventory's own files, and those of `group_vars/`, which win.
    vars: dict[str, Raw] = field(default_factory=dict)
    file_vars: dict[str, Raw] = field(default_factory=dict)
    #: Among groups of one depth the higher wins.
    priority: int = 1


@dataclass(slots=True)
class AnsibleHost:
    """One host."""

    name: str
    place: Place
    vars: dict[str, Raw] = field(default_factory=dict)
    file_vars: dict[str, Raw] = field(default_factory=dict)


class Loop(Exception):
    """A group would be among its own descendants."""


class AnsibleInventory:
    """Groups and hosts, as they come to be while sources are read."""

    def __init__(self) -> None:
        self.groups: dict[str, AnsibleGroup] = {}
        self.hosts: dict[str, AnsibleHost] = {}
        self.remarks: list[Remark] = []
        for name in (ALL, UNGROUPED):
            self.group(name)

    def group(self, name: str) -> AnsibleGroup:
        """Return a group, a new one if there was none."""
        return self.groups.setdefault(name, AnsibleGroup(name))

    def host(self, name: str, place: Place, port: int | None = None) -> AnsibleHost:
        """Return a host, a new one if there was none; only a new one takes the port."""
        if name not in self.hosts:
            host = self.hosts[name] = AnsibleHost(name, place)
            if port:
                host.vars["ansible_port"] = Raw(port, place)
        return self.hosts[name]

    def set_host_vars(self, name: str, given: Mapping[str, Raw]) -> None:
        """Set vars of a host; Ansible gives them to the group, where one has the same name."""
        if name in self.groups:
            for key, raw in given.items():
                self.set_group_var(name, key, raw)
        else:
            self.hosts[name].vars.update(given)

    def set_group_var(self, group: str, key: str, raw: Raw) -> None:
        """Set a var of a group from the inventory's own files; the priority is none of them."""
        if key != "ansible_group_priority":
            self.group(group).vars[key] = raw
            return
        try:
            self.group(group).priority = int(str(raw.value))
        except ValueError:
            what = f"ansible_group_priority is {quoted(str(raw.value))}, no number"
            self.remarks.append(Remark(f"group {group}", what, raw.place))

    def add_child(self, parent: str, child: str) -> None:
        """Put a group below another one.

        Raises:
            Loop: when the parent is the child, or stands below it.
        """
        if parent == child or parent in self._below(child):
            raise Loop
        self.group(parent).children[self.group(child).name] = None

    def parents(self) -> Mapping[str, set[str]]:
        """Return the parents of each group; the topmost have `all` for one."""
        found: dict[str, set[str]] = {name: set() for name in self.groups}
        for group in self.groups.values():
            for child in group.children:
                found[child].add(group.name)
        for name, parents in found.items():
            if not parents and name != ALL:
                parents.add(ALL)
        return found

    def _below(self, name: str) -> set[str]:
        found: set[str] = set()
        waiting = [name]
        while waiting:
            for child in self.group(waiting.pop()).children:
                if child not in found:
                    found.add(child)
                    waiting.append(child)
        return found


class Ranking:
    """Which groups a host belongs to, in the order in which Ansible lays their vars over it."""

    def __init__(self, inventory: AnsibleInventory) -> None:
        self._inventory = inventory
        self._parents = inventory.parents()
        self._depths = dict(self._deepest())
        self._ancestors: dict[str, frozenset[str]] = {}
        self._of_host: dict[str, set[str]] = {}
        for group in inventory.groups.values():
            for host in group.hosts:
                self._of_host.setdefault(host, set()).add(group.name)

    def groups_of(self, host: str) -> tuple[str, ...]:
        """Return a host's groups without `all`: parents before children, later ones win."""
        direct = self._of_host.get(host, set())
        found = frozenset[str]().union(*(self._line(name) for name in direct)) - {ALL}
        if found != {UNGROUPED}:
            found -= {UNGROUPED}
        return tuple(sorted(found or {UNGROUPED}, key=self._rank))

    def _rank(self, name: str) -> tuple[int, int, str]:
        return self._depths[name], self._inventory.groups[name].priority, name

    def _line(self, name: str) -> frozenset[str]:
        """A group and all above it. Depths bound the recursion no better than a loop would."""
        if name not in self._ancestors:
            found: set[str] = set()
            waiting = [name]
            while waiting:
                group = waiting.pop()
                if group not in found:
                    found.add(group)
                    waiting += self._parents[group]
            self._ancestors[name] = frozenset(found)
        return self._ancestors[name]

    def _deepest(self) -> Iterator[tuple[str, int]]:
        """Each group's depth: the longest way down to it from `all`."""
        children = {name: list(group.children) for name, group in self._inventory.groups.items()}
        for name, parents in self._parents.items():
            if ALL in parents and name not in children[ALL]:
                children[ALL].append(name)
        left = {name: len(parents) for name, parents in self._parents.items()}
        depths = dict.fromkeys(self._inventory.groups, 0)
        ready = [name for name, count in left.items() if not count]
        while ready:
            name = ready.pop()
            yield name, depths[name]
            for child in children[name]:
                depths[child] = max(depths[child], depths[name] + 1)
                left[child] -= 1
                if not left[child]:
                    ready.append(child)
