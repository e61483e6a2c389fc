"""One service on one host, as the phases of a rolling restart see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runbook.model.effects import Drive, Observe, Together, ask
from runbook.model.errors import DoorError
from runbook.model.fleet import Fleet, ResolvedHost
from runbook.model.inventory import Service
from runbook.model.systemd import Unfit
from runbook.steps.database_gate import Sessions, sessions_of
from runbook.steps.draining import Rotation, rotation_of
from runbook.steps.gates import Gates, gates_of
from runbook.steps.rolling_args import RollingArgs, Settings, settings, wanted
from runbook.steps.rolling_wanted import Wanted
from runbook.steps.service_manager import ServiceManager, manager_of


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A service on a host: what runs it, its gates, its sessions, and this run's settings."""

    name: str
    service: Service
    host: ResolvedHost
    fleet: Fleet
    manager: ServiceManager
    settings: Settings
    #: Its balancers; None for a service that declares no drain.
    rotation: Rotation | None
    #: What shall become of its settings; None leaves them as they are.
    wanted: Wanted | None = None

    @property
    def gates(self) -> Gates:
        """Return its gates."""
        return gates_of(self.name, self.service, self.host, self.fleet)

    def sessions(self) -> Sessions | Unfit | None:
        """Return how its sessions are told apart in the database."""
        return sessions_of(self.service, self.host, self.fleet)

    def looks(self) -> tuple[Observe[Any], ...]:
        """Return what tells whether it is healthy: the manager's look, then every gate."""
        return (self.manager.look(), *self.gates.looks())

    def places(self) -> tuple[Observe[Any], ...]:
        """Return what tells whether its balancers send to it."""
        return self.rotation.looks() if self.rotation is not None else ()

    def away(self, outcomes: tuple[Any, ...]) -> str | None:
        """Judge the outcomes of `places`: why its balancers do not send to it, or None."""
        sights = self.rotation.sights(outcomes) if self.rotation is not None else ()
        return next((str(sight) for sight in sights if sight.place != "in"), None)

    def ill(self, outcomes: tuple[Any, ...]) -> str | None:
        """Judge the outcomes of `looks`: why it is not healthy, or None."""
        seen, *answers = outcomes
        if isinstance(seen, DoorError):
            return seen.message
        return self.manager.down(seen) or self.gates.problem(answers)

    def footprint(self, before: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return what a restart touches, in order: the drain, the restart, the way back.

        `before` is what is touched right before the restart.
        """
        restart = (*before, *sorted(self.manager.restart(0).footprint()))
        if self.rotation is None:
            return restart
        drains, undrains = self.rotation.footprint()
        return (*drains, *restart, *undrains)

    def by_hand(self, seen: Any, owed: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the commands to look and finish with, and to undrain what is `owed`."""
        back = self.rotation.by_hand(owed) if self.rotation is not None else ()
        return (*self.manager.by_hand(seen), *back)


def subject_of(args: RollingArgs, fleet: Fleet, host: str) -> Subject:
    """Return a service on a host.

    Raises:
        UsageError: when the inventory does not have them, or a template in it cannot be filled in.
    """
    service, resolved = fleet.service(args.service), fleet.host(host)
    return Subject(
        name=args.service,
        service=service,
        host=resolved,
        fleet=fleet,
        manager=manager_of(args.service, service, resolved, fleet),
        settings=settings(args, service),
        rotation=rotation_of(service, resolved, fleet),
        wanted=wanted(args, service, resolved, fleet),
    )


def health_of(subjects: tuple[Subject, ...]) -> Drive[dict[str, str | None]]:
    """Look at all of them side by side; return why each is not available, or None, by host.

    A host that its balancers do not send to is not available, however healthy it is. What several
    hosts would ask alike (a balancer tells of all its servers at once) is asked once.
    """
    looks = [(*subject.looks(), *subject.places()) for subject in subjects]
    effects = tuple(dict.fromkeys(look for group in looks for look in group))
    outcomes = dict(zip(effects, (yield from ask(Together(effects=effects))), strict=True))
    return {
        subject.host.name: _unavailable(subject, tuple(outcomes[look] for look in group))
        for subject, group in zip(subjects, looks, strict=True)
    }


def _unavailable(subject: Subject, outcomes: tuple[Any, ...]) -> str | None:
    own = len(subject.looks())
    return subject.ill(outcomes[:own]) or subject.away(outcomes[own:])
