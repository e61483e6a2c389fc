"""What anchors name and aliases repeat, as long as the whole document stays small."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from runbook.model.document import nearest, visible

MAX_DEPTH = 60
#: How many nodes aliases may add; what is written out is bounded by the file's size already.
MAX_ALIASED_NODES = 200_000
#: Among more anchors than a person writes, the search for the nearest would take too long.
_MOST_COMPARED = 1_000


@dataclass(eq=False)
class AliasRefused(Exception):
    """An alias that cannot be followed."""

    message: str
    hint: str
    #: It would make the document endless: there is no sense in reading on.
    bomb: bool = False


@dataclass(slots=True)
class Node:
    """A finished value, with what it costs to repeat it."""

    value: object
    count: int = 1
    height: int = 0


@dataclass(slots=True)
class Anchors:
    """The anchors that were read so far; an anchor may be named anew."""

    #: What each anchor names; None while it is still being read.
    _nodes: dict[str, Node | None] = field(default_factory=dict)
    _aliased: int = 0

    def begin(self, anchor: str | None) -> None:
        """Note the anchor of a collection that begins here."""
        if anchor:
            self._nodes[anchor] = None

    def end(self, anchor: str | None, node: Node) -> None:
        """Note what `anchor` names."""
        if anchor:
            self._nodes[anchor] = node

    def repeat(self, anchor: str, depth: int) -> Node:
        """Return a copy of what `anchor` names, to stand `depth` levels deep.

        Raises:
            AliasRefused: for an unknown anchor, one that holds the alias, or too large a copy.
        """
        shown = visible(anchor)
        if anchor not in self._nodes:
            raise AliasRefused(f"nothing above is anchored as &{shown}", self._meant(anchor))
        node = self._nodes[anchor]
        if node is None:
            message = f"*{shown} stands inside &{shown} itself, and would never end"
            raise AliasRefused(message, "write the value out instead of the alias")
        self._refuse_bomb(node, shown, depth)
        return replace(node, value=_copy(node.value))

    def _meant(self, anchor: str) -> str:
        meant = nearest(anchor, self._nodes) if len(self._nodes) <= _MOST_COMPARED else None
        return f"did you mean *{visible(meant)}?" if meant else "quote a value that begins with '*'"

    def _refuse_bomb(self, node: Node, shown: str, depth: int) -> None:
        """Aliases of aliases multiply: a few lines can stand for billions of values."""
        self._aliased += node.count
        too_deep = depth + node.height > MAX_DEPTH
        if self._aliased <= MAX_ALIASED_NODES and not too_deep:
            return
        limit = f"{MAX_DEPTH} levels" if too_deep else f"{MAX_ALIASED_NODES:,} values"
        message = f"*{shown} makes the document grow beyond {limit} (an alias bomb)"
        hint = "write the values out instead of repeating aliases"
        raise AliasRefused(message, hint, bomb=True)


def _copy(value: object) -> object:
    """A copy of its own for each alias; the depth is bounded by then."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value
