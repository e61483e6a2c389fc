"""The verdict on a sum of pools, and what deploys and autoscaling make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.model.pool_plan import Growth

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from runbook.model.pool_case import Case, ServiceCase
    from runbook.model.pool_plan import GrowthKind, Verdict

#: Percent of the usable slots from which a budget is tight: one deploy or one bad query from full.
TIGHT = 70
#: From here on it is one incident away: a host that comes back twice, a retry storm, a cron job.
ONE_INCIDENT_AWAY = 90


def verdict_of(together: int, usable: int, growth: Iterable[Growth] = ()) -> Verdict:
    """Return the verdict; what is declared to happen and would not fit makes it tight at least."""
    if together > usable:
        return "over"
    if together == usable:
        return "full"
    breaks = any(one.over for one in growth if not one.worst_case)
    return "tight" if breaks or together * 100 >= TIGHT * usable else "comfortable"


def title_of(case: Case, verdict: Verdict, growth: Sequence[Growth]) -> str:
    """Return the verdict in one line, with its numbers."""
    together, usable = case.together, case.usable
    least = "at least " if any(one.counted_by == "observed" for one in case.services) else ""
    if verdict == "over":
        return (
            f"over budget by {together - usable}: {least}{together} connections may be opened,"
            f" and {usable} are usable"
        )
    if verdict == "full":
        return f"exactly full: {least}{together} may be opened of {usable} usable, no reserve"
    taken = f"{least}{together} of {usable} usable connections may be opened"
    share = f"{percent(together, usable)}%"
    broken = next((one for one in growth if one.over and not one.worst_case), None)
    if broken is not None:
        return f"tight: {taken} ({share}), and {broken.over} too many with {broken.label}"
    if together * 100 >= ONE_INCIDENT_AWAY * usable:
        return f"tight, one incident away: {taken} ({share})"
    return f"{verdict}: {taken} ({share})"


def percent(part: int, whole: int) -> int:
    """Return a share in whole percent, rounded down; of nothing, anything is all."""
    return part * 100 // whole if whole else 100 * bool(part)


def growths(case: Case, proposed: Mapping[str, int] | None = None) -> tuple[Growth, ...]:
    """Return what deploys and autoscaling make of the sum, the largest first.

    `proposed` has the proposed connections of each process. A deploy is one service's at a time;
    hosts that come up have the most common shape. Last comes every host doubled, which nobody
    declared: what a deploy is that starts all of them anew before it stops any.
    """
    sums = _Sums(case, proposed)
    declared = sorted(_declared(case, sums), key=lambda growth: -growth.connections)
    return (*declared, *([sums.doubled()] if case.pooled else []))


def _declared(case: Case, sums: _Sums) -> Iterator[Growth]:
    scaling = [one for one in case.pooled if one.further_hosts]
    for one in case.pooled:
        if one.surge_hosts:
            label = f"deploy of {one.name} (+{_hosts(one.surge_hosts)})"
            yield sums.growth("deploy", label, (one, one.surge_hosts))
    for one in scaling:
        label = f"{one.name} scaled to {_hosts(one.hosts + one.further_hosts)}"
        yield sums.growth("autoscaling", label, (one, one.further_hosts))
    if len(scaling) > 1:
        more = [(one, one.further_hosts) for one in scaling]
        yield sums.growth("autoscaling", "all services scaled out", *more)


class _Sums:
    """The sum as it is, and as it is proposed; with so many hosts more."""

    def __init__(self, case: Case, proposed: Mapping[str, int] | None) -> None:
        self._usable = case.usable
        self._together = case.together
        self._pooled = case.pooled
        self._each = proposed
        self._proposed = case.fixed + sum(
            one.processes * (proposed or {}).get(one.name, 0) for one in case.pooled
        )

    def growth(self, kind: GrowthKind, label: str, *more: tuple[ServiceCase, int]) -> Growth:
        """Return the sums with so many hosts more of some services."""
        now = sum(hosts * one.shapes[0].per_host for one, hosts in more)
        then = sum(
            hosts * one.shapes[0].processes * (self._each or {}).get(one.name, 0)
            for one, hosts in more
        )
        return self._growth(kind, label, now, then, more[0][0].name if len(more) == 1 else None)

    def doubled(self) -> Growth:
        """Return the sums with every host doubled, each as it is configured."""
        now = sum(one.counted for one in self._pooled)
        then = sum(one.processes * (self._each or {}).get(one.name, 0) for one in self._pooled)
        return self._growth("doubling", "every host doubled", now, then, None)

    def _growth(
        self, kind: GrowthKind, label: str, now: int, then: int, service: str | None
    ) -> Growth:
        return Growth(
            kind=kind,
            service=service,
            label=label,
            connections=self._together + now,
            over=max(0, self._together + now - self._usable),
            proposed=None if self._each is None else self._proposed + then,
            worst_case=kind == "doubling",
        )


def _hosts(number: int) -> str:
    return f"{number} host{'' if number == 1 else 's'}"
