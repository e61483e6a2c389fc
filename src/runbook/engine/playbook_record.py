"""A kept run as a test of its playbook: a real night becomes a regression test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runbook.engine.book import Ledger, main_phase
from runbook.engine.decide import why_not_run
from runbook.engine.outcomes import step_outcomes
from runbook.model.errors import UsageError
from runbook.model.events import Event
from runbook.model.plan import Node, Plan, Result, plan_from_json
from runbook.model.ports import KeptRun

#: What a scripted result has, beside its status.
_KEPT = ("summary", "hint", "data", "touches")


def recorded(run: KeptRun, playbook: str, inventory: str | dict[str, Any]) -> dict[str, Any]:
    """Return a test file's value: the run's answers, and what came of it as what is expected.

    Raises:
        UsageError: when the run has no end, or no record of what was asked for.
    """
    ending = next((e for e in reversed(run.events) if e.kind == "finished"), None)
    if ending is None or run.request is None:
        why = "has no end yet" if ending is None else "was kept without what was asked for"
        raise UsageError(f"run {run.record.run_id} {why}", hint="record a run that has ended")
    plan = plan_from_json(run.plan)
    results = _results(run.events)
    case: dict[str, Any] = {
        "name": f"as run {run.record.run_id} went",
        "target": run.request.target,
        "params": dict(run.request.params),
        "rehearsal": plan.rehearsal,
        "limit": run.request.limit,
        "tags": list(run.request.tags),
        "skip_tags": list(run.request.skip_tags),
        "outcomes": [_outcome(plan, key, result) for key, result in results.items()],
        "answers": _answers(run.events),
        "expect": {
            "status": str(ending.data["status"]),
            "steps": _statuses(plan, results),
            "shows": _looked_at(plan, results) if plan.rehearsal else _shown(run.events),
        },
    }
    kept = {key: value for key, value in case.items() if value not in (None, {}, [], False)}
    return {"version": 1, "playbook": playbook, "inventory": inventory, "cases": [kept]}


def _results(events: Sequence[Event]) -> dict[str, dict[str, Any]]:
    """A task that was done again after a crash has two results: the last one stands."""
    ended = [event for event in events if event.kind == "task_finished" and event.task]
    return {str(event.task): dict(event.data["result"]) for event in ended}


def _outcome(plan: Plan, key: str, result: dict[str, Any]) -> dict[str, Any]:
    node, phase, target, attempt = _split(plan, key)
    outcome: dict[str, Any] = {"step": node.key, "target": target}
    if phase != main_phase(node):
        outcome["phase"] = phase
    if node.retry is not None:
        outcome["attempt"] = attempt
    kept = {name: result[name] for name in _KEPT if result.get(name)}
    outcome["result"] = {"status": result["status"], **kept}
    return outcome


def _split(plan: Plan, key: str) -> tuple[Node, str, str, int]:
    """An item of a loop may have any text in its key: the step is found by its own key."""
    whole, _, number = key.rpartition("#")
    retried = bool(whole) and number.isdigit()
    rest = whole if retried else key
    node = max((n for n in plan.nodes if rest.startswith(f"{n.key}/")), key=lambda n: len(n.key))
    phase, _, target = rest[len(node.key) + 1 :].partition("/")
    return node, phase, target, int(number) if retried else 1


def _answers(events: Sequence[Event]) -> dict[str, bool]:
    answers: dict[str, bool] = {}
    for event in events:
        if event.kind == "answered":
            key = str(event.data.get("key", "confirm"))
            answers["plan" if key == "confirm" else key.rpartition("/")[0]] = bool(
                event.data["yes"]
            )
    return answers


def _shown(events: Sequence[Event]) -> list[str]:
    asked = [e for e in events if e.kind == "asked" and e.data.get("kind", "plan") == "plan"]
    return list(asked[0].data["touches"]) if asked else []


def _looked_at(plan: Plan, results: dict[str, dict[str, Any]]) -> list[str]:
    """A rehearsal asks nobody: it shows what its looks say that would be touched."""
    looks = {
        key: result
        for key, result in results.items()
        if _split(plan, key)[1] in {"prepare", "preflight"}
    }
    return list(dict.fromkeys(line for r in looks.values() for line in r.get("touches", ())))


def _statuses(plan: Plan, results: dict[str, dict[str, Any]]) -> dict[str, str]:
    ledger = Ledger({key: _result(result) for key, result in results.items()})
    statuses: dict[str, str] = {}
    for step in step_outcomes(plan, ledger):
        told = step.result or why_not_run(plan, step.node, ledger)
        statuses[step.node.key] = told.status if told else "not_reached"
    return statuses


def _result(data: dict[str, Any]) -> Result:
    names = ("touches", "not_exercised", "by_hand", "masked")
    lists = {key: tuple(data.get(key, ())) for key in names}
    return Result(**{**data, **lists})
