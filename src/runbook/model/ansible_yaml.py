"""Reads Ansible's YAML inventories: groups with `hosts`, `children` and `vars`, from `all` down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook.model.ansible_inventory import AnsibleInventory, Foreign, Loop, Raw, Remark
from runbook.model.ansible_names import WrongName, hosts_of
from runbook.model.document import Document, DocumentPath, Problem, quoted
from runbook.model.errors import InvalidDocument
from runbook.model.validation import problem_at

_SECTIONS = ("vars", "children", "hosts")


def read_yaml(document: Document, inventory: AnsibleInventory) -> None:
    """Add what a YAML inventory says.

    Raises:
        InvalidDocument: with every mistake that Ansible would stop at.
    """
    if not isinstance(document.value, dict):
        raise InvalidDocument([problem_at(document, (), "an inventory is a mapping", None)])
    reader = _Reader(document, inventory)
    for name, group in document.value.items():
        reader.group(name, group, (name,))
    if reader.problems:
        raise InvalidDocument(reader.problems)


def read_vars(document: Document, into: dict[str, Raw]) -> None:
    """Lay the vars of a file of `group_vars/` or `host_vars/` over those in `into`.

    Raises:
        InvalidDocument: when it is no mapping.
    """
    if document.value is None:
        return
    if not isinstance(document.value, dict):
        raise InvalidDocument([problem_at(document, (), "a file of vars is a mapping", None)])
    into.update(_vars(document, document.value, ()))


def _vars(document: Document, values: Mapping[str, object], path: DocumentPath) -> dict[str, Raw]:
    return {k: Raw(v, document.key_place_of((*path, k))) for k, v in values.items()}


class _Reader:
    def __init__(self, document: Document, inventory: AnsibleInventory) -> None:
        self._document = document
        self._inventory = inventory
        self.problems: list[Problem] = []

    def group(self, name: str, value: object, path: DocumentPath) -> None:
        """Read one group and all below it; the reader of the text bounds how deep that is."""
        if value is not None and not isinstance(value, dict):
            self._remark(f"group {name}", "it is no mapping, and was skipped", path)
            return
        self._inventory.group(name)
        for key, part in (value or {}).items():
            if key in _SECTIONS and isinstance(part, str) and not isinstance(part, Foreign):
                part = {part: None}  # noqa: PLW2901 - Ansible allows a bare name
            if part is None:
                continue
            if key not in _SECTIONS or not isinstance(part, dict):
                self._odd(name, key, (*path, key), part)
                continue
            getattr(self, f"_{key}")(name, part, (*path, key))

    def _vars(self, group: str, values: dict[str, Any], path: DocumentPath) -> None:
        for key, raw in _vars(self._document, values, path).items():
            self._inventory.set_group_var(group, key, raw)

    def _children(self, group: str, values: dict[str, Any], path: DocumentPath) -> None:
        for child, below in values.items():
            self.group(child, below, (*path, child))
            try:
                self._inventory.add_child(group, child)
            except Loop:
                self._wrong(f"{child} would stand below itself", (*path, child), "break the circle")

    def _hosts(self, group: str, values: dict[str, Any], path: DocumentPath) -> None:
        for pattern, given in values.items():
            here = (*path, pattern)
            if given is not None and not isinstance(given, dict):
                self._wrong(f"the vars of {quoted(pattern)} are no mapping", here, None)
                continue
            try:
                names, port = hosts_of(pattern)
            except WrongName as wrong:
                self._wrong(f"{quoted(pattern)}: {wrong.why}", here, "mend the host's name")
                continue
            found = _vars(self._document, given or {}, here)
            for name in names:
                self._inventory.group(group).hosts[name] = None
                place = self._document.key_place_of(here)
                self._inventory.host(name, place, port)
                self._inventory.set_host_vars(name, found)

    def _odd(self, group: str, key: str, path: DocumentPath, part: object) -> None:
        if key in _SECTIONS:
            self._wrong(f"{key} of {group} is no mapping: {type(part).__name__}", path, None)
        else:
            what = f"the key {quoted(key)} is none of hosts, children and vars, and was skipped"
            self._remark(f"group {group}", what, path)

    def _remark(self, owner: str, what: str, path: DocumentPath) -> None:
        place = self._document.key_place_of(path)
        self._inventory.remarks.append(Remark(owner, what, place))

    def _wrong(self, message: str, path: DocumentPath, hint: str | None) -> None:
        self.problems.append(problem_at(self._document, path, message, hint))
