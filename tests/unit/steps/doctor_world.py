"""A small world for the doctor: every door of it opens, until a test shuts one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runbook.model.doctor import Check, DoctorReport
from runbook.model.effects import (
    AskPgBouncer,
    CommandOutcome,
    ConsoleAnswers,
    Drive,
    HttpGet,
    HttpReply,
    Observe,
    ReadCommand,
    RungTried,
    SecretTried,
    ShowUnit,
    Together,
    TryRung,
    TrySecret,
    UnitState,
)
from runbook.model.errors import DoorError
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.sudo import LIST_ARGV
from runbook.steps.doctor import examine
from unit.steps.shop_world import UNIT

APP_RULES = """User oncall may run the following commands on web:
    (root) NOPASSWD: /usr/bin/systemctl restart shop.service
    (root) NOPASSWD: /usr/bin/ss
"""
DB_RULES = """User oncall may run the following commands on db-host:
    (postgres) NOPASSWD: /usr/bin/psql, /bin/sh
"""


def role(name: str, oid: int | None = 100, **changed: Any) -> dict[str, Any]:
    """What the catalogue says of a role that may do all that it should."""
    fact = {
        "name": name,
        "oid": oid,
        "login": True,
        "superuser": name == "dba",
        "replication": name == "rescue",
        "most": -1,
        "expires_s": None,
        "reads_all": True,
        "signals": True,
        "reserved": True,
        "dbname": "postgres",
        "has_database": True,
        "connects": True,
    }
    return {**fact, **changed}


def row(**changed: Any) -> dict[str, Any]:
    """What a well kept server says."""
    said = {
        "version_num": 160014,
        "in_recovery": False,
        "role": "oncall",
        "is_superuser": False,
        "can_read_all": True,
        "can_signal": True,
        "reserved": 2,
        "superuser_reserved": 3,
        "max_wal_senders": 10,
        "wal_senders": 1,
        "track_activities": True,
        "idle_in_transaction_ends": True,
        "roles": [role("oncall"), role("dba"), role("rescue")],
        "sessions": [
            {"application": f"shop-web-{n}", "role": 7, "address": None, "sessions": 5}
            for n in (1, 2)
        ],
    }
    return {**said, **changed}


def document() -> dict[str, Any]:
    """An inventory in which nothing is left out."""
    gates = [{"http": {"url": "http://${host.address}:8000/healthz"}}]
    return {
        "version": 1,
        "defaults": {"ssh": {"user": "oncall"}},
        "hosts": {
            "db-host": {"address": "10.0.0.5"},
            **{f"web-{n}": {"address": f"10.0.1.{n}", "groups": ["web"]} for n in (1, 2)},
            "lonely": {"address": "10.0.9.9"},
        },
        "databases": {
            "db": {
                "host": "db-host",
                "connect": {"host": "10.0.0.5", "user": "oncall", "password": {"env": "A"}},
                "admin": {"user": "dba", "password": {"env": "B"}},
                "rescue": {"user": "rescue", "password": {"file": "/c"}},
                "local": {},
            }
        },
        "services": {
            "shop": {
                "hosts": "web",
                "unit": "shop.service",
                "database": "db",
                "application_name": "shop-${host.name}",
                "pool": {"size": 5},
                "gates": gates,
            }
        },
        "pgbouncers": {
            "bouncer": {
                "host": "db-host",
                "database": "db",
                "admin": {"user": "stats", "password": {"env": "D"}},
            }
        },
    }


Override = Callable[[Any], Any]


@dataclass(kw_only=True)
class World:
    """Answers every look; `shut` answers in its place where it returns something."""

    document: dict[str, Any] = field(default_factory=document)
    row: dict[str, Any] = field(default_factory=row)
    shut: Override = lambda _effect: None
    looked: list[Observe[Any]] = field(default_factory=list)
    #: The looks of each stage.
    stages: list[tuple[Observe[Any], ...]] = field(default_factory=list)

    def report(self, target: str | None = None) -> DoctorReport:
        """Examine this world as the engine does."""
        report: DoctorReport = self.run(examine(target, self.fleet))
        return report

    @property
    def fleet(self) -> Fleet:
        """The inventory of this world."""
        return Fleet(Inventory.model_validate(self.document))

    def run(self, drive: Drive[Any]) -> Any:
        """Drive to the end, as the engine does."""
        outcome: Any = None
        while True:
            try:
                effect = drive.send(outcome)
            except StopIteration as stop:
                return stop.value
            assert isinstance(effect, Together)
            self.stages.append(effect.effects)
            outcome = tuple(self._look(each) for each in effect.effects)

    def check(self, name: str, subject: str, target: str | None = None) -> Check:
        """Return one check of the report."""
        return one(self.report(target), name, subject)

    def _look(self, effect: Observe[Any]) -> Any:
        assert isinstance(effect, Observe)
        assert effect not in self.looked, f"looked twice: {effect}"
        self.looked.append(effect)
        try:
            answer = self.shut(effect)
        except DoorError as error:
            return error
        return self._well(effect) if answer is None else answer

    def _well(self, effect: Observe[Any]) -> Any:
        match effect:
            case TrySecret():
                return SecretTried(found=True)
            case TryRung(rung=rung):
                said = {
                    "os": None,
                    "local": {**self.row, "role": "postgres", "is_superuser": True},
                }.get(rung, self.row)
                return RungTried(rung=rung, verdict="opened", seconds=0.01, limits=said)
            case AskPgBouncer(pgbouncer=name, shows=shows):
                rows: dict[str, list[dict[str, Any]]] = {show: [] for show in shows}
                return ConsoleAnswers(pgbouncer=name, version="PgBouncer 1.18.0", rows=rows)
            case ReadCommand(host=host, argv=argv):
                rules = DB_RULES if host == "db-host" else APP_RULES
                return command(0, rules if argv == LIST_ARGV else "")
            case ShowUnit():
                return UnitState(properties=dict(UNIT))
            case HttpGet():
                return HttpReply(status=200, body="", error="", seconds=0.01)
        raise AssertionError(effect)


def one(report: DoctorReport, name: str, subject: str) -> Check:
    """Return the check of that name and subject, of which there is exactly one."""
    found = [c for c in report.checks if (c.name, c.subject) == (name, subject)]
    assert len(found) == 1, (name, subject, report.model_dump_json(indent=1))
    return found[0]


def command(code: int, stdout: str = "", stderr: str = "") -> CommandOutcome:
    """How a command ended."""
    return CommandOutcome(exit_code=code, stdout=stdout, stderr=stderr, seconds=0.01)


def rung(which: str, verdict: Any, said: str = "", hint: str = "") -> Override:
    """Let one rung answer in another way."""

    def shut(effect: Any) -> Any:
        if isinstance(effect, TryRung) and effect.rung == which:
            return RungTried(rung=effect.rung, verdict=verdict, said=said, hint=hint)
        return None

    return shut
