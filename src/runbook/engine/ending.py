"""How a run ends: what follows a failure, what is owed, the `always` steps, and the last word.

The main line is over, well or badly. First the steps that its failure starts run, then what is owed
is settled, then the `always` steps run if anything acted; what one of them owes is settled before
the next. An interrupt lets no step begin that a failure would start; what is owed and the `always`
steps are seen to nevertheless. Whatever goes wrong here is told beside the first failure, never in
its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from runbook.engine.moment import Moment, Stop, covers
from runbook.engine.obligations import settle
from runbook.engine.turns import turn
from runbook.model.plan import Confirm, Finish, Node, Perform


def end(main: Moment, stop: Stop) -> Perform | Confirm | Finish:
    """Return what is still to be done after the main line, and at last how the run ended."""
    m = replace(main, ending=True, failed=stop.failed)
    troubles: list[Finish] = []
    first = stop.failed
    wanted = None
    if first is not None:
        wanted = follow(m, [first], _handlers(m, first), troubles)
    wanted = wanted or settle(m) or _always(m, troubles)
    return wanted or _last_word(m, stop.finish, troubles)


def _handlers(m: Moment, failed: Node) -> list[Node]:
    """Return the steps that may follow a failure; those of `always` steps follow these alone."""
    after_main = failed.role != "always"
    return [
        node
        for node in m.plan.nodes
        if node.role == "on_failure" and (_of_always(m, node) is not after_main)
    ]


def _of_always(m: Moment, handler: Node) -> bool:
    return any(n.role == "always" and covers(handler.of or "", n) for n in m.plan.nodes)


def follow(
    m: Moment, failed: list[Node], handlers: Iterable[Node], troubles: list[Finish]
) -> Perform | Confirm | None:
    """Return what the steps that a failure starts need next; None when they are over.

    Each list of them is a line of its own: one that fails ends its list, and may start another.
    """
    broken: set[str | None] = set()
    left: set[str] = set()
    for node in handlers:
        due = any(covers(node.of or "", one) for one in failed)
        if not due or node.of in broken or any(covers(include, node) for include in left):
            continue
        said = turn(m, node)
        if not isinstance(said, Stop):
            if said is not None:
                return said
            continue
        troubles.append(_told(node, said))
        if said.failed is None:
            return None
        failed.append(node)
        if node.continues is not None:
            left.add(node.continues)
        elif node.on_failure != "continue":
            broken.add(node.of)
    return None


def _always(m: Moment, troubles: list[Finish]) -> Perform | Confirm | None:
    """Return what the `always` steps need next: each of them runs, whatever became of the others.

    They undo and tell; a second Ctrl-C is the way to leave them out.
    """
    if not m.acted_or_showed:
        return None
    m = replace(m, interrupted=False)
    for node in (node for node in m.plan.nodes if node.role == "always"):
        said = turn(m, node)
        if isinstance(said, Stop):
            troubles.append(_told(node, said))
            said = follow(m, [node], _handlers(m, node), troubles) if said.failed else None
        if said is not None:
            return said
    return None


def _told(node: Node, stop: Stop) -> Finish:
    """A trouble names its step, once."""
    if stop.finish.status == "interrupted" and stop.failed is None:
        return replace(stop.finish, reason=f"{node.name} did not run")
    if stop.finish.reason.startswith(f"{node.name}: "):
        return stop.finish
    return replace(stop.finish, reason=f"{node.name}: {stop.finish.reason}")


def _last_word(m: Moment, finish: Finish, troubles: list[Finish]) -> Finish:
    if finish.status == "refused" and m.acted:
        finish = replace(finish, status="halted")
    for trouble in troubles:
        finish = _beside(finish, trouble)
    for owed in sorted(m.owed, key=lambda item: item.key):
        told = Finish(status="failed", reason=f"still owed: {owed.what}", by_hand=owed.by_hand)
        finish = _beside(finish, told)
    return finish


def _beside(first: Finish, trouble: Finish) -> Finish:
    """Tell a trouble beside what came first; a run that went well until then did not."""
    if first.status in {"done", "rehearsed"}:
        status = trouble.status if trouble.status == "unknown" else "failed"
        return replace(trouble, status=status)
    return replace(
        first,
        reason=f"{first.reason}; {trouble.reason}" if first.reason else trouble.reason,
        hint=first.hint or trouble.hint,
        by_hand=(*first.by_hand, *trouble.by_hand),
    )
