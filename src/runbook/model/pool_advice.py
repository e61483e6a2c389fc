"""What to do about a budget: the advice, the command, and the ways out where nothing fits."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from runbook.model.units import amount_ceil

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runbook.model.pool_case import Case
    from runbook.model.pool_need import Need
    from runbook.model.pool_plan import Proposal, Proposed, ServicePlan, Sum, Verdict
    from runbook.model.pool_what_if import Supposition

#: A command with more than so many settings is no command that anybody reads: `pool apply` without
#: any proposes the same ones itself.
SETTINGS_SHOWN = 6
#: Services whose new size is named in the advice.
CHANGES_SHOWN = 5


def ways_of(case: Case, needs: Mapping[str, Need], floors: int) -> tuple[str, ...]:
    """Return what would help where even the floors are more than the target."""
    return tuple(_ways(case, needs, floors))


def _ways(case: Case, needs: Mapping[str, Need], floors: int) -> Iterator[str]:
    room = max(0, case.target - case.fixed)
    processes = sum(one.processes for one in case.pooled)
    if floors <= case.usable:
        yield (
            f"a smaller reserve: the floors leave {case.usable - floors} of {case.usable} free,"
            f" not the {case.reserve} asked for"
        )
    if case.pooled:
        yield (
            f"fewer processes: {processes} of them keep at least {floors - case.fixed} connections,"
            f" and there is room for {room}"
        )
        yield _pgbouncer(room, sum(needs[one.name].connections or 0 for one in case.pooled))
    if case.bouncers:
        pools = sum(pool.budget for pool in case.bouncers)
        yield f"smaller pools of the PgBouncers: they may open {pools}"
    larger = _max_connections(case, floors)
    if larger is not None:
        yield (
            f"max_connections = {larger} instead of {case.max_connections}: a restart of the"
            " server, and memory for each connection"
        )


def _pgbouncer(room: int, need: int) -> str:
    if not room:
        return "PgBouncer in between: only once direct connections leave room for its pool"
    if not need:
        enough = "nothing was at work when it was looked at"
    elif need <= room:
        enough = f"the {need} that were needed at once fit into that"
    else:
        enough = f"{need} were needed at once: clients would wait for each other there"
    return (
        f"PgBouncer in between, in transaction mode, with at most {room} server connections:"
        f" {enough} (runbook pgbouncer introduce)"
    )


def _max_connections(case: Case, floors: int) -> int | None:
    """Return the smallest max_connections with which the floors and the reserve fit."""
    asked = case.reserve_asked
    if not asked.endswith("%"):
        usable = floors + int(asked)
    else:
        share = int(asked[:-1])
        if share >= 100:
            return None
        usable = floors * 100 // (100 - share)
        while usable - amount_ceil(asked, usable) < floors:
            usable += 1
    return usable + case.superuser_reserved + case.reserved


def advice_of(
    verdict: Verdict, proposal: Proposal, changes: Sequence[ServicePlan], supposed: bool
) -> str:
    """Return what to do, in a sentence or two."""
    said = []
    if not proposal.fits:
        said.append("Even the smallest pools do not fit: one of the ways above has to come first.")
    elif changes:
        said.append(f"Size each process's pool as proposed: {_sizes(changes)}.")
        by_hand = [one.name for one in changes if not one.settable]
        if by_hand:
            said.append(_by_hand(by_hand))
    elif verdict in {"over", "full"}:
        said.append("No pool's size changes this: what is fixed takes the slots.")
    if supposed:
        said.append("This is a what-if: nothing of it is applied.")
    return " ".join(said)


def _sizes(changes: Sequence[ServicePlan]) -> str:
    """Return `shop 20 + 10 -> 5 + 0, reports 8 -> 4`; of hosts that differ, the most common."""
    shown = [
        f"{one.name} {_size(one.sums[0])} -> {_size(one.proposed)}"
        for one in changes[:CHANGES_SHOWN]
        if one.proposed is not None
    ]
    more = len(changes) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _size(one: Sum | Proposed) -> str:
    return f"{one.size} + {one.overflow}" if one.overflow else str(one.size)


def _by_hand(names: Sequence[str]) -> str:
    where = f"services.{names[0]}.settings.size"
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (
        f"The inventory does not say where the size of {names[0]}{more} lives ({where}): change it"
        f" by hand, then `runbook remediate --rolling-restart --service {names[0]}` brings it in."
    )


def command_of(
    target: str,
    proposal: Proposal,
    changes: Sequence[ServicePlan],
    what_if: Sequence[Supposition],
) -> str | None:
    """Return the command that applies the proposal; None where there is nothing to apply.

    Of a what-if nothing is applied: were there 8 hosts, the sizes for 8 would be right.
    """
    settable = [one for one in changes if one.settable]
    if not proposal.fits or not settable or what_if:
        return None
    settings = [word for one in settable for word in _settings(one)]
    command = f"runbook pool apply {shlex.quote(target)}"
    if len(settings) > SETTINGS_SHOWN:
        return command
    return " ".join([command, *(f"--set {shlex.quote(setting)}" for setting in settings)])


def _settings(service: ServicePlan) -> Iterator[str]:
    proposed = service.proposed
    if proposed is None:
        return
    if any(one.size != proposed.size for one in service.sums):
        yield f"{service.name}.size={proposed.size}"
    if any(one.overflow != proposed.overflow for one in service.sums):
        yield f"{service.name}.overflow={proposed.overflow}"
