"""What comes in from outside, in one shape: an alert, an answer to a question, a sign of life."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """One request as it came over the wire; nothing in it is believed yet."""

    #: Name of the hook in the configuration, from the path; it is there, or nobody would ask.
    hook: str
    #: Names in lower case; values of a header that came twice, joined by ", ".
    headers: Mapping[str, str]
    #: The raw bytes: signatures are over these, and over nothing that was parsed and written anew.
    body: bytes
    #: Seconds since the epoch.
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """One event as the rules see it. Every text in it is somebody else's: data, never a name.

    What may be run, on what, and with which values is in the rules alone.
    """

    #: Which source read it (a name of `alerts.SOURCES`), and by which hook it came.
    source: str
    hook: str
    #: What makes it the same event when it comes again; signed, where the source signs at all.
    key: str
    #: `incident.triggered`, `incident.custom`, `firing`, `resolved`, `/runbook`, ….
    event: str
    #: When it happened, in seconds since the epoch; None where the source does not say.
    at: float | None = None
    #: PagerDuty's ids, of the form `[A-Z0-9]{7,14}`, or None.
    incident: str | None = None
    service: str | None = None
    #: As the source names it: `P1`; `high` or `low`.
    priority: str | None = None
    urgency: str | None = None
    #: Alertmanager's labels, PagerDuty's custom fields, a Slack command's `word1`, `word2`, ….
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Who caused it: a user's id at the source; None for a machine, or when it is not said.
    by: str | None = None
    #: For people to recognise it by.
    title: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A button that somebody has pressed: an answer to a run's question."""

    run_id: str
    #: The question's key and hash: the answer binds to them.
    key: str
    digest: str
    yes: bool
    #: Who, as an id at the source (a Slack user's id); the configuration says who that is.
    by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a request comes to. With neither alerts nor an answer it is a ping: all is well."""

    alerts: tuple[Alert, ...] = ()
    answer: Answer | None = None


class Rejected(Exception):
    """A request that is not what it should be; the sender learns the status and nothing else."""

    def __init__(self, status: int, why: str) -> None:
        """`status` is an HTTP status (400, 401, 403, 413, 415); `why` is for our log alone."""
        super().__init__(why)
        self.status = status
        self.why = why
