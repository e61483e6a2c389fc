"""What every witness is made of: somebody else to ask, besides the server itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from runbook.findings.view import View
    from runbook.model.effects import Observe
    from runbook.model.sessions import Snapshot

#: Seconds between the two looks. A connection that its client has closed is gone from the server
#: within milliseconds, and a pool that opens one connection a request shows it well within 2 s.
WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Told:
    """One look, and what came of it: a `DoorError`, when it failed."""

    look: Observe[Any]
    outcome: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Witness:
    """One who saw more: add a file with one of these, and a line in `findings/table.py`."""

    name: str
    #: What to look at, given what is known so far; () when it would not help. All witnesses of one
    #: stage are asked side by side.
    looks: Callable[[View], tuple[Observe[Any], ...]]
    #: Returns the snapshot with what was told in it, in the order of `looks`. A look that failed is
    #: told in the snapshot, and never raised.
    take: Callable[[Snapshot, tuple[Told, ...]], Snapshot]
    #: now: right after the server has answered. later: `WAIT_S` afterwards, for what only two looks
    #: can tell; nobody waits when no witness wants to.
    stage: Literal["now", "later"] = "now"
    #: Whether it goes over SSH, so that `--no-hosts` leaves it out.
    by_ssh: bool = False
