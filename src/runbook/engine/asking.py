"""Questions: the plan's one confirmation, a step's own, an approval. Each answer binds to a hash.

The hash of the plan's question covers the plan and every line that was shown. That of a step's
question covers the plan, the step's key, and the footprints that the question stands for. To whom
the plan's question is put, and for how long, is in the run's request, and in no hash: it changes
nothing of what a yes would do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from runbook.engine.knowing import arguments, filled_text
from runbook.engine.moment import Moment, Stop, covers
from runbook.engine.preparing import node_touches, touches
from runbook.model.plan import Confirm, Finish, Node
from runbook.model.ports import Request

CONFIRM = "confirm"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Question:
    """A question of a step's own, or of an include that it is the first step of."""

    of: str
    prompt: str


def plan_question(m: Moment, node: Node) -> Confirm | Stop | None:
    """Return the plan's question, or the end when the answer was no; None when the way is free.

    A yes stands for the lines that were shown: a step that would touch others asks anew.
    """
    if m.plan.rehearsal or _way_is_free(m, node):
        return None
    shown = touches(m)
    if not shown:
        return None
    if m.interrupted:
        refused = m.answers.get(CONFIRM) is False
        why = "not confirmed; nothing was changed" if refused else _BETWEEN
        return Stop(finish=Finish(status="interrupted", reason=why))
    if m.answers.get(CONFIRM) is False:
        return Stop(finish=Finish(status="refused", reason="not confirmed"))
    return Confirm(key=CONFIRM, touches=shown, hash=_digest([m.plan.hash, *shown]))


def _way_is_free(m: Moment, node: Node) -> bool:
    if m.plan.engine == 1:
        return bool(m.answers.get(CONFIRM))
    lines = node_touches(m, node)
    kept: tuple[object, object, bool] = m.book.memo.get(("free", node.key), (None, None, False))
    if kept[0] is not lines or kept[1] is not m.confirmed:
        # After a yes, a step that touches nothing needs no further one.
        free = bool(m.confirmed) and m.confirmed.issuperset(lines)
        kept = m.book.memo["free", node.key] = (lines, m.confirmed, free)
    return kept[2]


def confirmed_by(confirm: Confirm, *, yes: bool) -> frozenset[str]:
    """Return the lines that an answer confirms: only the plan's question stands for changes."""
    return frozenset(confirm.touches if yes and confirm.kind == "plan" else ())


def put_to(confirm: Confirm, request: Request | None) -> Confirm:
    """Return a question as it is put: the plan's to whom the request names, for as long as it says.

    Steps' own questions and approvals say for themselves whom they are for.
    """
    if request is None or confirm.kind != "plan":
        return confirm
    return replace(confirm, by=request.approvers, expires_s=request.answer_within_s)


def said_before(confirm: Confirm, request: Request | None) -> str:
    """Return who has said yes to a question before the run began; empty: nobody has."""
    return request.confirmed_by if request is not None and confirm.kind != "approval" else ""


def step_question(m: Moment, node: Node) -> Confirm | Stop | None:
    """Return the first question that a step's way still hangs on, or the end after a no.

    Asked only when nobody wants the run to stop.
    """
    if m.plan.rehearsal:
        return None
    for question in _questions(node):
        key = f"{question.of}/confirm"
        if m.answers.get(key):
            continue
        if key in m.answers:
            return _no(m, node, "not confirmed")
        shown = _shown(m, question.of)
        return Confirm(
            key=key,
            touches=shown,
            hash=_digest([m.plan.hash, key, *shown]),
            kind="step",
            prompt=filled_text(m, node, question.prompt),
            node=question.of,
        )
    return None


def approval(m: Moment, node: Node) -> Confirm | Stop | None:
    """Return the question of the verb `approve`, or the end after a no."""
    key = approval_key(node)
    if m.answers.get(key):
        return None
    if key in m.answers:
        return _no(m, node, "not approved")
    args = arguments(m, node)
    args = args if isinstance(args, dict) else node.args
    by, expires = args.get("by") or (), args.get("expires")
    return Confirm(
        key=key,
        touches=touches(m),
        hash=_digest([m.plan.hash, key, *touches(m)]),
        kind="approval",
        prompt=str(args.get("prompt") or node.name),
        node=node.key,
        by=(by,) if isinstance(by, str) else tuple(by),
        expires_s=None if expires is None else float(expires),
    )


def approval_key(node: Node) -> str:
    """Return the key under which an approval is answered."""
    return f"{node.key}/approval"


_BETWEEN = "stopped between steps"


def interrupted() -> Stop:
    """Return the end of a line that somebody wants to stop."""
    return Stop(finish=Finish(status="interrupted", reason=_BETWEEN))


def _questions(node: Node) -> Iterator[_Question]:
    for of, prompt in node.also_confirm:
        yield _Question(of=of, prompt=prompt)
    if node.confirm is not None:
        yield _Question(of=node.key, prompt=node.confirm)


def _shown(m: Moment, of: str) -> tuple[str, ...]:
    nodes = (node for node in m.plan.nodes if covers(of, node))
    return tuple(line for node in nodes for line in node_touches(m, node))


def _no(m: Moment, node: Node, why: str) -> Stop:
    """A no is no failure: nothing is done about it, and nothing further begins."""
    left = node.targets if node.changes and m.acted else ()
    return Stop(
        finish=Finish(status="refused", reason=f"{node.name}: {why}", not_reached=tuple(left))
    )


def _digest(said: list[str]) -> str:
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]
