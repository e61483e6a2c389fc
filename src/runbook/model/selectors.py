"""Selectors: which hosts are meant, by names, groups, attributes and set operations.

`web & env=prod`, `(web, api) & !web-03`: the grammar is in `selector_syntax`. A name is a host, a
group or `all`; `group=…` and `name=…` compare those, any other key a host's var (`vars.group` is
the var of that name). `~` takes a pattern; `<` and its like compare numbers. `!=` is `=` turned
around: it also selects hosts that have no such var.

The order is the inventory's. Nothing selected is an error, never "all"; so is a key that no host
has: `!=` would turn a slip of the pen into all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import translate

from runbook.model.document import nearest, quoted, shorten
from runbook.model.errors import UsageError
from runbook.model.selector_syntax import (
    AllOf,
    AnyOf,
    Compare,
    Expression,
    Leaf,
    Named,
    Not,
    Pattern,
    number_of,
    parse,
    wrong,
)

#: What a host offers to a selector: name, groups, vars.
Attributes = tuple[str, frozenset[str], Mapping[str, str]]
#: Hosts by their position in the inventory.
_Chosen = frozenset[int]

_LISTS = "`runbook inventory list` shows hosts and groups"
_NUMERIC: Mapping[str, Callable[[float, float], bool]] = {
    "<": lambda has, wanted: has < wanted,
    "<=": lambda has, wanted: has <= wanted,
    ">": lambda has, wanted: has > wanted,
    ">=": lambda has, wanted: has >= wanted,
}


def select(expression: str, hosts: Sequence[Attributes]) -> tuple[str, ...]:
    """Return the names of the hosts that `expression` selects, in the given order.

    Raises:
        UsageError: for a syntax error, an unknown name, and when nothing is selected.
    """
    return HostIndex(hosts).select(expression)


class HostIndex:
    """Hosts made ready for many selectors: each is answered by sets, not host by host."""

    def __init__(self, hosts: Sequence[Attributes]) -> None:
        self._hosts = hosts
        self._all = frozenset(range(len(hosts)))
        self._names = {host[0]: position for position, host in enumerate(hosts)}
        self._groups: dict[str, set[int]] = {}
        for position, host in enumerate(hosts):
            for group in host[1]:
                self._groups.setdefault(group, set()).add(position)

    def select(self, expression: str) -> tuple[str, ...]:
        """Return the names that `expression` selects, in the inventory's order, never none.

        Raises:
            UsageError: for a syntax error, an unknown name, and when nothing is selected.
        """
        tree = parse(expression)
        chosen = _Evaluation(self, expression, alone=isinstance(tree, Leaf)).of(tree)
        if not chosen:
            raise UsageError(
                f"the selector {quoted(expression)} selects no host",
                hint=f"{_LISTS}; an empty selection never means all of them",
            )
        return tuple(self._hosts[position][0] for position in sorted(chosen))

    def named(self, name: str) -> _Chosen | None:
        """Return the host or the group of that name; None when there is neither."""
        if name == "all":
            return self._all
        if name in self._names:
            return frozenset((self._names[name],))
        return self.group(name)

    def group(self, name: str) -> _Chosen | None:
        """Return the hosts of a group; None when there is no such group."""
        return frozenset(self._groups[name]) if name in self._groups else None

    def all_but(self, chosen: _Chosen) -> _Chosen:
        """Return the hosts that are not among `chosen`."""
        return self._all - chosen

    def by_name(self, fits: Callable[[str], object]) -> _Chosen:
        """Return the hosts whose name fits."""
        return frozenset(position for name, position in self._names.items() if fits(name))

    def by_group(self, fits: Callable[[str], object]) -> _Chosen:
        """Return the hosts that have a group that fits."""
        return frozenset().union(*(held for name, held in self._groups.items() if fits(name)))

    def values(self, key: str) -> list[tuple[int, str]]:
        """Return what the hosts that have a var say: positions and values."""
        return [(at, host[2][key]) for at, host in enumerate(self._hosts) if key in host[2]]

    def near_name(self, name: str) -> str | None:
        """Return the host or group that was probably meant."""
        return nearest(name, [*self._groups, *self._names])

    def near_group(self, name: str) -> str | None:
        """Return the group that was probably meant."""
        return nearest(name, list(self._groups))

    def near_key(self, key: str) -> str | None:
        """Return the var that was probably meant."""
        return nearest(key, sorted({key for host in self._hosts for key in host[2]}))

    def name_at(self, position: int) -> str:
        """Return a host's name."""
        return self._hosts[position][0]


class _Evaluation:
    """One selector over one index; it keeps the text for its errors."""

    def __init__(self, index: HostIndex, text: str, *, alone: bool) -> None:
        self._index = index
        self._text = text
        #: The selector is one name and no more: its place needs no telling.
        self._alone = alone

    def of(self, expression: Expression) -> _Chosen:
        match expression:
            case AnyOf(parts):
                return frozenset().union(*map(self.of, parts))
            case AllOf(parts):
                return frozenset.intersection(*map(self.of, parts))
            case Not(inner):
                return self._index.all_but(self.of(inner))
            case Pattern(glob):
                return self._index.by_name(_glob(glob))
            case Named():
                return self._named(expression)
            case Compare():
                return self._compare(expression)

    def _named(self, leaf: Named) -> _Chosen:
        found = self._index.named(leaf.name)
        if found is None:
            near = self._index.near_name(leaf.name)
            raise self._unknown(leaf.at, f"{quoted(leaf.name)} is neither a host nor a group", near)
        return found

    def _compare(self, leaf: Compare) -> _Chosen:
        if leaf.operator in _NUMERIC:
            return self._numeric(leaf)
        fits = _glob(leaf.value) if leaf.operator.endswith("~") else leaf.value.__eq__
        if leaf.key == "name":
            chosen = self._index.by_name(fits)
        elif leaf.key == "group":
            chosen = self._group(leaf, fits)
        else:
            chosen = frozenset(at for at, value in self._values(leaf) if fits(value))
        return self._index.all_but(chosen) if leaf.operator.startswith("!") else chosen

    def _group(self, leaf: Compare, fits: Callable[[str], object]) -> _Chosen:
        if not leaf.operator.endswith("~") and self._index.group(leaf.value) is None:
            near = self._index.near_group(leaf.value)
            raise self._unknown(leaf.at, f"there is no group {quoted(leaf.value)}", near)
        return self._index.by_group(fits)

    def _numeric(self, leaf: Compare) -> _Chosen:
        wanted = number_of(leaf.value)
        chosen = set()
        for at, value in self._values(leaf):
            has = number_of(value)
            if has is None or wanted is None:
                name = self._index.name_at(at)
                raise wrong(
                    self._text,
                    leaf.at,
                    f"{leaf.key} of {name} is {quoted(value)}, no number",
                    "compare it with = or ~, or mend the inventory",
                )
            if _NUMERIC[leaf.operator](has, wanted):
                chosen.add(at)
        return frozenset(chosen)

    def _values(self, leaf: Compare) -> list[tuple[int, str]]:
        key = leaf.key.removeprefix("vars.")
        values = self._index.values(key)
        if not values:
            near = self._index.near_key(key)
            raise self._unknown(leaf.at, f"no host has a var named {quoted(key)}", near)
        return values

    def _unknown(self, at: int, what: str, near: str | None) -> UsageError:
        hint = f"did you mean '{shorten(near)}'?" if near else _LISTS
        return UsageError(what, hint=hint) if self._alone else wrong(self._text, at, what, hint)


def _glob(pattern: str) -> Callable[[str], object]:
    return re.compile(translate(pattern)).match
