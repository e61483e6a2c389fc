"""Sizes that add up: floors first, then one connection per process to whom it helps most."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """What one service lays claim to."""

    name: str
    #: Processes on all its hosts: what one connection more for each of them costs.
    processes: int
    #: Connections that each process must have, and may have at most.
    floor: int
    cap: int
    #: Connections that it was seen to need; 0: not seen.
    need: int
    #: Connections that it has been declared to have: decides where no need does.
    declared: int
    #: Processes that a deploy starts beside the running ones, and that autoscaling may add.
    surge: int = 0
    further: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """How many connections each process of a service gets."""

    each: dict[str, int]
    #: Whether the floors are within the target.
    fits: bool
    #: Whether the declared deploys and autoscaling are within what is usable as well.
    holds_growth: bool


def share_out(claims: Sequence[Claim], *, target: int, usable: int) -> Shares:
    """Return connections for each process: together within `target`, and with growth in `usable`.

    Every service gets its floor. Then the next connection for each process of a service goes to
    the one with the largest need per connection granted (the method of highest averages, as
    D'Hondt's for seats in a parliament), among those that it still fits for; equal needs go by
    what is declared, then by name. Nobody gets more than its cap.

    A deploy or autoscaling that is too much even with the floors is left out of account, and told.
    """
    room = _Room(claims, target=target, usable=usable)
    each = {claim.name: claim.floor for claim in claims}
    if room.quiet > target:
        return Shares(each=each, fits=False, holds_growth=room.growth_fits())
    holds = room.growth_fits()
    queue = [_entry(claim, claim.floor) for claim in claims if claim.floor < claim.cap]
    heapq.heapify(queue)
    while queue:
        claim = heapq.heappop(queue)[-1]
        granted = each[claim.name]
        # What does not fit now never will: granting only takes room.
        if room.take(claim, granted + 1, growth=holds):
            each[claim.name] = granted + 1
            if granted + 1 < claim.cap:
                heapq.heappush(queue, _entry(claim, granted + 1))
    return Shares(each=each, fits=True, holds_growth=holds)


#: Sorts the neediest first; the claim itself is never compared: names differ.
_Entry = tuple[Fraction, Fraction, str, Claim]


def _entry(claim: Claim, granted: int) -> _Entry:
    connections = granted * claim.processes
    return (
        -Fraction(claim.need, connections),
        -Fraction(claim.declared, connections),
        claim.name,
        claim,
    )


class _Room:
    """What is taken: on a quiet day, while the largest deploy goes on, and scaled out."""

    def __init__(self, claims: Sequence[Claim], *, target: int, usable: int) -> None:
        self._target, self._usable = target, usable
        self.quiet = sum(claim.processes * claim.floor for claim in claims)
        self._deploy = max((claim.surge * claim.floor for claim in claims), default=0)
        self._further = sum(claim.further * claim.floor for claim in claims)
        self._grows = any(claim.surge or claim.further for claim in claims)

    def growth_fits(self) -> bool:
        """Whether a deploy of any one service fits, and all of them scaled out."""
        return not self._grows or self.quiet + max(self._deploy, self._further) <= self._usable

    def take(self, claim: Claim, each: int, *, growth: bool) -> bool:
        """Take one more for each process of a service, if that fits."""
        quiet = self.quiet + claim.processes
        deploy = max(self._deploy, claim.surge * each)
        further = self._further + claim.further
        if quiet > self._target or (
            growth and self._grows and quiet + max(deploy, further) > self._usable
        ):
            return False
        self.quiet, self._deploy, self._further = quiet, deploy, further
        return True
