"""Before the first change: every change of a plan is looked at live, its footprints collected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from runbook.engine import rolling
from runbook.engine.book import first_phase
from runbook.engine.knowing import arguments, holds
from runbook.engine.moment import Moment, Stop, covers, make_task, perform
from runbook.model.errors import RunbookError
from runbook.model.plan import Finish, Node, Perform, Result, Task


def prepare(m: Moment, first: Node) -> Perform | Stop | None:
    """Return looks still to be taken, or the end when one of them says no, or None.

    On the main line one look that says no refuses the whole run, whichever step it belongs to:
    nothing has changed yet. What runs after the main line is stopped by its own look alone.
    """
    if m.book.memo.get("prepared"):
        return None
    m = replace(m, turn=m.number(first)) if m.ending else m
    todo: list[Task] = []
    all_known = True
    for node in _coming(m, first):
        if not node.changes or _left_out(m, node, first):
            continue
        args = arguments(m, node)
        no = _no(m, node, args)
        if no is not None and (not m.ending or node is first):
            return Stop(finish=no, failed=node if m.ending else None)
        if args is None or isinstance(args, Result):
            all_known = False
            continue
        looked = m.book.tally(node, first_phase(node))
        todo += [make_task(node, first_phase(node), t, args) for t, _ in looked.due(None)]
    if not todo and all_known and not m.ending:
        m.book.memo["prepared"] = True  # what comes later is a part of what comes now
    return perform(todo)


def _left_out(m: Moment, node: Node, first: Node) -> bool:
    """A condition that cannot be decided ends the run now, unless the run is ending anyway."""
    try:
        return holds(m, node) is False
    except RunbookError:
        if m.ending and node is not first:
            return True
        raise


def _no(m: Moment, node: Node, args: object) -> Finish | None:
    if isinstance(args, Result):
        if not args.good:
            reason = f"{node.name}: {args.summary}"
            return Finish(status="refused", reason=reason, hint=args.hint)
        return None
    if node.flow == "rolling":
        return rolling.unfit(m.book, node)
    tally = m.book.tally(node, first_phase(node))
    for target in (t for t in node.targets if t in tally.bad) if tally.bad else ():
        result = tally.bad[target]
        return Finish(status="refused", reason=f"{target}: {result.summary}", hint=result.hint)
    return None


def _coming(m: Moment, first: Node) -> Iterable[Node]:
    """Return the steps that may still run, in the plan's order, from one on."""
    start = m.number(first)
    if m.ending:
        yield from _coming_at_the_end(m, start)
        return
    for number, node in enumerate(m.plan.nodes):
        handler = node.role == "on_failure" and _may_fail(m.plan.nodes, node, start)
        if number >= start or handler:  # `always` steps come last of all
            yield node


def _coming_at_the_end(m: Moment, start: int) -> Iterable[Node]:
    """Return what follows the failure that ended the main line, what may follow that, and so on.

    `always` steps come whatever happened, and each of them may fail.
    """
    failed = [m.failed] if m.failed is not None else []
    for number, node in enumerate(m.plan.nodes):
        always = node.role == "always"
        follows = node.role == "on_failure" and any(covers(node.of or "", n) for n in failed)
        if always or follows:
            failed.append(node)
        if always or (follows and number >= start):
            yield node


def _may_fail(nodes: Sequence[Node], handler: Node, start: int) -> bool:
    """Whether a step that a handler waits for is still to come."""
    return any(covers(handler.of or "", node) for node in nodes[start:])


def touches(m: Moment) -> tuple[str, ...]:
    """Return the footprints of everything that was looked at."""
    return tuple(line for node in m.plan.nodes for line in node_touches(m, node))


def node_touches(m: Moment, node: Node) -> tuple[str, ...]:
    """Return the footprints of one step's changes."""
    if not node.changes:
        return ()
    tally = m.book.tally(node, first_phase(node))
    at, lines = m.book.memo.get(("touches", node.key), (0, ()))
    if at != tally.version:
        lines = tuple(line for result in tally.in_order().values() for line in result.touches)
        m.book.memo["touches", node.key] = (tally.version, lines)
    found: tuple[str, ...] = lines
    return found
