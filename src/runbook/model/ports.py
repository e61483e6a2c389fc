"""The doors between the rooms, as Protocols: what the engine needs and wiring provides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from runbook.model.diagnosis import Diagnosis
    from runbook.model.effects import Drive, Effect
    from runbook.model.events import Event
    from runbook.model.fleet import Fleet
    from runbook.model.leaks import LeakPolicy, TerminationPlan
    from runbook.model.sessions import Snapshot


class Door(Protocol):
    """An adapter: performs the effects of one outside system."""

    def perform(self, effect: Effect[Any]) -> Any:
        """Perform one effect and return its outcome.

        Raises:
            DoorError: when the outside world did not answer as hoped.
            ChangeInRehearsal: for a Change, when this door was opened for a rehearsal.
        """

    def close(self) -> None:
        """Give back what is open; may be called twice."""


class Watcher(Protocol):
    """Somebody who is told what happens: the journal first, then the screen."""

    def notice(self, event: Event) -> None:
        """Take notice of an event; called from several threads, one at a time."""


class Judge(Protocol):
    """The findings' room, as steps see it."""

    def examine(self, database: str, fleet: Fleet, *, hosts: bool = True) -> Drive[Snapshot]:
        """Look at a server and at what stands around it; changes nothing.

        The server is asked first. What else is looked at hangs on what it says: PgBouncers' admin
        consoles, and with `hosts` the app hosts' sockets and the server's processes, over SSH. A
        look that fails is told in the snapshot.

        Raises (through the drive):
            DoorError: when no rung of the ladder lets us in.
        """

    def diagnose(
        self, snapshot: Snapshot, fleet: Fleet, policy: LeakPolicy | None = None
    ) -> Diagnosis:
        """Name the cause; None is the policy that `LeakPolicy` has by default."""

    def leaks(self, snapshot: Snapshot, fleet: Fleet, policy: LeakPolicy) -> TerminationPlan:
        """Prove which sessions are leaked, and say which may be terminated, in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """One run as the journal tells it."""

    run_id: str
    playbook: str
    target: str | None
    rehearsal: bool
    status: str
    started_at: float
    ended_at: float | None
    who: str
    incident: str | None
    plan_hash: str


class Journal(Watcher, Protocol):
    """Keeps what happened; an `intended` event is on disk when `notice` returns."""

    def begin(self, record: RunRecord, plan: dict[str, Any]) -> None:
        """Open a run.

        Raises:
            DoorError: when the journal cannot be written.
        """

    def end(self, run_id: str, status: str, at: float) -> None:
        """Close a run."""

    def runs(self, limit: int = 20) -> Sequence[RunRecord]:
        """Return the newest runs first."""

    def run(self, run_id: str) -> tuple[RunRecord, dict[str, Any], Sequence[Event]] | None:
        """Return one run with its plan and its events, or None."""

    def last_results(
        self, playbook: str, targets: Sequence[str], before: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield run ids and results' data of a playbook's latest runs on any of these targets.

        Newest first, a bounded number of runs, without the run `before`.
        """

    def close(self) -> None:
        """Write what waits, and let go of the file."""


class Locks(Protocol):
    """One run at a time on a service or a database."""

    def hold(self, name: str, owner: str) -> AbstractContextManager[None]:
        """Hold a lock for as long as the context lasts.

        Raises:
            Locked: when another run holds it; the message says who, and since when.
        """
