"""The rolling flow, decided: preflight, canary, admit, batches, thresholds. Pure.

The rules, from what went wrong elsewhere: every host is looked at before the first is touched; an
unreachable host counts as failed; any failure of the canary halts, whatever the threshold; a
threshold is exceeded, not equalled; a halted run starts no further host, and says which it never
came to. Hosts that are down already go first: restarting them costs no capacity.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate, islice, pairwise
from typing import Any, Literal

from runbook.engine.book import Book
from runbook.engine.moment import Moment, make_task
from runbook.model.plan import Finish, Node, Perform, Result, Task

Args = Mapping[str, Any]

_BAD = frozenset({"failed", "unreachable", "unknown", "refused"})


def unfit(book: Book, node: Node) -> Finish | None:
    """Return the end when the step must not begin, or None.

    A host that is not fit stops everything. Unreachable hosts count as failures of the run, and
    stop it when there are more of them than `max_failures`.
    """
    tally = book.tally(node, "preflight")
    kept: tuple[int, Finish | None] = book.memo.get(("unfit", node.key), (0, None))
    if kept[0] != tally.version:
        kept = (tally.version, _unfit(node, tally.in_order()))
        book.memo["unfit", node.key] = kept
    return kept[1]


def _unfit(node: Node, looked: Mapping[str, Result]) -> Finish | None:
    for target, result in looked.items():
        if result.status in _BAD - {"unreachable"}:
            return Finish(status="refused", reason=f"{target}: {result.summary}", hint=result.hint)
    twins = _one_machine_twice(looked)
    if twins is not None:
        return twins
    away = [target for target, result in looked.items() if result.status == "unreachable"]
    if len(away) > node.max_failures:
        first = looked[away[0]]
        reason = f"{', '.join(away)} not reachable: {first.summary}"
        return Finish(status="refused", reason=reason, hint=first.hint)
    return None


def _one_machine_twice(looked: Mapping[str, Result]) -> Finish | None:
    """An InvocationID is unique in the world: two hosts that show the same one are one."""
    seen: dict[str, str] = {}
    for target, result in looked.items():
        identity = str((result.data.get("baseline") or {}).get("InvocationID") or "")
        first = seen.setdefault(identity, target) if identity else target
        if first != target:
            return Finish(
                status="refused",
                reason=f"{first} and {target} are the same machine: it would be restarted twice",
                hint="leave one of them out of the service's hosts in the inventory",
            )
    return None


class _Rollout:
    """The hosts in the order in which they are restarted, cut into batches.

    Reachable ones, already-down ones first, otherwise in the order of the inventory.
    """

    def __init__(self, node: Node, looked: Mapping[str, Result]) -> None:
        present = [t for t in node.targets if t in looked and looked[t].good]
        self.order = sorted(present, key=lambda t: bool(looked[t].data.get("healthy", True)))
        ends = [min(end, len(self.order)) for end in accumulate(node.batches)]
        #: Where each batch ends in that order. Batches beyond the last host are none.
        self.ends = [end for before, end in pairwise([0, *ends]) if end > before]
        self.order = self.order[: self.ends[-1]] if self.ends else []
        self.away = sum(1 for r in looked.values() if r.status == "unreachable")
        self._begun = 0

    def batch(self, number: int) -> list[str]:
        """Return the hosts of a batch, counted from 1."""
        start = self.ends[number - 2] if number > 1 else 0
        return self.order[start : self.ends[number - 1]]

    def next(self, done: Mapping[str, Result]) -> tuple[int, int]:
        """Return the first host that has no result, and its batch's number; 0 when all have."""
        while self._begun < len(self.order) and self.order[self._begun] in done:
            self._begun += 1
        if self._begun == len(self.order):
            return self._begun, 0
        return self._begun, bisect_right(self.ends, self._begun) + 1


def _rollout(book: Book, node: Node) -> _Rollout:
    """Return the rollout; it is made anew only while hosts are still looked at."""
    looked = book.tally(node, "preflight")
    at, kept = book.memo.get(("rollout", node.key), (-1, None))
    if kept is None or at != looked.version:
        kept = _Rollout(node, looked.in_order())
        book.memo["rollout", node.key] = (looked.version, kept)
    rollout: _Rollout = kept
    return rollout


def act(m: Moment, node: Node, args: Args, shown: tuple[str, ...]) -> Perform | Finish | None:
    """Return what the step does next, or None when it is done."""
    rollout = _rollout(m.book, node)
    done = m.book.tally(node, "restart").last
    if m.plan.rehearsal:
        said = _rehearse(m, node, args, rollout)
        if m.interrupted and m.plan.engine > 1 and isinstance(said, Perform):
            return _halt(m, node, rollout)
        return said
    position, number = rollout.next(done)
    if not number:
        return _halt(m, node, rollout, final=True)
    halt = _halt(m, node, rollout)
    if halt is not None:
        return halt
    if not m.book.has(f"{node.key}/admit/{number}"):
        return Perform(tasks=(_admit(m, node, args, number, rollout),))
    end = rollout.ends[number - 1]
    missing = (t for t in islice(rollout.order, position, end) if t not in done)
    # No more than can run at once: a threshold that breaks meanwhile must stop the rest.
    now = islice(missing, m.plan.parallel)
    return Perform(tasks=tuple(_restart(m.book, node, args, t, shown) for t in now))


