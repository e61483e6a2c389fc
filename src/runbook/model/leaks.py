"""Which sessions have leaked, by which rule, and which of these may be terminated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runbook.model.sessions import Session

#: The rules of proof, strongest first.
#:   orphan               its client is gone: the host that it comes from has no socket for it
#:   over_pool            more sessions than the service's declared pool on that host
#:   outlived             idle, and older than the pool lets any connection become
#:   idle_in_transaction  inside a transaction, without a word, for too long; nobody waits for it
#:   blocker              named by the user: the root of a lock pile-up
#:   idle_age             idle for long, and nothing else: no proof, for suspects only
Rule = Literal["orphan", "over_pool", "outlived", "idle_in_transaction", "blocker", "idle_age"]

#: Who may have a connection limit of its own.
LimitKind = Literal["role", "database"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeakPolicy:
    """What counts as leaked, and how far a termination may go."""

    #: Seconds in a transaction without a word after which it counts as leaked.
    idle_in_transaction_s: float = 300.0
    #: Idle this long, in seconds, is reported (never terminated for it alone).
    report_idle_s: float = 600.0
    #: Stop when this percentage of the usable slots is free again.
    headroom_percent: int = 20
    #: No more than this many sessions in one run.
    max_sessions: int = 100
    #: leaked: sessions proved leaked. blockers: the roots of lock pile-ups.
    which: Literal["leaked", "blockers"] = "leaked"


@dataclass(frozen=True, kw_only=True, slots=True)
class LeakedSession:
    """One session with the proof against it."""

    session: Session
    rule: Rule
    #: The proof in words: `48 sessions, pool of 10; one of the 38 idle longest`.
    proof: str
    #: `shop on web-03`, or the session's own words.
    owner: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Spared:
    """Sessions that would be suspects, and why they are left alone."""

    reason: str
    pids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShortLimit:
    """A role's or a database's own connection limit that lacks the wanted headroom."""

    kind: LimitKind
    name: str


def missing(limit: int, used: int, headroom_percent: int) -> int:
    """Return how many of `limit` must come free for the headroom; 0 or less when enough are."""
    headroom = -(-limit * headroom_percent // 100)
    return headroom - (limit - used)


@dataclass(frozen=True, kw_only=True, slots=True)
class TerminationPlan:
    """What may be terminated, and what is left alone."""

    #: In the order in which they are to be signalled: those first that count against a short
    #: limit of a role or a database, then those without a client, then oldest first.
    sessions: tuple[LeakedSession, ...]
    spared: tuple[Spared, ...]
    #: Weak suspects (idle age alone): reported, never terminated.
    suspects: tuple[LeakedSession, ...] = ()
    #: Slots now, and how many must be freed for the wanted headroom.
    used: int = 0
    usable: int = 0
    wanted: int = 0
    #: Limits that lack headroom, and against which some of `sessions` count.
    short: tuple[ShortLimit, ...] = ()
    #: What could not be looked at before this list was made, in words; "" when nothing was missing.
    blind: str = ""
