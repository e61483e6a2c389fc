"""A small world for the drives of a rolling restart: hosts, gates and a database that answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runbook.model.effects import (
    Change,
    CommandOutcome,
    Drive,
    HttpGet,
    HttpReply,
    Interrupted,
    Note,
    Now,
    Owe,
    Paid,
    ReadCommand,
    ReadSql,
    Rows,
    Say,
    ShowUnit,
    Sleep,
    Together,
    UnitState,
)
from runbook.model.errors import DoorError, Refused, StepFailed
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.plan import Result
from runbook.model.step import StepContext

LISTING = """User oncall may run the following commands on web-1:
    (root) NOPASSWD: /usr/bin/systemctl restart shop.service
"""

UNIT = {
    "Id": "shop.service",
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "InvocationID": "first",
    "MainPID": "10",
    "NRestarts": "0",
    "Result": "success",
    "Type": "notify",
    "CanStart": "yes",
    "CanStop": "yes",
    "NeedDaemonReload": "no",
    "TimeoutStartUSec": "1min 30s",
    "TimeoutStopUSec": "10s",
    "RestartUSec": "100ms",
}

ROW = {
    "now": "2026-01-01 02:17:00.000000+00",
    "asked_as": "oncall",
    "sees_all": True,
    "usable": 37,
    "used": 20,
    "sessions": 5,
    "old": 0,
}


def fleet(**shop: Any) -> Fleet:
    """Four hosts that run `shop`; keys of the service are overridden by name."""
    service = {
        "hosts": "web",
        "unit": "shop.service",
        "database": "db",
        "application_name": "shop-${host.name}",
        "gates": [{"http": {"url": "http://${host.address}:8000/healthz"}}],
        "rolling": {"settle": "2s", "gate": {"successes": 2, "interval": "1s", "deadline": "20s"}},
    }
    hosts = {f"web-{n}": {"address": f"10.0.1.{n}", "groups": ["web"]} for n in range(1, 5)}
    document = {
        "version": 1,
        "defaults": {"ssh": {"user": "oncall"}},
        "hosts": {**hosts, "other": {"address": "10.0.9.9"}},
        "databases": {"db": {"connect": {"host": "10.0.0.5", "user": "oncall"}}},
        "services": {"shop": {**service, **shop}},
    }
    return Fleet(Inventory.model_validate(document))


@dataclass(kw_only=True)
class World:
    """Answers every effect; time passes only in Sleep. Tests replace single answers."""

    fleet: Fleet = field(default_factory=fleet)
    now: float = 1000.0
    #: When the step's time limit comes; every effect after it fails, as in the engine.
    limit: float = float("inf")
    #: Unit properties by host; a host that is missing here is as in UNIT.
    units: dict[str, dict[str, str]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    changes: list[Change[Any]] = field(default_factory=list)
    restart: Callable[[World, Any], CommandOutcome] = field(
        default=lambda world, effect: world.restart_well(effect.host)
    )
    show: Callable[[World, str], UnitState] = field(
        default=lambda world, host: UnitState(properties=world.unit(host))
    )
    get: Callable[[World, str], HttpReply] = field(default=lambda _world, _url: answer(200))
    read: Callable[[World, ReadCommand], CommandOutcome] = field(
        default=lambda _world, effect: read_well(effect)
    )
    #: Everything that was kept by Note; what is owed; what was paid, in order.
    notes: dict[str, Any] = field(default_factory=dict)
    owed: dict[str, Owe] = field(default_factory=dict)
    paid: list[str] = field(default_factory=list)
    #: Whether somebody wants it to stop.
    stop: Callable[[World], bool] = field(default=lambda _world: False)
    sql: Callable[[World, dict[str, Any]], dict[str, Any]] = field(
        default=lambda _world, _parameters: ROW
    )

    def unit(self, host: str) -> dict[str, str]:
        return self.units.setdefault(host, dict(UNIT))

    def restart_well(self, host: str, **changed: str) -> CommandOutcome:
        self.unit(host).update({"InvocationID": "second", **changed})
        return outcome(0)

    def context(self, target: str, **given: Any) -> StepContext:
        judge: Any = None
        return StepContext(fleet=self.fleet, judge=judge, target=target, given=given)

    def run(self, drive: Drive[Result]) -> Result:
        """Drive to the end, as the engine does."""
        send, value = drive.send, None
        while True:
            try:
                effect = send(value)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            try:
                if self.now > self.limit:
                    raise StepFailed("not done within its time limit")
                value, send = self.perform(effect), drive.send
            except (DoorError, StepFailed, Refused) as error:
                value, send = error, drive.throw

    def perform(self, effect: Any) -> Any:  # noqa: C901, PLR0911, PLR0912 - a table of answers
        match effect:
            case Say(stage=stage, text=text):
                self.said.append(f"{stage}: {text}")
                return None
            case Note(data=data):
                self.notes.update(data)
                return None
            case Owe(key=key):
                self.owed[key] = effect
                return None
            case Paid(key=key):
                del self.owed[key]
                self.paid.append(key)
                return None
            case Interrupted():
                return self.stop(self)
            case Now():
                return self.now
            case Sleep(seconds=seconds):
                assert seconds >= 0
                self.now += seconds
                return True
            case Together(effects=effects):
                return tuple(self._look(each) for each in effects)
            case ShowUnit(host=host):
                return self.show(self, host)
            case HttpGet(url=url):
                return self.get(self, url)
            case ReadCommand():
                return self.read(self, effect)
            case ReadSql(parameters=parameters):
                return Rows(rows=(self.sql(self, dict(parameters)),))
            case Change():
                self.changes.append(effect)
                return self.restart(self, effect)
        raise AssertionError(effect)

    def _look(self, effect: Any) -> Any:
        try:
            return self.perform(effect)
        except DoorError as error:
            return error


def outcome(code: int, stdout: str = "", stderr: str = "") -> CommandOutcome:
    return CommandOutcome(exit_code=code, stdout=stdout, stderr=stderr, seconds=0.01)


def answer(status: int, error: str = "", *, asked: bool = True) -> HttpReply:
    return HttpReply(status=status, body="", error=error, seconds=0.01, asked=asked)


def read_well(effect: ReadCommand) -> CommandOutcome:
    if "sudo" in effect.argv:
        return outcome(0, LISTING)
    return outcome(0, "boot-1\n5000.0 9000.0\n")
