"""Which door performs which effect; each is opened when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runbook.model.bouncer_status import BouncersReport
    from runbook.model.diagnosis import Diagnosis
    from runbook.model.effects import Drive, Effect
    from runbook.model.fleet import Fleet
    from runbook.model.leaks import LeakPolicy, TerminationPlan
    from runbook.model.pool_facts import PoolFacts
    from runbook.model.pooling_fitness import PoolingFitness
    from runbook.model.ports import Door, Judge
    from runbook.model.sessions import Snapshot


class LateDoor:
    """Opens the door behind it at the first effect: most runs need but some of the doors."""

    def __init__(self, opener: Callable[[], Door]) -> None:
        self._opener = opener
        self._door: Door | None = None
        self._lock = threading.Lock()

    def perform(self, effect: Effect[Any]) -> Any:
        """Perform an effect; see `runbook.model.ports.Door`."""
        return self.opened().perform(effect)

    def opened(self) -> Any:
        """Return the door behind it."""
        with self._lock:
            self._door = self._door or self._opener()
        return self._door

    def hold_lock(self, database: str, note: Mapping[str, Any]) -> Any:
        """Lock a database in its server; see `PostgresDoor.hold_lock`."""
        return self.opened().hold_lock(database, note)

    def close(self) -> None:
        """Close what was opened."""
        if self._door is not None:
            self._door.close()


class HostRouter:
    """Sends an effect on a host through SSH, or runs it here when the host is local."""

    def __init__(self, fleet: Fleet, *, rehearsal: bool) -> None:
        self._fleet = fleet
        self._here = LateDoor(lambda: _local(fleet, rehearsal=rehearsal))
        self._there = LateDoor(lambda: _ssh(fleet, rehearsal=rehearsal))

    def perform(self, effect: Effect[Any]) -> Any:
        """Perform an effect that names a host."""
        return self._to(effect.host).perform(effect)  # type: ignore[attr-defined]

    def hold(self, host: str, argv: tuple[str, ...], within_s: float) -> Any:
        """Start a command that stays on a host; see `HostDoor.hold`."""
        return self._to(host).opened().hold(host, argv, within_s)

    def _to(self, host: str) -> LateDoor:
        return self._here if self._fleet.host(host).local else self._there

    def close(self) -> None:
        """Close what was opened."""
        self._here.close()
        self._there.close()


class LateJudge:
    """Loads the findings when a step first asks them: a restart or a command never does."""

    @cached_property
    def _judge(self) -> Judge:
        from runbook.findings.judge import FindingsJudge

        return FindingsJudge()

    def examine(self, database: str, fleet: Fleet, *, hosts: bool = True) -> Drive[Snapshot]:
        """See `runbook.model.ports.Judge`."""
        return self._judge.examine(database, fleet, hosts=hosts)

    def diagnose(
        self, snapshot: Snapshot, fleet: Fleet, policy: LeakPolicy | None = None
    ) -> Diagnosis:
        """See `runbook.model.ports.Judge`."""
        return self._judge.diagnose(snapshot, fleet, policy)

    def leaks(self, snapshot: Snapshot, fleet: Fleet, policy: LeakPolicy) -> TerminationPlan:
        """See `runbook.model.ports.Judge`."""
        return self._judge.leaks(snapshot, fleet, policy)

    def pool_use(
        self, database: str, fleet: Fleet, *, window_s: float, hosts: bool = True
    ) -> Drive[PoolFacts]:
        """See `runbook.model.ports.Judge`."""
        return self._judge.pool_use(database, fleet, window_s=window_s, hosts=hosts)

    def bouncers(self, target: str | None, fleet: Fleet) -> Drive[BouncersReport]:
        """See `runbook.model.ports.Judge`."""
        return self._judge.bouncers(target, fleet)

    def pooling_fitness(
        self,
        database: str,
        fleet: Fleet,
        *,
        dbname: str | None = None,
        service: str | None = None,
        pgbouncer_version: str | None = None,
    ) -> Drive[PoolingFitness]:
        """See `runbook.model.ports.Judge`."""
        return self._judge.pooling_fitness(
            database,
            fleet,
            dbname=dbname,
            service=service,
            pgbouncer_version=pgbouncer_version,
        )


class KeepingJudge(LateJudge):
    """Keeps the last snapshot that it looked at: for a capture, which is no part of a run."""

    def __init__(self) -> None:
        self.seen: Snapshot | None = None

    def examine(self, database: str, fleet: Fleet, *, hosts: bool = True) -> Drive[Snapshot]:
        """See `runbook.model.ports.Judge`."""
        self.seen = yield from super().examine(database, fleet, hosts=hosts)
        return self.seen


def _local(fleet: Fleet, *, rehearsal: bool) -> Door:
    from runbook.adapters.local_command import LocalDoor

    return LocalDoor(fleet, rehearsal=rehearsal)


def _ssh(fleet: Fleet, *, rehearsal: bool) -> Door:
    from runbook.adapters.ssh import SshDoor

    return SshDoor(fleet, rehearsal=rehearsal)


def _postgres(fleet: Fleet, hosts: Door, *, rehearsal: bool) -> Door:
    from runbook.adapters.postgres import PostgresDoor

    return PostgresDoor(fleet, rehearsal=rehearsal, hosts=hosts)


def _secrets() -> Door:
    from runbook.adapters.secrets import SecretsDoor

    return SecretsDoor()


def _pgbouncer(fleet: Fleet, *, rehearsal: bool) -> Door:
    from runbook.adapters.pgbouncer import PgBouncerDoor

    return PgBouncerDoor(fleet, rehearsal=rehearsal)


def _through(fleet: Fleet) -> Door:
    from runbook.adapters.pgbouncer_query import ThroughDoor

    return ThroughDoor(fleet)


def _admin(fleet: Fleet, hosts: Door, *, rehearsal: bool) -> Door:
    from runbook.adapters.postgres_admin import AdminDoor

    return AdminDoor(fleet, rehearsal=rehearsal, hosts=hosts)


def _holes() -> Door:
    from runbook.adapters.secret_holes import HolesDoor

    return HolesDoor()


def _http() -> Door:
    from runbook.adapters.http_get import HttpDoor

    return HttpDoor()


def _tcp() -> Door:
    from runbook.adapters.tcp_connect import TcpDoor

    return TcpDoor()


def _http_post(*, rehearsal: bool) -> Door:
    from runbook.adapters.http_post import HttpPostDoor

    return HttpPostDoor(rehearsal=rehearsal)


def open_doors(fleet: Fleet, *, rehearsal: bool) -> dict[type[Effect[Any]], Door]:
    """Return the door for each effect. An adapter is one file and its lines here."""
    from runbook.model import effects, setup_effects

    hosts = HostRouter(fleet, rehearsal=rehearsal)
    database = LateDoor(lambda: _postgres(fleet, hosts, rehearsal=rehearsal))
    admin = LateDoor(lambda: _admin(fleet, hosts, rehearsal=rehearsal))
    http = LateDoor(_http)
    console = LateDoor(lambda: _pgbouncer(fleet, rehearsal=rehearsal))
    return {
        effects.ReadCommand: hosts,
        effects.ShowUnit: hosts,
        effects.RestartUnit: hosts,
        effects.ChangeCommand: hosts,
        effects.PutFile: hosts,
        effects.AskDatabase: database,
        effects.ReadSql: database,
        effects.SignalSessions: database,
        effects.ChangeSql: database,
        effects.TryRung: database,
        effects.TrySecret: LateDoor(_secrets),
        effects.AskPgBouncer: console,
        effects.TellPgBouncer: console,
        effects.HttpGet: http,
        effects.HttpPost: LateDoor(lambda: _http_post(rehearsal=rehearsal)),
        effects.TcpConnect: LateDoor(_tcp),
        setup_effects.PutSecretFile: hosts,
        setup_effects.FilledDigest: LateDoor(_holes),
        setup_effects.AdminLook: admin,
        setup_effects.PasswordFits: admin,
        setup_effects.AdminSql: admin,
        setup_effects.AskThroughPgBouncer: LateDoor(lambda: _through(fleet)),
    }


def lock_doors(doors: Mapping[type[Effect[Any]], Door]) -> tuple[Any, Any]:
    """Return what holds commands on hosts, and what locks databases, among a run's doors."""
    from runbook.model import effects

    return doors[effects.ChangeCommand], doors[effects.ChangeSql]
