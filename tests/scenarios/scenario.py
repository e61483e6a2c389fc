"""What a scenario is: what it sets up, and what has to be said about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from scenarios.stage import Stage

#: cause      one thing is wrong
#: lookalike  nothing is wrong, and it looks as if
#: mixture    several things at once
Kind = Literal["cause", "lookalike", "mixture"]

#: What a scenario may need beyond the server and the Python clients.
Need = Literal["node", "pgbouncer", "networks"]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One incident, or a quiet day; `play` sets it up, the rest is the truth about it."""

    name: str
    kind: Kind
    #: What happens, in a sentence, for people.
    says: str
    #: Starts the clients. They tell which sessions they have lost: all others are healthy.
    play: Callable[[Stage], None]
    #: The inventory's services: what the team has written down.
    services: Mapping[str, Any]
    #: The cause that has to be named.
    cause: str
    #: The further causes that have to be named, in order, and no others; see `tolerated`.
    also: tuple[str, ...] = ()
    #: Further causes that may be named: true as well, and not worth insisting on.
    tolerated: tuple[str, ...] = ()
    #: Whose sessions are to be named first: `shop on web-01`; None where nobody is to blame.
    owner: str | None = None
    #: More keys of the inventory: pgbouncers, hosts.
    inventory: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[Need, ...] = ()
    #: Whether it is one of those that `make test` runs.
    fast: bool = False


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was said about one scenario on one version, held against the truth."""

    scenario: str
    kind: Kind
    version: str
    expected: str
    #: Why it was not run; such a one counts nowhere as right.
    skipped: str = ""
    #: Why there is no diagnosis at all.
    failed: str = ""
    cause: str = ""
    also: tuple[str, ...] = ()
    cause_right: bool = False
    also_right: bool = False
    #: None where nobody is to be named.
    owner_right: bool | None = None
    owner: str = ""
    rung: str = ""
    #: Sessions that clients have lost; of these, the ones that would have been terminated.
    lost: int = 0
    proved: int = 0
    #: All other sessions; of these, the ones that would have been terminated.
    healthy: int = 0
    killed: int = 0

    @property
    def right(self) -> bool:
        """Whether nothing is to be said against it; sessions not proved are no fault."""
        named = self.cause_right and self.also_right and self.owner_right is not False
        return not self.skipped and not self.failed and named and self.killed == 0
