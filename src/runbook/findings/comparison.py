"""What changed between two diagnoses of one server: slots, cause, owners, the server itself."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING

from runbook.model.diagnosis import OwnerChange, Since

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.model.diagnosis import Diagnosis

#: Owners that are listed: those with the largest changes. The rest is noise of ordinary traffic.
OWNERS_LISTED = 5
#: Seconds by which a start may seem to move: it is told in whole seconds.
_START_MOVES_S = 2.0

#: Service and host, or an application's name alone.
_Key = tuple[str | None, str | None, str]


def compare(previous: Diagnosis, now: Diagnosis, run_id: str | None = None) -> Since:
    """Return what is different now from an earlier diagnosis of the same server."""
    seconds = seconds_between(previous.server.server_time, now.server.server_time)
    return Since(
        run_id=run_id,
        server_time=previous.server.server_time,
        seconds=seconds if seconds is not None and seconds >= 0 else None,
        cause=previous.finding.cause,
        title=previous.finding.title,
        used=previous.slots.used,
        usable=previous.slots.usable,
        owners=owner_changes(previous, now)[:OWNERS_LISTED],
        notes=tuple(server_changes(previous, now)),
    )


def owner_changes(previous: Diagnosis, now: Diagnosis) -> tuple[OwnerChange, ...]:
    """Return every owner whose number of sessions changed, the largest change first.

    Owners are the declared pools, and everyone else together; where no pools are declared, the
    applications by their names.
    """
    if (previous.server.rung == "os") != (now.server.rung == "os"):
        return ()  # seen by its processes alone, a session is known by other marks
    then, today = _held(previous), _held(now)
    if _declared(then) != _declared(today):
        then, today = _alike(_by_service(then), _by_service(today))
    changes = [
        OwnerChange(
            owner=key[2],
            service=key[0],
            host=key[1],
            sessions_then=then.get(key, 0),
            sessions=today.get(key, 0),
        )
        for key in {**then, **today}
    ]
    changed = [change for change in changes if change.grown]
    return tuple(sorted(changed, key=lambda change: (-abs(change.grown), change.owner)))


def server_changes(previous: Diagnosis, now: Diagnosis) -> Iterator[str]:
    """Yield what changed of the server: a restart, its role, its version, its limits."""
    before, after = previous.server, now.server
    if restarted(previous, now):
        yield f"the server was started at {after.started_at}: a restart, or another one answers"
    if before.in_recovery != after.in_recovery:
        was, is_now = ("standby", "primary") if before.in_recovery else ("primary", "standby")
        yield f"a {was} answered then, a {is_now} now"
    # A distribution's suffix is told by SQL, and not by the server's binary.
    was, is_now = (server.version.partition(" ")[0] for server in (before, after))
    if was and is_now and was != is_now:
        yield f"version {was} -> {is_now}"
    limits = (previous.slots.max_connections, now.slots.max_connections)
    if limits[0] != limits[1]:
        yield f"max_connections {limits[0]} -> {limits[1]}"


def restarted(previous: Diagnosis, now: Diagnosis) -> bool:
    """Whether the server that answers now was started at another time than the one before."""
    moved = seconds_between(previous.server.started_at, now.server.started_at)
    return moved is not None and abs(moved) > _START_MOVES_S


def seconds_between(earlier: str, later: str) -> float | None:
    """Return the seconds between two of a server's timestamps; None when one cannot be read."""
    try:
        return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
    except (ValueError, TypeError):  # TypeError: only one of them has a zone
        return None


def _held(diagnosis: Diagnosis) -> dict[_Key, int]:
    if not diagnosis.pools:
        return {(None, None, count.name): count.sessions for count in diagnosis.by_application}
    held: Counter[_Key] = Counter()
    for pool in diagnosis.pools:
        # A service's sessions on a host stand in two pools when some of them are in doubt.
        held[pool.service, pool.host, f"{pool.service} on {pool.host}"] += pool.sessions
    everyone = sum(count.sessions for count in diagnosis.by_state)
    held[None, None, "everyone else"] = everyone - held.total()
    return dict(held)


def _alike(then: dict[_Key, int], today: dict[_Key, int]) -> tuple[dict[_Key, int], ...]:
    """Return what both sides have, for hosts that could be told apart on one side only.

    A service on one side alone was declared, or taken away, in between: it has not grown, and
    neither have all the others, to whom it belongs on the other side.
    """
    both = then.keys() & today.keys()
    if then.keys() != today.keys():
        both = {key for key in both if key[0] is not None}
    return {key: then[key] for key in both}, {key: today[key] for key in both}


def _by_service(held: dict[_Key, int]) -> dict[_Key, int]:
    summed: Counter[_Key] = Counter()
    for (service, _, owner), sessions in held.items():
        summed[service, None, service or owner] += sessions
    return dict(summed)


def _declared(held: dict[_Key, int]) -> set[_Key]:
    return {key for key in held if key[0] is not None}
