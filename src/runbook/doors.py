"""Which door performs which effect; each is opened when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runbook.model.diagnosis import Diagnosis
    from runbook.model.effects import Drive, Effect
    from runbook.model.fleet import Fleet
    from runbook.model.leaks import LeakPolicy, TerminationPlan
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
        with self._lock:
            door = self._door = self._door or self._opener()
        return door.perform(effect)

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
        local = self._fleet.host(effect.host).local  # type: ignore[attr-defined]
        return (self._here if local else self._there).perform(effect)

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


def _pgbouncer(fleet: Fleet) -> Door:
    from runbook.adapters.pgbouncer import PgBouncerDoor

    return PgBouncerDoor(fleet)


def _http() -> Door:
    from runbook.adapters.http_get import HttpDoor

    return HttpDoor()


def open_doors(fleet: Fleet, *, rehearsal: bool) -> dict[type[Effect[Any]], Door]:
    """Return the door for each effect. An adapter is one file and its lines here."""
    from runbook.model import effects

    hosts = HostRouter(fleet, rehearsal=rehearsal)
    database = LateDoor(lambda: _postgres(fleet, hosts, rehearsal=rehearsal))
    http = LateDoor(_http)
    return {
        effects.ReadCommand: hosts,
        effects.ShowUnit: hosts,
        effects.RestartUnit: hosts,
        effects.ChangeCommand: hosts,
        effects.AskDatabase: database,
        effects.ReadSql: database,
        effects.SignalSessions: database,
        effects.ChangeSql: database,
        effects.TryRung: database,
        effects.TrySecret: LateDoor(_secrets),
        effects.AskPgBouncer: LateDoor(lambda: _pgbouncer(fleet)),
        effects.HttpGet: http,
    }
