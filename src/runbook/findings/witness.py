"""What every witness is made of: somebody else to ask, besides the server itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from runbook.findings.view import View
    from runbook.model.effects import Observe
    from runbook.model.sessions import Snapshot


@dataclass(frozen=True, kw_only=True, slots=True)
class Witness:
    """One who saw more: add a file with one of these, and a line in `findings/table.py`."""

    name: str
    #: What to look at, given what is known so far; () when it would not help. All witnesses of one
    #: stage are asked side by side.
    looks: Callable[[View], tuple[Observe[Any], ...]]
    #: Returns the snapshot with the outcomes in it, in the order of `looks`. A `DoorError` among
    #: them is a look that failed: it is told in the snapshot, and never raised.
    take: Callable[[Snapshot, tuple[Any, ...]], Snapshot]
    #: now: right after the server has answered. later: `WAIT_S` afterwards, for what only two looks
    #: can tell; nobody waits when no witness wants to.
    stage: Literal["now", "later"] = "now"
    #: Whether it goes over SSH, so that `--no-hosts` leaves it out.
    by_ssh: bool = False
