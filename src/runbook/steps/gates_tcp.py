"""The gate `tcp`: a connection from this machine; good when it opens, and says what it should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from runbook.model.document import visible
from runbook.model.effects import TcpConnect
from runbook.model.errors import DoorError, UsageError
from runbook.model.inventory import TcpGate
from runbook.model.systemd import Unfit
from runbook.model.units import format_duration
from runbook.steps.gate import LONGEST_SAID, HostGate, Place, Seat, within


@dataclass(frozen=True, kw_only=True, slots=True)
class AskTcp:
    """A tcp gate of one host."""

    gate: TcpGate
    host: str
    port: int
    kind: ClassVar[str] = "tcp"
    place: ClassVar[Place] = "here"

    def sentence(self) -> str:
        """Return where it connects to."""
        return f"tcp {self.host}:{self.port}"

    def looks(self, at_most_s: float | None = None) -> tuple[TcpConnect, ...]:
        """Return the connection."""
        return (
            TcpConnect(
                host=self.host,
                port=self.port,
                timeout_s=within(self.gate.timeout, at_most_s),
                banner=self.gate.banner is not None,
            ),
        )

    def judge(self, outcomes: Sequence[Any]) -> str | None:
        """Judge whether it opened, then its first line."""
        (reply,) = outcomes
        if isinstance(reply, DoorError):
            return reply.message
        if not reply.opened:
            return visible(reply.error)
        if self.gate.banner is None or self.gate.banner in reply.banner:
            return None
        said = visible(reply.banner.strip()[:LONGEST_SAID]) or visible(reply.error) or "nothing"
        return f"the connection opened, and said {said}, without {self.gate.banner!r}"

    def unaskable(self, outcomes: Sequence[Any]) -> Unfit | None:
        """A name that cannot be resolved."""
        (reply,) = outcomes
        if isinstance(reply, DoorError) or reply.asked:
            return None
        hint = "no restart would mend that: look at the gate's host in the inventory"
        return Unfit(problem=visible(reply.error), hint=hint)

    def answer(self, outcomes: Sequence[Any]) -> str:
        """Return how long it took, or why it did not open."""
        (reply,) = outcomes
        if isinstance(reply, DoorError):
            return reply.message
        if not reply.opened:
            return visible(reply.error)
        said = f", said {visible(reply.banner.strip()[:LONGEST_SAID])}" if reply.banner else ""
        return f"opened in {format_duration(reply.seconds)}{said}"

    def by_hand(self) -> str:
        """Return a line of nc."""
        return f"nc -vz {self.host} {self.port}"


def tcp_gate(gate: TcpGate, seat: Seat) -> HostGate:
    """Return the gate for one host.

    Raises:
        UsageError: for a host or a port that is none.
    """
    host = seat.fill(gate.host)
    if not host or host != host.strip() or any(ord(sign) < 33 for sign in host):
        raise UsageError(f"the gate's host for {seat.name} cannot be used: {visible(host)!r}")
    return AskTcp(gate=gate, host=host, port=_port(gate, seat))


def _port(gate: TcpGate, seat: Seat) -> int:
    written = seat.fill(str(gate.port)).strip()
    if not written.isascii() or not written.isdigit() or not 0 < int(written[:6]) < 65536:
        raise UsageError(
            f"the gate's port for {seat.name} cannot be used: {visible(written)!r}",
            hint="a port is 1 to 65535: port: 8000, or port: ${host.vars.NAME}",
        )
    return int(written)
