"""`--what-if "shop.hosts=8"`: the same budget, were one of its numbers another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runbook.model.document import nearest, quoted
from runbook.model.errors import UsageError
from runbook.model.pool_case import VALUES, Case, ServiceCase, Shape

if TYPE_CHECKING:
    from runbook.model.fleet import Fleet

#: Keys of the server, and of a service (or of all of them); with the least that each may be.
SERVER = {"max_connections": 1, "direct": 0}
SERVICE = {"hosts": 1, "processes": 1, "size": 1, "overflow": 0}
#: More is a slip of the pen: PostgreSQL has at most 262,143 connections.
_MOST = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Supposition:
    """One number that is supposed to be another."""

    #: None: the server, or every service.
    service: str | None
    key: str
    value: int

    def __str__(self) -> str:
        return f"{self.service}.{self.key}={self.value}" if self.service else self._plain

    @property
    def _plain(self) -> str:
        return f"{self.key}={self.value}"


def parse(words: Sequence[str], services: Collection[str]) -> tuple[Supposition, ...]:
    """Return suppositions as written: `max_connections=300`, `size=20`, `shop.size=20`.

    Several may stand in one word, with commas between.

    Raises:
        UsageError: for anything else, with the nearest right name; and for the same one twice.
    """
    parts = [part.strip() for word in words for part in word.split(",")]
    found: dict[tuple[str | None, str], Supposition] = {}
    for part in parts:
        one = _parse(part, services)
        if (one.service, one.key) in found:
            name = f"{one.service}.{one.key}" if one.service else one.key
            raise UsageError(f"--what-if: {name} is given twice", hint="suppose it once")
        found[one.service, one.key] = one
    return tuple(found.values())


def _parse(word: str, services: Collection[str]) -> Supposition:
    name, equals, number = (part.strip() for part in word.partition("="))
    if not equals:
        raise UsageError(
            f"--what-if: {quoted(word)} is not NAME=NUMBER",
            hint="as in hosts=8, shop.size=20 or max_connections=300",
        )
    service, _, key = name.rpartition(".")
    _check_names(service or None, key, services)
    return Supposition(service=service or None, key=key, value=_number(word, key, number))


def _check_names(service: str | None, key: str, services: Collection[str]) -> None:
    if service is not None and service not in services:
        near = nearest(service, services)
        listing = ", ".join(list(services)[:8]) or "none"
        raise UsageError(
            f"--what-if: the inventory has no service named {quoted(service)}",
            hint=f"did you mean {near!r}?" if near else f"it has: {listing}",
        )
    known = list(SERVICE) if service is not None else [*SERVICE, *SERVER]
    if key not in known:
        near = nearest(key, known)
        raise UsageError(
            f"--what-if: there is no {quoted(key)}" + (" of a service" if service else ""),
            hint=f"did you mean {near!r}?" if near else f"there is: {', '.join(known)}",
        )


def _number(word: str, key: str, text: str) -> int:
    least = {**SERVER, **SERVICE}[key]
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or not least <= int(text) <= _MOST:
        raise UsageError(
            f"--what-if: {quoted(word)}: {key} is a whole number from {least} to {_MOST}",
            hint=f"as in {key}=8",
        )
    return int(text)


def check_fit(suppositions: Sequence[Supposition], fleet: Fleet, databases: Sequence[str]) -> None:
    """See to it that each supposed service uses one of the databases.

    Raises:
        UsageError: for one that does not: what was supposed of it would change nothing.
    """
    for one in suppositions:
        if one.service is None:
            continue
        database = fleet.service(one.service).database
        if database not in databases:
            used = f"uses {quoted(database)}" if database else "names no database"
            raise UsageError(
                f"--what-if {one}: service {quoted(one.service)} {used},"
                f" not {', '.join(quoted(name) for name in databases)}",
                hint=f"runbook pool plan {database}" if database else None,
            )


def suppose(case: Case, suppositions: Sequence[Supposition], *, alike: bool = True) -> Case:
    """Return the case, were it as supposed; what is said of one service wins over all of them.

    Hosts that are configured differently become `alike`; else each keeps what nothing is said of,
    as it does when these very values are put there.

    Raises:
        UsageError: for a service of which too little is known to suppose one number of it.
    """
    server = {one.key: one.value for one in suppositions if one.key in SERVER}
    of_all = {one.key: one.value for one in suppositions if one.service is None}
    return replace(
        case,
        max_connections=server.get("max_connections", case.max_connections),
        direct=server.get("direct", case.direct),
        services=tuple(
            _supposed(
                service,
                of_all,
                {one.key: one.value for one in suppositions if one.service == service.name},
                alike=alike,
            )
            for service in case.services
        ),
    )


def _supposed(
    case: ServiceCase, of_all: dict[str, int], own: dict[str, int], *, alike: bool
) -> ServiceCase:
    values = {key: value for key, value in {**of_all, **own}.items() if key in SERVICE}
    if not values:
        return case
    if case.unlike and not alike:
        return _each_put(case, values)
    base = case.shapes[0] if case.shapes else None
    if base is None and not {"processes", "size"} <= set(values):
        if not own:
            return case
        raise UsageError(
            f"--what-if: nothing says how large the pool of {quoted(case.name)} is",
            hint=f"suppose it whole, as in {case.name}.processes=2,{case.name}.size=5; or declare"
            f" services.{case.name}.pool in the inventory",
        )
    given = {name: getattr(base, name) if base is not None else 0 for name in VALUES}
    # Every host alike: hosts that differ today would each be a guess.
    shape = Shape(**{"hosts": case.hosts, **given, **values})
    counted_by = "pool" if case.counted_by == "observed" else case.counted_by
    return replace(
        case,
        hosts=shape.hosts,
        shapes=(shape,),
        unlike={},
        declared=shape,
        counted_by=counted_by,
    )


def _each_put(case: ServiceCase, values: dict[str, int]) -> ServiceCase:
    """Return hosts that differ with these values put on each: the rest of each stays."""
    counts: Counter[Shape] = Counter()
    for shape in case.shapes:
        counts[replace(shape, **values, hosts=1)] += shape.hosts
    return replace(
        case,
        # The first stays the first: hosts that are not in `unlike` are as it is.
        shapes=tuple(replace(shape, hosts=count) for shape, count in counts.items()),
        unlike={host: replace(shape, **values) for host, shape in case.unlike.items()},
        declared=replace(case.declared, **values) if case.declared is not None else None,
    )
