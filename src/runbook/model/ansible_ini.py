"""Reads Ansible's INI inventories: sections of hosts, children and vars, values typed as there."""

from __future__ import annotations

import ast
import re
import shlex
import warnings
from collections.abc import Iterator

from runbook.model.ansible_inventory import UNGROUPED, AnsibleInventory, Loop, Raw
from runbook.model.ansible_names import WrongName, hosts_of
from runbook.model.document import Place, Problem, quoted, with_excerpts
from runbook.model.errors import InvalidDocument

_SECTION = re.compile(r"\[([^:\]\s]+)(?::(\w+))?\]\s*(?:#.*)?")
_GROUP = re.compile(r"([^:\]\s]+)\s*(?:#.*)?")
_KINDS = ("hosts", "children", "vars")
#: A longer value is no literal that a person wrote; Python's own parser would take its time.
_LONGEST_LITERAL = 10_000
_MOST_PROBLEMS = 50
#: Splitting a line into words takes time with the square of its length.
_LONGEST_LINE = 20_000


def read_ini(text: str, source: str, inventory: AnsibleInventory) -> None:
    """Add what an INI inventory says.

    Raises:
        InvalidDocument: with every line that Ansible would not read either.
    """
    reader = _Reader(source, inventory)
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped and stripped[0] not in ";#":
            column = len(line) - len(line.lstrip()) + 1
            reader.take(stripped, Place(source, number, column))
        if len(reader.problems) >= _MOST_PROBLEMS:
            break
    reader.check_undeclared()
    if reader.problems:
        raise InvalidDocument(with_excerpts(reader.problems, text))


def typed(text: str) -> object:
    """Return a value as Ansible types it: a Python literal, else the text itself."""
    if len(text) > _LONGEST_LITERAL:
        return text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" is a text here, and no mistake of ours
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    if isinstance(value, complex) or value is ...:
        return str(value) if isinstance(value, complex) else "..."
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value


class _Reader:
    def __init__(self, source: str, inventory: AnsibleInventory) -> None:
        self._source = source
        self._inventory = inventory
        self._group, self._kind = UNGROUPED, "hosts"
        self.problems: list[Problem] = []
        #: Groups that were used, and where, until a section declares them.
        self._undeclared: dict[str, tuple[Place, str]] = {}

    def take(self, line: str, place: Place) -> None:
        """Read one line that is neither empty nor a comment."""
        section = _SECTION.fullmatch(line)
        if len(line) > _LONGEST_LINE:
            hint = f"the limit is {_LONGEST_LINE:,}; long values belong into host_vars/"
            self._wrong(f"this line has {len(line):,} characters", place, hint)
        elif section:
            self._open(section[1], section[2] or "hosts", place)
        elif line.startswith("[") and line.endswith("]"):
            hint = "write [group], [group:children] or [group:vars], without spaces"
            self._wrong(f"{quoted(line)} is no section", place, hint)
        elif self._kind == "hosts":
            self._host(line, place)
        elif self._kind == "vars":
            self._var(line, place)
        else:
            self._child(line, place)

    def check_undeclared(self) -> None:
        """Complain about groups that no section declares, as Ansible does."""
        for name, (place, what) in self._undeclared.items():
            self._wrong(f"{what} {quoted(name)}, which no section declares", place, "declare it")

    def _open(self, group: str, kind: str, place: Place) -> None:
        if kind not in _KINDS:
            self._wrong(f"there are no sections of the kind {quoted(kind)}", place, None)
            kind = "skipped"
        self._group, self._kind = group, kind
        if kind == "vars" and group not in self._inventory.groups:
            self._undeclared.setdefault(group, (place, "these are the vars of"))
        elif kind != "vars":
            self._undeclared.pop(group, None)
            self._inventory.group(group)

    def _host(self, line: str, place: Place) -> None:
        try:
            pattern, *words = shlex.split(line, comments=True)
            names, port = hosts_of(pattern)
        except WrongName as wrong:
            self._wrong(f"{quoted(line)}: {wrong.why}", place, "mend the host's name")
            return
        except ValueError as error:
            self._wrong(f"{quoted(line)} cannot be read: {error}", place, "check the quotes")
            return
        found = dict(self._pairs(words, place))
        for name in names:
            self._inventory.group(self._group).hosts[name] = None
            self._inventory.host(name, place, port)
            self._inventory.set_host_vars(name, found)

    def _pairs(self, words: list[str], place: Place) -> Iterator[tuple[str, Raw]]:
        for word in words:
            key, equals, value = word.partition("=")
            if equals:
                yield key, Raw(typed(value), place)
            else:
                hint = "a host's line is: name key=value key=value; quote a value with spaces"
                self._wrong(f"{quoted(word)} is no key=value", place, hint)

    def _var(self, line: str, place: Place) -> None:
        key, equals, value = line.partition("=")
        if not equals:
            self._wrong(f"{quoted(line)} is no key=value", place, "write key=value")
            return
        raw = Raw(typed(value.strip()), place)
        if self._group in self._undeclared:
            self._inventory.group(self._group)
        self._inventory.set_group_var(self._group, key.strip(), raw)

    def _child(self, line: str, place: Place) -> None:
        match = _GROUP.fullmatch(line)
        if self._kind == "skipped":
            return
        if match is None:
            self._wrong(f"{quoted(line)} is no group's name", place, "one group a line")
            return
        if match[1] not in self._inventory.groups:
            self._undeclared.setdefault(match[1], (place, f"[{self._group}:children] names"))
        try:
            self._inventory.add_child(self._group, match[1])
        except Loop:
            self._wrong(f"{match[1]} would stand below itself", place, "break the circle")

    def _wrong(self, message: str, place: Place, hint: str | None) -> None:
        self.problems.append(Problem(message, place, hint))
