"""The engine: planning, deciding, resuming a thousand hosts; and what the journal costs."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure import Command, NotMeasured, interleave, ratios
from bench.report import Figure, figure, missing
from lab.docker_engine import DockerFailed, LabUnavailable
from lab.lab import UNIT, Lab
from runbook import wiring
from runbook.adapters.journal import SqliteJournal
from runbook.engine.book import Ledger
from runbook.engine.decide import decide
from runbook.engine.planning import make_plan
from runbook.engine.resume import take_up
from runbook.model.events import Event
from runbook.model.plan import Confirm, Finish, Perform, Plan, Result, Task
from runbook.model.ports import RunRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from runbook.model.events import Kind
    from runbook.model.fleet import Fleet

_HOSTS = 1000
_ROUNDS = 5
#: From so few to so many hosts, the time for each host may grow by no more than this: what is
#: linear stays at 1, what is quadratic comes to 8; caches that no longer fit cost the rest.
_FEW, _MANY, _GROWTH = 500, 4000, 2.0
#: What the journal may add to a rolling restart.
_JOURNAL_SHARE = 1.05
_JOURNAL_ROUNDS = 6
#: The quickest that a rolling restart can be: what the journal costs shows the most.
_ROLLING = {
    "batches": [1],
    "settle": "0s",
    "gate": {"successes": 1, "interval": "100ms", "deadline": "30s"},
}


def measure() -> list[Figure]:
    """Return the figures; those of the journal need the lab."""
    with tempfile.TemporaryDirectory(prefix="runbook-bench-") as folder:
        home = Path(folder)
        return [*_planning(home), *_deciding(home), *_resuming(home), _journaling(home)]


# ---- planning ----------------------------------------------------------------------------------


def _fleet(home: Path, hosts: int) -> Fleet:
    lines = "\n".join(f"  web-{i}: {{address: 10.0.{i // 250}.{i % 250}}}" for i in range(hosts))
    path = home / f"{hosts}.yaml"
    services = "services:\n  shop: {hosts: all, unit: shop.service, rolling: {batches: [1, 10%]}}\n"
    path.write_text(f"version: 1\nhosts:\n{lines}\n{services}")
    return wiring.load_fleet(str(path))


def _plan(fleet: Fleet) -> Plan:
    playbook = wiring.load_playbook("rolling-restart")
    return make_plan(playbook, fleet=fleet, target="shop", given={}, rehearsal=False)


def _planning(home: Path) -> list[Figure]:
    planned, whole = [], []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        fleet = _fleet(home, _HOSTS)
        read = time.perf_counter()
        assert _plan(fleet).hash
        planned.append(time.perf_counter() - read)
        whole.append(time.perf_counter() - began)
    return [
        figure(f"planning {_HOSTS} hosts", "s", planned, 1.0),
        figure("the same, reading the inventory before", "s", whole),
    ]


# ---- deciding ----------------------------------------------------------------------------------


def _well(task: Task) -> Result:
    """Every host is fit and comes back."""
    baseline = {"InvocationID": task.target}
    touches = (f"{task.target}: systemctl restart shop.service",)
    return Result(
        status="ok",
        summary="well",
        data={"healthy": True, "baseline": baseline, "timeouts": {"restart_s": 90}},
        touches=touches if task.phase in {"preflight", "prepare"} else (),
    )


def _play(plan: Plan, tell: Callable[[Kind, str | None, dict[str, Any]], None]) -> float:
    """Play a run to its end; return the seconds that deciding took."""
    results, spent = Ledger(), 0.0
    answers: dict[str, bool] = {}
    while True:
        began = time.perf_counter()
        command = decide(plan, results, answers)
        spent += time.perf_counter() - began
        match command:
            case Finish():
                assert command.status == "done", command
                return spent
            case Confirm():
                answers[command.key] = True
                tell("asked", None, asdict(command))
                tell("answered", None, {**asdict(command), "yes": True, "by": "bench"})
            case Perform(tasks=tasks):
                for task in tasks:
                    results.record({task.key: _performed(task, tell)})


def _performed(task: Task, tell: Callable[[Kind, str | None, dict[str, Any]], None]) -> Result:
    tell("task_started", task.key, {"verb": task.verb, "phase": task.phase})
    if task.changes:
        tell("intended", task.key, {"sentence": f"restart {task.target}", "footprint": []})
        tell("changed", task.key, {"sentence": f"restart {task.target}", "seconds": 1})
    result = _well(task)
    tell("task_finished", task.key, {"result": asdict(result)})
    return result


def _deciding(home: Path) -> list[Figure]:
    growth, many = [], []
    plans = {hosts: _plan(_fleet(home, hosts)) for hosts in (_FEW, _MANY)}
    for _ in range(_ROUNDS):
        seconds = {hosts: _play(plan, lambda *_: None) for hosts, plan in plans.items()}
        growth.append((seconds[_MANY] / _MANY) / (seconds[_FEW] / _FEW))
        many.append(seconds[_MANY])
    what = f"decide, time for each host: {_MANY} hosts / {_FEW} hosts"
    return [
        figure(what, "times", growth, _GROWTH),
        figure(f"decide, a whole run over {_MANY} hosts", "s", many),
    ]


# ---- resuming ----------------------------------------------------------------------------------


def _resuming(home: Path) -> list[Figure]:
    """A run over a thousand hosts, killed half-way: from its journal to the next command."""
    plan = _plan(_fleet(home, _HOSTS))
    events: list[Event] = []
    _play(plan, lambda kind, task, data: events.append(_event(kind, task, data)))
    journal = SqliteJournal(home / "journal.db")
    journal.begin(_record(plan), plan.to_json())
    restarts = [n for n, e in enumerate(events) if e.kind == "intended"]
    for event in events[: restarts[len(restarts) // 2] + 1]:
        journal.notice(event)
    journal.close()
    return [figure(f"resume decides, {_HOSTS} hosts killed half-way", "s", _resumed(home), 1.0)]


def _resumed(home: Path) -> list[float]:
    plan = _plan(_fleet(home, _HOSTS))
    taken = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        journal = SqliteJournal(home / "journal.db")
        kept = journal.run("bench")
        assert kept is not None
        known = take_up(plan, kept.events)
        answers = {key: answer.yes for (key, _), answer in known.answers.items()}
        command = decide(plan, Ledger(known.results), answers, owed=known.owed)
        taken.append(time.perf_counter() - began)
        assert isinstance(command, Perform), command
        journal.close()
    return taken


def _event(kind: Kind, task: str | None, data: dict[str, Any]) -> Event:
    return Event(kind=kind, at=1.0, task=task, data=json.loads(json.dumps(data)))


def _record(plan: Plan) -> RunRecord:
    return RunRecord(
        run_id="bench",
        playbook=plan.playbook,
        target=plan.target,
        rehearsal=False,
        status="running",
        started_at=1.0,
        ended_at=None,
        who="bench",
        incident=None,
        plan_hash=plan.hash,
    )


# ---- journaling --------------------------------------------------------------------------------


def _journaling(home: Path) -> Figure:
    what = "rolling restart of 4 hosts: with the journal / without"
    try:
        lab = Lab.start(app_hosts=4, name="bench", owned=True)
    except (NotMeasured, LabUnavailable, DockerFailed) as error:
        return missing(what, str(error))
    try:
        inventory = home / "journal.yaml"
        shop = {"rolling": _ROLLING, "database": None}
        inventory.write_text(lab.inventory_yaml(services={"shop": shop}))
        env = {"RUNBOOK_STATE": str(home / "state"), "PYTHONPATH": "tests:."}
        commands = {
            name: Command(
                argv=(sys.executable, "-m", "bench.journaled", str(inventory), name), env=env
            )
            for name in ("with", "without")
        }
        taken = interleave(commands, _JOURNAL_ROUNDS, before=lambda: _forgive(lab))
        return figure(what, "times", ratios(taken["with"], taken["without"]), _JOURNAL_SHARE)
    finally:
        lab.stop()


def _forgive(lab: Lab) -> None:
    """Let systemd forget past starts: five in ten seconds would be refused."""
    for host in lab.apps:
        lab.exec(host, ["systemctl", "reset-failed", UNIT])
