"""PgBouncers for people: the verdict first, then each one's pools, then what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from runbook.model.units import format_duration
from runbook.rendering.page import Page
from runbook.rendering.safe import safe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from runbook.model.bouncer_status import (
        BouncersReport,
        BouncerStatus,
        ClientGroup,
        PoolStatus,
        Trouble,
    )

_HEADS = ("pool", "clients", "idle", "waiting", "maxwait", "servers", "busy", "most")
#: Groups of clients, and pools, that are named; those beyond are counted, and JSON has them all.
_NAMED = 5
_POOLS = 20
#: Columns that the table of pools needs.
_TABLE = 76


def render(report: BouncersReport, console: Console) -> None:
    """Print a report; readable at 80 columns and below, without colour, and in a pager."""
    page = Page(console)
    page.wrapped(report.verdict, style="bold green" if report.well else "bold red")
    for bouncer in report.pgbouncers:
        page.blank()
        _bouncer(page, bouncer)
    page.bullets("Different", report.differences)
    page.bullets("Not seen", report.unseen)
    _next(page, report)


def _bouncer(page: Page, bouncer: BouncerStatus) -> None:
    if not bouncer.answers:
        page.wrapped(f"{bouncer.name} ({bouncer.where}) does not answer", style="bold")
        return
    title = f"{bouncer.name} ({bouncer.where}), PgBouncer {bouncer.version}"
    page.wrapped(f"{title}, in front of {bouncer.database}", style="bold")
    page.wrapped(_clients_in_all(bouncer), indent=2)
    if not bouncer.pools:
        page.wrapped("no pool yet: no client has come", indent=2)
    else:
        shown = sorted(bouncer.pools, key=lambda p: (-p.cl_waiting, -p.cl_active))[:_POOLS]
        if page.width >= _TABLE:
            page.table(_HEADS, [_row(pool) for pool in shown])
        for pool in shown:
            for number, line in enumerate(_about(pool)):
                page.wrapped(line, indent=6, first="      " if number else "  - ")
        if rest := len(bouncer.pools) - len(shown):
            page.wrapped(f"and {rest} more pools (--format json lists all)", indent=2)
    for remark in bouncer.remarks:
        page.wrapped(remark, indent=8, first="  note  ")


def _clients_in_all(bouncer: BouncerStatus) -> str:
    most = f" of {bouncer.max_client_conn}" if bouncer.max_client_conn else ""
    return f"{bouncer.used_clients}{most} clients; below, `clients` counts the idle ones too"


def _row(pool: PoolStatus) -> tuple[str, ...]:
    return (
        f"{pool.database}/{pool.user}",
        str(pool.cl_active),
        str(pool.cl_idle),
        str(pool.cl_waiting),
        format_duration(pool.maxwait_s) if pool.cl_waiting else "-",
        str(pool.servers),
        str(pool.sv_active),
        str(pool.most),
    )


def _about(pool: PoolStatus) -> Iterator[str]:
    """Yield what the numbers of a pool mean: its bound, its clients, PostgreSQL's view."""
    name = f"{pool.database}/{pool.user}"
    servers = "server connection" if pool.most == 1 else "server connections"
    bound = f"at most {pool.most} {servers} ({pool.most_setting})"
    yield f"{name}, {pool.mode} mode: {bound}{_binds(pool)}"
    if pool.cl_waiting:
        yield f"{pool.cl_waiting} waiting, the first for {format_duration(pool.maxwait_s)}"
    if pool.clients:
        more = len(pool.clients) - _NAMED
        named = ", ".join(map(_group, pool.clients[:_NAMED]))
        yield f"clients: {named}{f' and {more} more' if more > 0 else ''}"
    if pool.in_postgresql is not None and (pool.servers or pool.in_postgresql.pids):
        yield f"PostgreSQL sees {_seen(pool)}"


def _binds(pool: PoolStatus) -> str:
    if pool.binds is None:
        return ""
    if pool.bound is not None:
        return f"; {pool.binds} {pool.bound} binds"
    words = {"no_server": "it gets no server connection", "untold": "why they wait is not told"}
    return f"; {words.get(pool.binds, pool.binds)}"


def _group(group: ClientGroup) -> str:
    parts = [str(group.clients)]
    if group.waiting:
        parts.append(f"{group.waiting} waiting")
    if group.idle:
        parts.append(f"{group.idle} idle")
    return f"{group.label} ({', '.join(parts)})"


def _seen(pool: PoolStatus) -> str:
    seen = pool.in_postgresql
    assert seen is not None  # noqa: S101 - see its caller
    states = {
        "active": seen.active,
        "idle in transaction": seen.idle_in_transaction,
        "idle": seen.idle,
        "other": seen.other,
    }
    words = ", ".join(f"{number} {word}" for word, number in states.items() if number)
    missing = f"; {seen.missing} of its server connections are not there" if seen.missing else ""
    return f"{len(seen.pids)} of them{f': {words}' if words else ''}{missing}"


def _next(page: Page, report: BouncersReport) -> None:
    if not report.troubles:
        return
    page.heading("Next")
    for number, trouble in enumerate(report.troubles):
        _trouble(page, trouble, first=number == 0)


def _trouble(page: Page, trouble: Trouble, *, first: bool) -> None:
    said = f"{trouble.pgbouncer}: {trouble.said}"
    # The first one is the verdict already.
    words = trouble.hint if first and trouble.hint else f"{said}. {trouble.hint}".strip()
    page.wrapped(words, indent=4, first="  - ")
    if trouble.command is not None:
        page.unwrapped(Text("      ").append(safe(trouble.command), style="bold cyan"))