def _rehearse(m: Moment, node: Node, args: Args, rollout: _Rollout) -> Perform | Finish | None:
    """The first batch's admission is looked at live; every restart is shown."""
    book = m.book
    if rollout.order and not book.has(f"{node.key}/admit/1"):
        return Perform(tasks=(_admit(m, node, args, 1, rollout),))
    no = _refused_admission(book, node)
    if no is not None:
        return Finish(status="refused", reason=no.summary, hint=no.hint)
    done = book.tally(node, "restart").last
    missing = [target for target in rollout.order if target not in done]
    if not missing:
        return None
    return Perform(tasks=tuple(_restart(book, node, args, t, ()) for t in missing))


def _halt(m: Moment, node: Node, rollout: _Rollout, *, final: bool = False) -> Finish | None:
    finish = _broken(m, node, rollout)
    if finish is None and m.interrupted and not final:
        finish = Finish(status="interrupted", reason="stopped between batches")
    if finish is None:
        return None
    done = m.book.tally(node, "restart").last
    return replace(finish, not_reached=tuple(t for t in rollout.order if t not in done))


def _broken(m: Moment, node: Node, rollout: _Rollout) -> Finish | None:
    """Return the end when more has failed than may fail, or a batch was not admitted."""
    book = m.book
    tally = book.tally(node, "restart")
    # A host that stopped for an interrupt was put back as it was found: it has not failed.
    bad = {t: r for t, r in tally.bad.items() if not r.data.get("interrupted")}
    failed = len(bad) + rollout.away
    canary_bad = bool(bad) and any(t in bad for t in rollout.batch(1))
    if canary_bad or failed > node.max_failures:
        bad = {t: r for t, r in tally.in_order().items() if t in bad}
        return Finish(
            status=_status(bad, tally.last if m.plan.engine > 1 else {}),
            reason=_why(bad, canary_bad, failed, node.max_failures, m.plan.engine),
            hint=next((r.hint for r in bad.values() if r.hint), ""),
        )
    stopped = next((t for t in tally.bad if t not in bad), None)
    if stopped is not None:
        reason = f"{stopped}: {tally.bad[stopped].summary}"
        return Finish(status="interrupted", reason=reason)
    refused = _refused_admission(book, node)
    if refused is None:
        return None
    if refused.data.get("interrupted"):
        return Finish(status="interrupted", reason=refused.summary)
    # Before the first host, nothing has changed yet.
    status = "halted" if tally.last else "refused"
    return Finish(status=status, reason=refused.summary, hint=refused.hint)  # type: ignore[arg-type]


def _status(
    bad: Mapping[str, Result], all_: Mapping[str, Result]
) -> Literal["unknown", "refused", "halted"]:
    """Where every host refused to be touched, nothing has changed."""
    if any(result.status == "unknown" for result in bad.values()):
        return "unknown"
    untouched = bool(all_) and all(result.status == "refused" for result in all_.values())
    return "refused" if untouched else "halted"


def _why(bad: dict[str, Result], canary: bool, failed: int, allowed: int, engine: int) -> str:
    first = next(iter(bad.items()), None)
    what = f"{first[0]}: {first[1].summary}" if first else "hosts are unreachable"
    if engine > 1 and canary and first is not None and first[1].status == "refused":
        return what
    if canary:
        return f"the canary did not come back; {what}"
    return f"{failed} failed, {allowed} allowed; {what}"


def _refused_admission(book: Book, node: Node) -> Result | None:
    bad = book.tally(node, "admit").bad
    return bad[min(bad, key=int)] if bad else None


def _admit(m: Moment, node: Node, args: Args, number: int, rollout: _Rollout) -> Task:
    """The budget is the whole service's, so the task is its own, not a host's."""
    task = make_task(node, "admit", str(number), args)
    given: dict[str, Any] = {
        "batch": rollout.batch(number),
        "hosts": list(rollout.order),
        "min_available": node.min_available,
        "number": number,
        "of": len(rollout.ends),
    }
    if m.plan.engine > 1:
        given["targets"] = list(node.targets)
    return replace(task, target=str(node.args.get("service", "")), target_kind="none", given=given)


def _restart(book: Book, node: Node, args: Args, target: str, shown: tuple[str, ...]) -> Task:
    prepared = book.tally(node, "preflight").last[target].data
    task = make_task(node, "restart", target, args)
    return replace(task, changes=True, given={"prepared": prepared}, shown=shown)
