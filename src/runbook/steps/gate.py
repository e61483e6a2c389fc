"""What a gate is: the questions that it puts to the world for one host, and who judges them.

A gate holds nothing between two askings. Whoever asks (a rolling restart, the doctor, the verb
`check`) performs its looks side by side and hands their outcomes back, in order; a look that
failed comes back as its `DoorError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from runbook.model.effects import Observe
from runbook.model.errors import UsageError
from runbook.model.fleet import Fleet, ResolvedHost
from runbook.model.systemd import Unfit
from runbook.model.templates import expand

#: No gate waits less than this for an answer, however near its deadline is.
SHORTEST_S = 0.2
#: Characters that a message repeats of what somebody else's program said.
LONGEST_SAID = 120

#: From where a gate is asked: this machine, the host itself, or a database.
Place = Literal["here", "host", "database"]


class HostGate(Protocol):
    """One gate of one host."""

    @property
    def kind(self) -> str:
        """Return its key in the inventory: http, tcp, systemd, command, sql, pg_released."""

    @property
    def place(self) -> Place:
        """Return from where it is asked."""

    def sentence(self) -> str:
        """Say in one line, for people, what is asked."""

    def looks(self, at_most_s: float | None = None) -> tuple[Observe[Any], ...]:
        """Return the looks that answer it; none takes longer than `at_most_s`."""

    def judge(self, outcomes: Sequence[Any]) -> str | None:
        """Say why the outcomes of the looks are not good, or return None when they are."""

    def unaskable(self, outcomes: Sequence[Any]) -> Unfit | None:
        """Say why the question could not even be put, and what mends that: no restart would."""

    def answer(self, outcomes: Sequence[Any]) -> str:
        """Return what came back, in words: `200 in 12 ms`."""

    def by_hand(self) -> str:
        """Return the command with which a person asks the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """Where a gate is asked, and what it falls back on when it leaves something out."""

    fleet: Fleet
    #: None: the gate belongs to no host, and `${host.…}` has no value.
    host: ResolvedHost | None
    #: The unit and the database of the service that the gate belongs to, where there is one.
    unit: str | None = None
    database: str | None = None

    @property
    def name(self) -> str:
        """Return the host, or what stands in its place in a message."""
        return self.host.name if self.host else "no host"

    def fill(self, text: str) -> str:
        """Return `text` with `${host.…}` filled in.

        Raises:
            UsageError: for a name that has no value.
        """
        scope = {"host": self.host.scope()} if self.host else {}
        return str(expand(text, scope))

    def of_host(self, kind: str) -> ResolvedHost:
        """Return the host of a gate that is asked on one.

        Raises:
            UsageError: when there is none.
        """
        if self.host is None:
            raise UsageError(
                f"a {kind} gate is asked on a host, and none is named",
                hint="say which ones: hosts: SELECTOR",
            )
        return self.host

    def of_database(self, kind: str, named: str | None) -> str:
        """Return the database that a gate asks.

        Raises:
            UsageError: when neither it nor its service names one, or the inventory has none such.
        """
        name = named or self.database
        if name is None:
            raise UsageError(
                f"a {kind} gate asks a database, and neither it nor its service names one",
                hint=f"{kind}: {{database: NAME, …}}, a name under databases in the inventory",
            )
        self.fleet.database(name)
        return name


def within(timeout_s: float, at_most_s: float | None) -> float:
    """Return how long a look may take: its own timeout, less when a deadline is near."""
    return timeout_s if at_most_s is None else max(SHORTEST_S, min(timeout_s, at_most_s))
