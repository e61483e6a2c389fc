"""The doors between the rooms, as Protocols: what the engine needs and wiring provides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from runbook.model.bouncer_status import BouncersReport
    from runbook.model.diagnosis import Diagnosis
    from runbook.model.effects import Drive, Effect
    from runbook.model.events import Event
    from runbook.model.fleet import Fleet
    from runbook.model.leaks import LeakPolicy, TerminationPlan
    from runbook.model.pool_facts import PoolFacts
    from runbook.model.pooling_fitness import PoolingFitness
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

    def pool_use(
        self, database: str, fleet: Fleet, *, window_s: float, hosts: bool = True
    ) -> Drive[PoolFacts]:
        """Count a server's connections over a window, by whom they belong to; changes nothing.

        The server counts, every half second, over one connection; a full look ends the window.
        Then PgBouncers' consoles are asked whose connections theirs are, and with `hosts` the app
        hosts which process holds which. What hosts are configured to hold is not looked at.

        Raises (through the drive):
            DoorError: when no rung of the ladder lets us in.
        """

    def bouncers(self, target: str | None, fleet: Fleet) -> Drive[BouncersReport]:
        """Look at a PgBouncer, at those in front of a database, or (None) at all, and judge them.

        A console that does not answer is told in the report.

        Raises (through the drive):
            UsageError: when the inventory has none of that name.
        """

    def pooling_fitness(
        self,
        database: str,
        fleet: Fleet,
        *,
        dbname: str | None = None,
        service: str | None = None,
        pgbouncer_version: str | None = None,
    ) -> Drive[PoolingFitness]:
        """Look for what pooling by transaction would break, and propose the mode.

        Raises (through the drive):
            DoorError: when no rung of the ladder lets us in.
        """


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What was asked for, in the words that a plan is made of: a resume plans it anew."""

    #: A shipped playbook's name, or the absolute path of the user's own.
    playbook: str
    target: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    #: The absolute path of the inventory.
    inventory: str | None = None
    #: A selector that narrows every selection of hosts.
    limit: str | None = None
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    incident: str | None = None
    #: The rule of `serve` that asked for it; empty when a person did.
    rule: str = ""
    #: Who has said yes before it began, to the plan and to steps' own questions, not to approvals:
    #: a rule with `approval: none`. Empty: whoever is asked.
    confirmed_by: str = ""
    #: Who may answer the plan's question (see `may_answer`; empty: anybody), and within how many
    #: seconds; None: it does not expire.
    approvers: tuple[str, ...] = ()
    answer_within_s: float | None = None
    #: Whom to tell, as `tell_as_data` gives it; None: nobody.
    tell: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptRun:
    """All that the journal has of one run."""

    record: RunRecord
    request: Request | None
    plan: dict[str, Any]
    events: Sequence[Event]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One place where a journal is not as it was written."""

    run_id: str
    #: The event's number in the run, or None for the run's own row.
    seq: int | None
    #: `this event was changed`, `2 events are missing before it`, ….
    what: str


class Journal(Watcher, Protocol):
    """Keeps what happened; an `intended` event is on disk when `notice` returns."""

    def begin(
        self, record: RunRecord, plan: dict[str, Any], request: Request | None = None
    ) -> None:
        """Open a run.

        Raises:
            DoorError: when the journal cannot be written.
        """

    def take_up(self, run_id: str) -> None:
        """Go on with a run that has begun: what is noticed from now on is appended to it.

        Raises:
            DoorError: when the journal has no such run, or cannot be written.
        """

    def end(self, run_id: str, status: str, at: float) -> None:
        """Close a run, or note the status that it waits in."""

    def append(self, run_id: str, event: Event) -> None:
        """Add one event to any run, from another process too: an answer, a request to stop.

        Raises:
            DoorError: when the journal has no such run, or cannot be written.
        """

    def runs(self, limit: int = 20) -> Sequence[RunRecord]:
        """Return the newest runs first."""

    def run(self, run_id: str) -> KeptRun | None:
        """Return one run, or None."""

    def owing(self, run_ids: Sequence[str]) -> set[str]:
        """Return which of these runs still owe the world something."""

    def verify(self, run_id: str | None = None) -> Sequence[Fault]:
        """Return where one run, or every one, is not as it was written; nothing when all is."""

    def unsealed(self) -> Sequence[str]:
        """Return the runs that an older runbook has kept without hashes: nothing verifies them."""

    def news(self) -> Sequence[Event]:
        """Return what others have appended to this process' run since this was last asked."""

    def prune(self, before: float) -> int:
        """Forget runs that ended before a moment; return how many. Open ones are kept."""

    def last_results(
        self, playbook: str, targets: Sequence[str], before: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield run ids and results' data of a playbook's latest runs on any of these targets.

        Newest first, a bounded number of runs, without the run `before`.
        """

    def close(self) -> None:
        """Write what waits, and let go of the file."""


class Locks(Protocol):
    """One run at a time on a service or a database, among the runs of this machine."""

    def hold(self, name: str, owner: str) -> AbstractContextManager[None]:
        """Hold a lock for as long as the context lasts.

        Raises:
            Locked: when another run holds it; the message says who, and since when.
        """


class HeldLock(Protocol):
    """A lock on a target, as its holder sees it."""

    def lost(self) -> str | None:
        """Say why it is held no longer (stolen, the connection cut); None while it is.

        Asked right before each change: no engine stops a paused process from waking up.
        """

    def taken(self) -> Mapping[str, Any]:
        """Return what the journal keeps of it, the data of a `locked` event.

        `lock`: what is locked; `how`: "taken", "stolen", "taken over from …", or "none: …" where
        the target has no means to hold one; `from`: who held it before, where somebody did.
        """


class TargetLocks(Protocol):
    """One change at a time on a target, whichever machine it comes from."""

    def hold(self, kind: str, name: str, owner: str) -> AbstractContextManager[HeldLock]:
        """Hold the lock of a host, a database or a service (`kind`) while the context lasts.

        Raises:
            Locked: when another run holds it; the message says who, for which incident, since
                when, and how to take it over.
            DoorError: when it cannot be taken at all.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """What anybody may know of a run while it goes on, and after."""

    record: RunRecord
    #: Whether a process works on it at this moment.
    alive: bool
    #: What it waits for, if it waits: the event data of the open question.
    waiting: Mapping[str, Any] | None
    results: Mapping[str, Mapping[str, Any]]


class Executor(Protocol):
    """All that a command line or a webhook sees of what runs plans; only data crosses it."""

    def submit(self, run_id: str, plan: dict[str, Any], request: Request) -> None:
        """Begin a run. The same id is the same run: a second submit changes nothing."""

    def approve(self, run_id: str, key: str, ok: bool, by: str) -> None:
        """Answer a question; the first answer stands.

        Raises:
            UsageError: for a question that is not open.
        """

    def cancel(self, run_id: str, by: str) -> None:
        """Ask a run to stop as an interrupt does: what is in flight is seen to its end."""

    def view(self, run_id: str) -> RunView:
        """Return one run.

        Raises:
            UsageError: when there is none of that id.
        """

    def list(self, *, open_only: bool = True) -> Sequence[RunView]:
        """Return runs, the newest first."""

    def wait(self, run_id: str, timeout_s: float) -> RunView:
        """Return once the run has ended or waits for an answer, or the time is over."""
