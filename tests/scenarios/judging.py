"""Has a scenario judged through the real doors, and holds what is said against the truth."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from runbook.doors import open_doors
from runbook.engine.drive import World, drive
from runbook.findings.judge import FindingsJudge
from runbook.model.effects import ReadCommand
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.leaks import LeakPolicy, TerminationPlan
from runbook.model.plan import Result, Task
from scenarios.networks import NamespaceDoor
from scenarios.scenario import Judged
from scenarios.servers import HOST
from unit.findings.world import older

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runbook.model.diagnosis import Diagnosis
    from runbook.model.effects import Drive
    from runbook.model.sessions import Snapshot
    from scenarios.scenario import Scenario
    from scenarios.stage import Stage

JUDGE = FindingsJudge()
#: The hosts of every scenario's inventory; all of them are this machine, so that only their
#: sessions' application_name tells them apart.
HOSTS: dict[str, dict[str, Any]] = {
    **{f"web-0{n}": {"address": HOST, "groups": ["web"]} for n in range(1, 5)},
    "jobs-01": {"address": HOST, "groups": ["jobs"]},
    "db-01": {"address": "192.0.2.5"},
    "pool-01": {"address": "::1"},
}

LOOK = Task(
    key="look",
    node="look",
    verb="diagnose",
    phase="act",
    target="db",
    args={},
    timeout_s=60.0,
)


def judge(scenario: Scenario, stage: Stage, failures: Path | None = None) -> Judged:
    """Examine the server as it is now, and compare; what went wrong is kept in `failures`."""
    fleet = inventory(scenario, stage)
    seen = aged(look(fleet, stage.namespaces), stage)
    diagnosis = JUDGE.diagnose(seen, fleet)
    plan = JUDGE.leaks(seen, fleet, LeakPolicy())
    judged = compare(scenario, stage, seen, diagnosis, plan)
    if failures is not None and not judged.right:
        keep(failures, judged, seen, diagnosis, plan)
    return judged


def inventory(scenario: Scenario, stage: Stage) -> Fleet:
    """Return what the team has written down."""
    network = stage.server.network if stage.namespaces else None
    place = network.server if network else HOST
    connect = {"host": place, "port": stage.server.port, "dbname": "postgres", "user": "oncall"}
    addresses = {host: network.address(host) for host in stage.namespaces} if network else {}
    database = {
        "host": "db-01",
        "connect": connect,
        "admin": {"user": "postgres"},
        "rescue": {"user": "rescue"},
    }
    bouncers = {
        name: {"host": "pool-01", "database": "db", "port": port, "admin": {"user": "postgres"}}
        for name, port in stage.bouncers.items()
    }
    return Fleet(
        Inventory.model_validate(
            {
                "version": 1,
                "hosts": {
                    name: {**host, "address": addresses.get(name, host["address"])}
                    for name, host in HOSTS.items()
                },
                "databases": {"db": database},
                "services": dict(scenario.services),
                "pgbouncers": bouncers,
                **scenario.inventory,
            }
        )
    )


def look(fleet: Fleet, namespaces: Mapping[str, str]) -> Snapshot:
    """Examine the server through the doors and the driver of a real run."""
    seen: list[Snapshot] = []

    def examination() -> Drive[Result]:
        seen.append((yield from JUDGE.examine("db", fleet, hosts=bool(namespaces))))
        return Result(status="ok")

    doors = open_doors(fleet, rehearsal=True)
    if namespaces:
        doors[ReadCommand] = NamespaceDoor(fleet, namespaces)
    try:
        result = drive(
            examination(),
            LOOK,
            World(doors=doors, rehearsal=True),
            lambda _kind, _data: None,
        )
    finally:
        for door in set(doors.values()):
            door.close()
    if not seen:
        raise AssertionError(f"no diagnosis: {result.summary} {result.hint}")
    return seen[0]


def aged(seen: Snapshot, stage: Stage) -> Snapshot:
    """Return the snapshot as it would be, had each session stayed as it is for that much longer."""
    for seconds in sorted(set(stage.older.values())):
        pids = {pid for pid, age in stage.older.items() if age == seconds}
        seen = older(seen, seconds, lambda session, pids=pids: session.pid in pids)  # type: ignore[misc]
    sessions = tuple(
        replace(s, age_s=(s.age_s or 0.0) + stage.connected.get(s.pid, 0.0)) for s in seen.sessions
    )
    return replace(seen, sessions=sessions)


def compare(
    scenario: Scenario,
    stage: Stage,
    seen: Snapshot,
    diagnosis: Diagnosis,
    plan: TerminationPlan,
) -> Judged:
    """Hold what was said against what the clients know."""
    there = {s.pid for s in seen.clients if s.application_name not in stage.fleeting}
    lost = stage.lost & there
    ended = {proved.session.pid for proved in plan.sessions}
    finding = diagnosis.finding
    further = tuple(f.cause for f in diagnosis.also)
    owner = finding.owners[0].label if finding.owners else ""
    return Judged(
        scenario=scenario.name,
        kind=scenario.kind,
        version=stage.server.version,
        expected=scenario.cause,
        cause=finding.cause,
        also=further,
        cause_right=finding.cause == scenario.cause,
        also_right=tuple(c for c in further if c not in scenario.tolerated) == scenario.also,
        # A lock's root is named in the title; the owners are first those who wait most.
        owner_right=None
        if scenario.owner is None
        else scenario.owner == owner or scenario.owner in finding.title,
        owner=owner,
        rung=seen.rung,
        lost=len(lost),
        proved=len(ended & lost),
        healthy=len(there - lost),
        killed=len(ended - lost),
    )


def keep(
    folder: Path, judged: Judged, seen: Snapshot, diagnosis: Diagnosis, plan: TerminationPlan
) -> None:
    """Write down all that there is to know about a wrong judgement."""
    folder.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {
        "judged": asdict(judged),
        "diagnosis": diagnosis.model_dump(mode="json"),
        "terminates": [f"{p.session.pid} {p.owner}: {p.proof}" for p in plan.sessions],
        "spared": [asdict(spared) for spared in plan.spared],
        "snapshot": asdict(seen),
    }
    file = folder / f"{judged.scenario}-{judged.version}.json"
    file.write_text(json.dumps(told, indent=1, default=str), encoding="utf-8")


def without_diagnosis(scenario: Scenario, version: str, why: str) -> Judged:
    """Return the record of a scenario that could not be judged: a fault, and told as one."""
    return Judged(
        scenario=scenario.name,
        kind=scenario.kind,
        version=version,
        expected=scenario.cause,
        failed=why,
        owner_right=None if scenario.owner is None else False,
    )


def skipped(scenario: Scenario, version: str, why: str) -> Judged:
    """Return the record of a scenario that was not run."""
    return replace(without_diagnosis(scenario, version, ""), skipped=why, owner_right=None)
