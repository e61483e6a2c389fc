"""`--tags` and `--skip-tags`: which steps of a plan are kept, and whether they can do alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runbook.engine.written import Playbook, RawStep
from runbook.model.document import nearest
from runbook.model.errors import UsageError
from runbook.model.plan import Node
from runbook.model.step import Bound


@dataclass(frozen=True, kw_only=True)
class Made:
    """A node, and the step that it was made of."""

    node: Node
    playbook: Playbook
    #: None for what `needs` asks: it is kept whatever the tags.
    step: RawStep | None
    #: Results that it uses: (scope, NAME of `steps.NAME`).
    uses: tuple[tuple[str, str], ...] = ()
    bounds: tuple[Bound, ...] = ()


def chosen(made: Sequence[Made], tags: Sequence[str], skip: Sequence[str]) -> list[Made]:
    """Return the steps that the tags leave.

    With `tags`, only steps that have one of them; what runs after a failure goes with its step,
    and what always runs still does. `skip` leaves out every step that has one of them.

    Raises:
        UsageError: for an unknown tag, when nothing is left, and when a step that is kept uses
            the result of one that is left out.
    """
    if not tags and not skip:
        return list(made)
    _check_known(made, [*tags, *skip])
    kept: list[Made] = []
    started: set[str] = set()
    for one in made:
        if _keeps(one, tags, skip, started):
            kept.append(one)
            started |= _names_of(one.node)
    if not any(one.node.role == "main" and one.step is not None for one in kept):
        raise UsageError("the tags leave no step to run", hint=f"tags: {_listing(made)}")
    _check_uses(made, kept)
    return kept


def _keeps(one: Made, tags: Sequence[str], skip: Sequence[str], started: set[str]) -> bool:
    node = one.node
    if one.step is None:
        return True
    if set(node.tags) & set(skip):
        return False
    if node.role == "on_failure":
        return node.of in started
    return node.role == "always" or not tags or bool(set(node.tags) & set(tags))


def _names_of(node: Node) -> set[str]:
    """The keys by which a failure step may call its node: its own, its loop's, its includes'."""
    parts = node.scope.split(".") if node.scope else []
    scopes = {".".join(parts[: i + 1]) for i in range(len(parts))}
    return {node.key, *([node.loop] if node.loop else []), *scopes}


def _check_known(made: Sequence[Made], asked: Sequence[str]) -> None:
    known = {tag for one in made for tag in one.node.tags}
    for tag in asked:
        if tag not in known:
            near = nearest(tag, sorted(known))
            hint = f"did you mean {near!r}?" if near else f"tags: {_listing(made)}"
            raise UsageError(f"no step has the tag {tag!r}", hint=hint)


def _listing(made: Sequence[Made]) -> str:
    return ", ".join(sorted({tag for one in made for tag in one.node.tags})) or "none"


def _check_uses(made: Sequence[Made], kept: Sequence[Made]) -> None:
    ids = {id(one) for one in kept}
    out = {
        (one.node.scope, one.node.save): one.node.name
        for one in made
        if id(one) not in ids and one.node.save is not None
    }
    for one in kept:
        for used in one.uses:
            if used in out:
                raise UsageError(
                    f"{one.node.name!r} uses steps.{used[1]}, and the tags leave out"
                    f" {out[used]!r}, which gives it",
                    hint="give both steps a tag in common",
                )
