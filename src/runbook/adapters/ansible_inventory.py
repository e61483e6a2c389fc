"""Reads the files of an Ansible inventory: one or a folder of them, and the vars beside it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from runbook.adapters.ansible_yaml import parse_ansible
from runbook.adapters.text_file import read_text
from runbook.model.ansible_ini import read_ini
from runbook.model.ansible_inventory import AnsibleInventory, Raw, Remark
from runbook.model.ansible_yaml import read_vars, read_yaml
from runbook.model.document import Document, Place, Problem, visible
from runbook.model.errors import InvalidDocument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: What Ansible passes over in a folder of sources.
_IGNORED = re.compile(
    r"^\.|^(host_vars|group_vars|vars_plugins)$"
    r"|(\.pyc|\.pyo|\.swp|\.bak|~|\.rpm|\.md|\.txt|\.rst|\.orig|\.cfg|\.retry)$"
)
_YAML = (".yaml", ".yml", ".json")
#: A vault file begins so; what follows is no YAML.
_VAULT = "$ANSIBLE_VAULT"
#: Nobody nests folders of vars deeper; a link to its own parent would never end.
_DEEPEST = 10


def read_ansible(path: Path) -> AnsibleInventory:
    """Return what the inventory at `path`, a file or a folder, says in all of its files.

    Sources that are programs, or settings of Ansible's plugins, are remarked on and not run.

    Raises:
        InvalidDocument: with every mistake in them; when there is no file of hosts at all.
    """
    reader = _Reader()
    if path.is_dir():
        reader.folder(path, 0)
        if not reader.sources:
            raise InvalidDocument([Problem(f"{visible(str(path))} has no file of hosts", None)])
    else:
        reader.attempt(reader.source, path)
    reader.vars_beside(path if path.is_dir() else path.parent)
    if reader.problems:
        raise InvalidDocument(reader.problems)
    return reader.inventory


def add_vars_beside(inventory: AnsibleInventory, folder: Path) -> None:
    """Add what `group_vars/` and `host_vars/` of a folder say about an inventory from elsewhere.

    Raises:
        InvalidDocument: with every mistake in them.
    """
    reader = _Reader(inventory)
    reader.vars_beside(folder)
    if reader.problems:
        raise InvalidDocument(reader.problems)


class _Reader:
    def __init__(self, inventory: AnsibleInventory | None = None) -> None:
        self.inventory = inventory or AnsibleInventory()
        self.problems: list[Problem] = []
        self.sources = 0

    def attempt(self, read: Callable[[Path], None], path: Path) -> None:
        """Read a file; its mistakes are kept, so that those of the others are told as well."""
        try:
            read(path)
        except InvalidDocument as error:
            self.problems += error.problems

    # Sources: files of hosts

    def folder(self, path: Path, depth: int) -> None:
        """Read each source of a folder, in the order of their names."""
        for name in sorted(os.listdir(path)):  # noqa: PTH208 - names, not paths
            if _IGNORED.search(name):
                continue
            inside = path / name
            if not inside.is_dir():
                self.sources += 1
                self.attempt(self.source, inside)
            elif depth < _DEEPEST:
                self.folder(inside, depth + 1)

    def source(self, path: Path) -> None:
        """Read one file of hosts, whichever way it is written."""
        text = read_text(path, kind="inventory")
        if text.startswith("#!"):
            self._remark(path, "it is a program, and was not run: save what it prints, and import")
        elif text.startswith(_VAULT):
            self._remark(path, "it is encrypted by Ansible Vault, and was not read")
        elif path.suffix in _YAML:
            self._yaml(path, parse_ansible(text, str(path)))
        elif path.suffix == ".toml":
            self._remark(path, "it is TOML, and was not read")
        elif not path.suffix and (document := _mapping(text, str(path))) is not None:
            self._yaml(path, document)
        else:
            read_ini(text, str(path), self.inventory)

    def _yaml(self, path: Path, document: Document) -> None:
        plugin = document.value.get("plugin") if isinstance(document.value, dict) else None
        if plugin:
            what = f"it asks a server, by the plugin {visible(str(plugin))}, and was not followed"
            self._remark(path, what)
        else:
            read_yaml(document, self.inventory)

    # Files of vars

    def vars_beside(self, folder: Path) -> None:
        """Read `group_vars/` and `host_vars/` of a folder, for the groups and hosts that are."""
        for name, group in self.inventory.groups.items():
            self._vars(folder / "group_vars", name, group.file_vars, f"group {name}")
        for name, host in self.inventory.hosts.items():
            self._vars(folder / "host_vars", name, host.file_vars, f"host {name}")

    def _vars(self, folder: Path, name: str, into: dict[str, Raw], owner: str) -> None:
        if "/" in name or "\0" in name or name in {".", ".."}:
            return
        for file in _files_of(folder, name):
            try:
                text = read_text(file, kind="inventory")
                if text.startswith(_VAULT):
                    place = Place(str(file), 1, 1)
                    what = (
                        "encrypted by Ansible Vault: what these vars set or overrule is not known"
                    )
                    self.inventory.remarks.append(Remark(owner, what, place))
                else:
                    read_vars(parse_ansible(text, str(file)), into)
            except InvalidDocument as error:
                self.problems += error.problems
        into.pop("ansible_group_priority", None)  # Ansible heeds it in a file of hosts alone

    def _remark(self, path: Path, what: str) -> None:
        self.inventory.remarks.append(Remark(path.name, what, Place(str(path), 1, 1)))


def _mapping(text: str, source: str) -> Document | None:
    """The document, when a file without a suffix turns out to be YAML; INI is none."""
    try:
        document = parse_ansible(text, source)
    except InvalidDocument:
        return None
    return document if isinstance(document.value, dict) else None


def _files_of(folder: Path, name: str) -> Iterator[Path]:
    """The first of `name`, `name.yml`, `name.yaml`, `name.json` that is there; all of a folder."""
    for suffix in ("", ".yml", ".yaml", ".json"):
        path = folder / f"{name}{suffix}"
        if path.is_dir():
            yield from _within(path, 0)
            return
        if path.exists():
            yield path
            return


def _within(folder: Path, depth: int) -> Iterator[Path]:
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names, not paths
        path = folder / name
        if name.startswith(".") or name.endswith("~"):
            continue
        if path.is_dir():
            if not path.suffix and depth < _DEEPEST:
                yield from _within(path, depth + 1)
        elif path.suffix in ("", *_YAML):
            yield path
