"""The rolling flow, decided: preflight, canary, admit, batches, thresholds. Pure.

The rules, from what went wrong elsewhere: every host is looked at before the first is touched; an
unreachable host counts as failed; any failure of the canary halts, whatever the threshold; a
threshold is exceeded, not equalled; a halted run starts no further host, and says which it never
came to. Hosts that are down already go first: restarting them costs no capacity.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from runbook.engine.outcomes import Results, target_results, task_key
from runbook.model.plan import Finish, Node, Perform, Plan, Result, Task

_BAD = frozenset({"failed", "unreachable", "unknown", "refused"})


def preflight(node: Node, results: Results) -> tuple[Task, ...]:
    """Return the looks that are still to be taken before anything is touched."""
    return tuple(
        _task(node, "preflight", target)
        for target in node.targets
        if task_key(node, "preflight", target) not in results
    )


def unfit(node: Node, results: Results) -> Finish | None:
    """Return the end when the step must not begin, or None.

    A host that is not fit stops everything. Unreachable hosts count as failures of the run, and
    stop it when there are more of them than `max_failures`.
    """
    looked = target_results(node, "preflight", results)
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


def batches(node: Node, results: Results) -> tuple[tuple[str, ...], ...]:
    """Return the hosts of each batch: reachable ones, already-down ones first, order kept."""
    looked = target_results(node, "preflight", results)
    present = [t for t in node.targets if t in looked and looked[t].good]
    ordered = iter(sorted(present, key=lambda t: bool(looked[t].data.get("healthy", True))))
    cut = tuple(tuple(islice(ordered, size)) for size in node.batches)
    return tuple(batch for batch in cut if batch)


def act(
    plan: Plan, node: Node, results: Results, shown: tuple[str, ...], interrupted: bool
) -> Perform | Finish | None:
    """Return what the step does next, or None when it is done."""
    todo = batches(node, results)
    if plan.rehearsal:
        return _rehearse(node, todo, results)
    for number, batch in enumerate(todo, start=1):
        missing = [t for t in batch if task_key(node, "restart", t) not in results]
        if not missing:
            continue
        halt = _halt(node, todo, results, interrupted)
        if halt is not None:
            return halt
        admitted = results.get(task_key(node, "admit", str(number)))
        if admitted is None:
            return Perform(tasks=(_admit(node, number, batch, todo),))
        # No more than can run at once: a threshold that breaks meanwhile must stop the rest.
        now = missing[: plan.parallel]
        return Perform(tasks=tuple(_restart(node, t, results, shown) for t in now))
    return _halt(node, todo, results, interrupted, final=True)


def _rehearse(
    node: Node, todo: tuple[tuple[str, ...], ...], results: Results
) -> Perform | Finish | None:
    """The first batch's admission is looked at live; every restart is shown."""
    if todo and task_key(node, "admit", "1") not in results:
        return Perform(tasks=(_admit(node, 1, todo[0], todo),))
    no = _refused_admission(node, results)
    if no is not None:
        return Finish(status="refused", reason=no.summary, hint=no.hint)
    missing = [t for b in todo for t in b if task_key(node, "restart", t) not in results]
    if not missing:
        return None
    return Perform(tasks=tuple(_restart(node, t, results, ()) for t in missing))


def _halt(
    node: Node,
    todo: tuple[tuple[str, ...], ...],
    results: Results,
    interrupted: bool,
    *,
    final: bool = False,
) -> Finish | None:
    done = target_results(node, "restart", results)
    left = tuple(t for batch in todo for t in batch if t not in done)
    bad = {t: r for t, r in done.items() if r.status in _BAD}
    away = [
        t
        for t, r in target_results(node, "preflight", results).items()
        if r.status == "unreachable"
    ]
    failed = len(bad) + len(away)
    canary_bad = bool(todo) and any(t in bad for t in todo[0])
    if canary_bad or failed > node.max_failures:
        unknown = any(r.status == "unknown" for r in bad.values())
        return Finish(
            status="unknown" if unknown else "halted",
            reason=_why(bad, canary_bad, failed, node.max_failures),
            hint=next((r.hint for r in bad.values() if r.hint), ""),
            not_reached=left,
        )
    refused = _refused_admission(node, results)
    if refused is not None:
        # Before the first host, nothing has changed yet.
        return Finish(
            status="halted" if done else "refused",
            reason=refused.summary,
            hint=refused.hint,
            not_reached=left,
        )
    if interrupted and not final:
        return Finish(status="interrupted", reason="stopped between batches", not_reached=left)
    return None


def _why(bad: dict[str, Result], canary: bool, failed: int, allowed: int) -> str:
    first = next(iter(bad.items()), None)
    what = f"{first[0]}: {first[1].summary}" if first else "hosts are unreachable"
    if canary:
        return f"the canary did not come back; {what}"
    return f"{failed} failed, {allowed} allowed; {what}"


def _refused_admission(node: Node, results: Results) -> Result | None:
    prefix = f"{node.key}/admit/"
    return next((r for k, r in results.items() if k.startswith(prefix) and not r.good), None)


def _task(node: Node, phase: str, target: str) -> Task:
    return Task(
        key=task_key(node, phase, target),
        node=node.key,
        verb=node.verb,
        phase=phase,
        target=target,
        args=node.args,
        timeout_s=node.timeout_s,
    )


def _admit(
    node: Node, number: int, batch: tuple[str, ...], todo: tuple[tuple[str, ...], ...]
) -> Task:
    task = _task(node, "admit", str(number))
    given = {
        "batch": list(batch),
        "hosts": [target for group in todo for target in group],
        "min_available": node.min_available,
        "number": number,
        "of": len(todo),
    }
    return Task(
        key=task.key,
        node=task.node,
        verb=task.verb,
        phase="admit",
        target=str(node.args.get("service", "")),
        args=task.args,
        timeout_s=task.timeout_s,
        given=given,
    )


def _restart(node: Node, target: str, results: Results, shown: tuple[str, ...]) -> Task:
    task = _task(node, "restart", target)
    prepared = results[task_key(node, "preflight", target)].data
    return Task(
        key=task.key,
        node=task.node,
        verb=task.verb,
        phase="restart",
        target=target,
        args=task.args,
        timeout_s=task.timeout_s,
        changes=True,
        given={"prepared": prepared},
        shown=shown,
    )
