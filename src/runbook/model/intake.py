"""What `serve` keeps of the events that came in, and what became of them; and its ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from runbook.model.alert import Alert

#: queued     accepted and on disk; nobody has looked at it yet
#: ran        it led to a run
#: ignored    no rule, too old, outside hours, cooling down, over the rate, no longer open, ours
#: failed     a rule held, and the run could not be planned or begun
State = Literal["queued", "ran", "ignored", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One event in the inbox."""

    number: int
    alert: Alert
    received_at: float
    state: State = "queued"
    #: Why, for people; and the rule and the run where there are any.
    why: str = ""
    rule: str | None = None
    target: str | None = None
    #: The run that it led to. While it is queued: what its run will be called, if it gets one.
    run_id: str | None = None
    #: When that run began: an event may have waited for a while.
    ran_at: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """What became of an event."""

    #: The entry's.
    number: int
    state: State
    why: str = ""
    rule: str | None = None
    target: str | None = None
    run_id: str | None = None
    #: When the run began.
    ran_at: float | None = None


class QueueFull(Exception):
    """More events wait than the configuration allows; the sender is asked to come again."""


class Inbox(Protocol):
    """Events on their way in; used from several threads."""

    def put(self, alerts: Sequence[Alert], at: float) -> int:
        """Keep events, each key once for good; return how many were new. On disk on return.

        Raises:
            QueueFull: when they do not all fit; none is kept then.
            DoorError: when they cannot be written.
        """

    def queued(self, limit: int = 100) -> Sequence[Entry]:
        """Return events that nobody has looked at, the oldest first."""

    def waiting(self) -> int:
        """Return how many events nobody has looked at."""

    def trouble(self) -> str:
        """Return why the last events could not be kept, until some are; empty when they were."""

    def settle(self, settled: Sequence[Settled]) -> None:
        """Note what became of events, of each once. With a run: once the run is in the journal.

        An event that is queued still, and has its `run_id` in the journal, lost its process in
        between: it is settled, and nothing is begun.

        Raises:
            DoorError: when it cannot be written; then all of them are queued still.
        """

    def recent(self, limit: int = 50) -> Sequence[Entry]:
        """Return the newest events, the newest first."""

    def ran_since(self, since: float) -> Sequence[Entry]:
        """Return the events that led to a run since a moment, by when it began."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IncidentNow:
    """An incident as it stands at this moment, read anew: nothing else is acted upon."""

    id: str
    status: Literal["triggered", "acknowledged", "resolved"]
    service: str | None
    priority: str | None
    urgency: str | None
    title: str
    #: Custom fields and the details of its alerts, as far as they are plain text or numbers.
    labels: Mapping[str, str] = field(default_factory=dict)


class IncidentReader(Protocol):
    """PagerDuty, as far as incidents are read."""

    def incident(self, incident_id: str) -> IncidentNow:
        """Return an incident with the details of its alerts.

        Raises:
            DoorError: when PagerDuty does not say.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """One thing that was, or is to be, told of a run; unique by run, recipient and key."""

    #: Or, where no run began, what it is told of instead: `no-run INCIDENT`.
    run_id: str
    #: `pagerduty`, `pagerduty-change`, or a name of `notify`.
    recipient: str
    #: `start`, `progress`, `waiting/HASH`, `lost/1`, `result`, `acknowledge`, `no-run`, ….
    key: str
    #: What is said: plain data that a sender makes a request of.
    content: Mapping[str, Any]
    state: Literal["due", "sent", "given-up"] = "due"
    attempts: int = 0
    #: Not before then, in seconds since the epoch.
    next_at: float = 0.0
    #: What the recipient calls it: a note's id, to update it.
    remote_id: str | None = None
    #: Why it was not sent at the last attempt.
    why: str = ""
    #: When it was first found to be due, and when it was last sent, in seconds since the epoch.
    since: float = 0.0
    sent_at: float | None = None
