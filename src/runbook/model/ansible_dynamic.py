"""Reads what Ansible's inventory programs print for `--list`: groups, and `_meta.hostvars`."""

from __future__ import annotations

from collections.abc import Mapping

from runbook.model.ansible_inventory import AnsibleInventory, Loop, Raw
from runbook.model.document import Place, Problem, quoted
from runbook.model.errors import InvalidDocument


def is_dynamic(value: object) -> bool:
    """Tell whether a program's output has Ansible's shape: `_meta` has a mapping `hostvars`."""
    meta = value.get("_meta") if isinstance(value, Mapping) else None
    return isinstance(meta, Mapping) and isinstance(meta.get("hostvars"), Mapping)


def read_dynamic(value: object, source: str) -> AnsibleInventory:
    """Return the inventory that the output is.

    Raises:
        InvalidDocument: with every part that has not the shape that Ansible expects.
    """
    reader = _Reader(source)
    if isinstance(value, Mapping):
        for name, group in value.items():
            if name != "_meta":
                reader.group(str(name), group)
        reader.hostvars(value["_meta"]["hostvars"])
    if reader.problems:
        raise InvalidDocument(reader.problems)
    return reader.inventory


class _Reader:
    def __init__(self, source: str) -> None:
        self.inventory = AnsibleInventory()
        self.problems: list[Problem] = []
        self._place = Place(source, 1, 1)

    def group(self, name: str, value: object) -> None:
        """Read one group: a list of hosts, or a mapping of hosts, children and vars."""
        if isinstance(value, list):
            value = {"hosts": value}
        if not isinstance(value, Mapping):
            self._wrong(f"the group {quoted(name)} is neither a mapping nor a list")
            return
        group = self.inventory.group(name)
        for host in self._names(value.get("hosts"), f"hosts of {name}"):
            self.inventory.host(host, self._place)
            group.hosts[host] = None
        for child in self._names(value.get("children"), f"children of {name}"):
            try:
                self.inventory.add_child(name, child)
            except Loop:
                self._wrong(f"the group {quoted(child)} would stand below itself")
        for key, raw in self._vars(value.get("vars"), f"vars of {name}").items():
            self.inventory.set_group_var(name, key, raw)

    def hostvars(self, value: Mapping[str, object]) -> None:
        """Read the vars of each host; those of hosts in no group are nobody's."""
        for name, given in value.items():
            if name in self.inventory.hosts:
                host = self.inventory.hosts[name]
                host.vars.update(self._vars(given, f"_meta.hostvars of {name}"))

    def _names(self, value: object, what: str) -> list[str]:
        if value is None:
            return []
        if isinstance(value, list) and all(isinstance(name, str) and name for name in value):
            return value
        self._wrong(f"the {what} are no list of names")
        return []

    def _vars(self, value: object, what: str) -> dict[str, Raw]:
        if value is None:
            return {}
        if isinstance(value, Mapping):
            return {str(key): Raw(item, self._place) for key, item in value.items()}
        self._wrong(f"the {what} are no mapping")
        return {}

    def _wrong(self, message: str) -> None:
        hint = "see what Ansible makes of it: ansible-inventory -i PROGRAM --list"
        self.problems.append(Problem(message, self._place, hint))
