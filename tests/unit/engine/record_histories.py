"""Records histories: plans, what happened, and what was decided; `test_histories.py` replays them.

    PYTHONPATH=src:tests python -m unit.engine.record_histories [NAME ...]

writes the histories that are not recorded yet. One that is recorded stands for the runs that were
begun by these rules: it is never recorded anew. When a change of the rules decides it otherwise,
`decide` gets a new version beside the old one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from runbook.engine.asking import confirmed_by
from runbook.engine.decide import decide
from runbook.model.plan import (
    Command,
    Confirm,
    Finish,
    Obligation,
    Perform,
    Plan,
    Result,
    Task,
    plan_from_json,
)

FOLDER = Path(__file__).parent / "histories"
_LONGEST = 500


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A plan and a scripted world."""

    plan: Plan
    world: Callable[[Task], Result]
    #: What is answered to a question, by its key; anything else is answered with yes.
    answers: Mapping[str, bool] = field(default_factory=dict)
    #: After so many Performs somebody presses Ctrl-C.
    interrupt_after: int | None = None
    #: What was begun, or known, before: a run that is resumed.
    results: Mapping[str, Result] = field(default_factory=dict)
    answered: Mapping[str, bool] = field(default_factory=dict)
    owed: tuple[Obligation, ...] = ()
    #: What a task leaves owed, by its key; a settle that ends ok pays.
    owes: Mapping[str, Obligation] = field(default_factory=dict)


def lean(value: Any) -> Any:
    """Return a dataclass as plain data without what has its default: fields come and go."""
    if isinstance(value, list | tuple):
        return [lean(item) for item in value]
    if not hasattr(value, "__dataclass_fields__"):
        return value
    data = {f.name: getattr(value, f.name) for f in fields(value)}
    defaults = {
        f.name: f.default_factory() if f.default_factory is not MISSING else f.default
        for f in fields(value)
    }
    return {name: lean(item) for name, item in data.items() if item != defaults[name]}


def told(command: Command) -> dict[str, Any]:
    """Return a command as plain data; a question's hash hangs on every field that a plan has."""
    data = lean(command)
    data.pop("hash", None)
    return {type(command).__name__: json.loads(json.dumps(data))}


def record(scene: Scene) -> dict[str, Any]:
    """Play a scene to its end; note what was decided at each moment, with and without Ctrl-C."""
    results, answers, owed = dict(scene.results), dict(scene.answered), list(scene.owed)
    confirmed: frozenset[str] = frozenset()
    moves: list[dict[str, Any]] = []
    news: dict[str, Result] = dict(results)
    performs = 0
    for _ in range(_LONGEST):
        stop = scene.interrupt_after is not None and performs >= scene.interrupt_after
        known = {"answers": dict(answers), "owed": [lean(item) for item in owed]}
        if scene.plan.engine > 1:
            known["confirmed"] = sorted(confirmed)
        said = {
            flag: decide(
                scene.plan,
                results,
                answers,
                interrupted=flag,
                confirmed=confirmed,
                **_owing(owed),
            )
            for flag in (False, True)
        }
        moves.append(
            {
                "new": {key: lean(result) for key, result in news.items()},
                **{name: value for name, value in known.items() if value},
                "command": told(said[False]),
                "interrupted": told(said[True]),
            }
        )
        command = said[stop]
        match command:
            case Perform(tasks=tasks):
                performs += 1
                news = {task.key: scene.world(task) for task in tasks}
                results |= news
                owed = _owed_after(scene, owed, tasks, news)
            case Confirm(key=key) as confirm:
                news = {}
                answers[key] = scene.answers.get(key, True)
                confirmed |= confirmed_by(confirm, yes=answers[key])
            case Finish():
                plan = {**lean(scene.plan), "nodes": [lean(node) for node in scene.plan.nodes]}
                return {"plan": json.loads(json.dumps(plan)), "moves": moves}
    raise AssertionError("the history does not come to an end")


def _owing(owed: list[Obligation]) -> dict[str, Any]:
    return {"owed": tuple(owed)} if owed else {}


def _owed_after(
    scene: Scene, owed: list[Obligation], tasks: tuple[Task, ...], news: Mapping[str, Result]
) -> list[Obligation]:
    paid = {
        task.given["owed"]["key"]
        for task in tasks
        if task.phase == "settle" and news[task.key].status == "ok"
    }
    fresh = [scene.owes[task.key] for task in tasks if task.key in scene.owes]
    return [item for item in owed if item.key not in paid] + fresh


def replay(history: Mapping[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return what was decided at each moment beside what is decided now."""
    plan = plan_from_json(history["plan"])
    results: dict[str, Result] = {}
    pairs = []
    for move in history["moves"]:
        results |= {key: _result(data) for key, data in move["new"].items()}
        owed = [
            Obligation(**{**item, "by_hand": tuple(item.get("by_hand", ()))})
            for item in move.get("owed", ())
        ]
        for name, flag in (("command", False), ("interrupted", True)):
            command = decide(
                plan,
                results,
                move.get("answers", {}),
                interrupted=flag,
                confirmed=move.get("confirmed", ()),
                **_owing(owed),
            )
            pairs.append((move[name], told(command)))
    return pairs


def _result(data: Mapping[str, Any]) -> Result:
    tuples = {
        name: tuple(data[name]) for name in ("touches", "not_exercised", "by_hand") if name in data
    }
    return Result(**{**data, **tuples})


def main(names: list[str]) -> None:
    """Record what is not recorded yet."""
    from unit.engine.scenes import SCENES

    for name, scene in SCENES.items():
        path = FOLDER / f"{name}.json"
        if (names and name not in names) or path.exists():
            continue
        path.write_text(json.dumps(record(scene()), indent=1, sort_keys=True) + "\n")
        print(f"recorded {path.name}")


if __name__ == "__main__":
    main(sys.argv[1:])
