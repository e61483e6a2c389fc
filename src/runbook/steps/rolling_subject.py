"""One service on one host, as the phases of a rolling restart see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runbook.model.effects import Drive, HttpGet, HttpReply, Observe, Rows, Together, ask
from runbook.model.errors import DoorError
from runbook.model.fleet import Fleet, ResolvedHost
from runbook.model.inventory import Service
from runbook.model.systemd import Unfit
from runbook.steps.database_gate import Sessions, sessions_of
from runbook.steps.gates import gate_looks, gate_problem
from runbook.steps.rolling_args import RollingArgs, Settings, settings
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

    def gates(self, at_most_s: float | None = None) -> tuple[HttpGet, ...]:
        """Return the questions of its gates."""
        return gate_looks(self.service, self.host, self.fleet, at_most_s=at_most_s)

    def sessions(self) -> Sessions | Unfit | None:
        """Return how its sessions are told apart in the database."""
        return sessions_of(self.service, self.host, self.fleet)

    def looks(self) -> tuple[Observe[Any], ...]:
        """Return what tells whether it is healthy: the manager's look, then every gate."""
        return (self.manager.look(), *self.gates())

    def ill(self, outcomes: tuple[Any, ...]) -> str | None:
        """Judge the outcomes of `looks`: why it is not healthy, or None."""
        seen, *replies = outcomes
        if isinstance(seen, DoorError):
            return seen.message
        failed = next((reply for reply in replies if isinstance(reply, DoorError)), None)
        if failed is not None:
            return failed.message
        answered = http_replies(replies)
        return self.manager.down(seen) or gate_problem(self.service, self.gates(), answered)

    def footprint(self) -> tuple[str, ...]:
        """Return what a restart touches."""
        return tuple(sorted(self.manager.restart(0).footprint()))


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
    )


def health_of(subjects: tuple[Subject, ...]) -> Drive[dict[str, str | None]]:
    """Look at all of them side by side; return why each is not healthy, or None, by host."""
    looks = [subject.looks() for subject in subjects]
    flat = tuple(look for group in looks for look in group)
    outcomes = iter((yield from ask(Together(effects=flat))))
    return {
        subject.host.name: subject.ill(tuple(next(outcomes) for _ in group))
        for subject, group in zip(subjects, looks, strict=True)
    }


def http_replies(outcomes: list[Any] | tuple[Any, ...]) -> tuple[HttpReply, ...]:
    """Return the replies among the outcomes of a Together."""
    return tuple(outcome for outcome in outcomes if isinstance(outcome, HttpReply))


def rows_or_error(outcome: Any) -> Rows | str:
    """Return rows, or why there are none."""
    if isinstance(outcome, DoorError):
        return outcome.message
    rows: Rows = outcome
    return rows
