"""The sum of the pools as an engineer writes it on paper: a line a service, a rule, the total."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from runbook.rendering.page import plain_ascii
from runbook.rendering.safe import safe

if TYPE_CHECKING:
    from runbook.model.pool_plan import PoolPlan, ServicePlan, Sum

#: Terms that are written down; the smaller ones beyond are one line.
TERMS_SHOWN = 20
#: What stands over the terms.
HEAD = "hosts x processes x (size + overflow)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One line of a sum: whose, how it comes about, how much."""

    label: str
    how: str
    connections: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Addition:
    """A sum, and what it is compared with."""

    terms: tuple[Term, ...]
    together: int
    limits: tuple[Term, ...]
    outcome: str


def addition(plan: PoolPlan, *, proposed: bool = False) -> Addition:
    """Return the sum as it is, or as it is proposed."""
    terms = list(_services(plan, proposed=proposed))
    terms.sort(key=lambda term: -term.connections)
    shown, rest = terms[:TERMS_SHOWN], terms[TERMS_SHOWN:]
    if rest:
        more = sum(term.connections for term in rest)
        shown.append(Term(label=f"{len(rest)} more", how="--format json", connections=more))
    together = plan.proposal.together if proposed else plan.together
    spare = plan.slots.usable - together
    return Addition(
        terms=(*shown, *_fixed(plan)),
        together=together,
        limits=(Term(label="usable", how="", connections=plan.slots.usable),),
        outcome=f"{spare} free" if spare >= 0 else f"{-spare} too many",
    )


def _services(plan: PoolPlan, *, proposed: bool) -> Iterator[Term]:
    lines = [
        (service, one)
        for service in plan.services
        if service.counted_by == "pool"
        for one in _sums(service, proposed=proposed)
    ]
    widths = _widths([one for _, one in lines])
    for service, one in lines:
        alike = len(_sums(service, proposed=proposed)) == 1
        hosts = f"{one.hosts} host{'' if one.hosts == 1 else 's'}"
        yield _term(service.name if alike else f"{service.name} ({hosts})", one, widths)
    for service in plan.services:
        if service.counted_by == "observed":
            yield Term(label=service.name, how="seen; not declared", connections=service.counted)


def _sums(service: ServicePlan, *, proposed: bool) -> tuple[Sum, ...]:
    if not proposed:
        return service.sums
    return service.proposed.sums if service.proposed is not None else ()


def _term(label: str, one: Sum, widths: Sequence[int]) -> Term:
    """Return a line of the sum, its numbers below those of the other lines."""
    numbers = (one.hosts, one.processes, one.size, one.overflow)
    hosts, processes, size, overflow = (
        f"{number:>{width}}" for number, width in zip(numbers, widths, strict=True)
    )
    how = f"{hosts} x {processes} x ({size} + {overflow})"
    return Term(label=label, how=how, connections=one.connections)


def _widths(sums: Sequence[Sum]) -> tuple[int, ...]:
    columns = [(one.hosts, one.processes, one.size, one.overflow) for one in sums]
    return tuple(
        max(len(str(number)) for number in column) for column in zip(*columns, strict=True)
    )


def _fixed(plan: PoolPlan) -> Iterator[Term]:
    for pool in plan.bouncers:
        label = f"PgBouncer {pool.bouncer}, {pool.pool}"
        yield Term(label=label, how="its pool", connections=pool.counted)
    if plan.direct.counted:
        how = "declared" if plan.direct.counted == plan.direct.declared else "seen"
        if any(one.startswith("direct=") for one in plan.what_if):
            how = "supposed"
        yield Term(label="direct", how=how, connections=plan.direct.counted)


def paper(sums: Addition, width: int, *, unicode: bool) -> Iterator[str]:
    """Yield the lines of a sum, no wider than `width`; labels that are too long are cut."""
    rows = [*sums.terms, *sums.limits]
    number = max(len(str(row.connections)) for row in [*rows, _total(sums)])
    how = max([len(HEAD), *(len(row.how) for row in rows)])
    room = width - 2 - 2 - how - 3 - number
    if room < 12:
        how, room = max(len(row.how) for row in rows), 0
        room = max(8, width - 7 - how - number)
    label = min(room, max(cell_len(safe(row.label)) for row in rows) if rows else 8)
    label = max(label, len("together"))
    if how >= len(HEAD):
        yield f"  {'':<{label}}  {HEAD:>{how}}"
    for row in sums.terms:
        yield _line(row, label, how, number, unicode=unicode)
    rule = ("─" if unicode else "-") * number
    yield f"  {'':<{label}}  {'':>{how}}   {rule}"
    yield _line(_total(sums), label, how, number, unicode=unicode)
    for row in sums.limits:
        yield f"{_line(row, label, how, number, unicode=unicode)}"
    yield f"  {'':<{label}}  {sums.outcome:>{how + 3 + number}}"


def _total(sums: Addition) -> Term:
    return Term(label="together", how="", connections=sums.together)


def _line(row: Term, label: int, how: int, number: int, *, unicode: bool) -> str:
    shown = safe(row.label) if unicode else plain_ascii(safe(row.label))
    if cell_len(shown) > label:
        shown = set_cell_size(shown, label - 1) + ("…" if unicode else "~")
    equals = "=" if row.how else " "
    return f"  {set_cell_size(shown, label)}  {row.how:>{how}} {equals} {row.connections:>{number}}"
