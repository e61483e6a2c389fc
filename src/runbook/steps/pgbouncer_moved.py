"""`pgbouncer_moved`: are the services behind it now, and what has become of the server's slots?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from runbook.model.document import visible
from runbook.model.effects import (
    AskPgBouncer,
    ConsoleAnswers,
    Drive,
    Now,
    ReadSql,
    Say,
    Sleep,
    ask,
)
from runbook.model.errors import DoorError
from runbook.model.fleet import Fleet
from runbook.model.plan import Result
from runbook.model.step import StepContext, StepType
from runbook.model.units import Duration
from runbook.steps.bouncer_subject import (
    Bouncer,
    BouncerArgs,
    applications_by_host,
    belongs,
    bouncer_of,
)

_TICK_S = 0.5
#: How long the first client of each app server is waited for.
_FOR_CLIENTS_S = 5.0

_SESSIONS = """\
SELECT pid, usename::pg_catalog.text AS role, application_name AS application,
       client_addr::pg_catalog.text AS address
  FROM pg_catalog.pg_stat_activity
 WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()"""


class PgBouncerMovedArgs(BouncerArgs):
    """Whose sessions are looked for, and what they were before."""

    before: int | str | None = Field(
        None, description="client connections of the server before, for the comparison"
    )
    within: Duration = Field(30.0, description="how long the old sessions may take to go")


def act(args: PgBouncerMovedArgs, ctx: StepContext) -> Drive[Result]:
    """Look until no session of the services goes past it, or the time is over."""
    bouncer = bouncer_of(args, ctx.fleet, auth=False)
    began = yield from ask(Now())
    deadline, patience = began + args.within, began + min(args.within, _FOR_CLIENTS_S)
    told = False
    while True:
        try:
            seen = yield from _look(bouncer)
        except DoorError as error:
            return Result(status="failed", summary=error.message, hint=error.hint or "")
        missing = [host for host, count in seen["clients_by_host"].items() if not count]
        at = yield from ask(Now())
        # A service that is idle comes when it is asked for something, and not for our waiting.
        if at >= deadline or (not seen["direct"] and (not missing or at >= patience)):
            break
        if not told:
            yield from ask(Say(stage="proving", text="waiting for the old sessions to go"))
            told = True
        yield from ask(Sleep(seconds=_TICK_S))
    seen["before"] = int(str(args.before)) if str(args.before).isdigit() else None
    return _result(bouncer, seen, missing)


def _result(bouncer: Bouncer, seen: dict[str, Any], missing: list[str]) -> Result:
    data = {**seen, "direct": len(seen["direct"]), "not_seen": missing}
    if seen["direct"]:
        who = "; ".join(seen["direct"][:4])
        return Result(
            status="failed",
            summary=f"{len(seen['direct'])} sessions still go past PgBouncer: {who}",
            hint="another process of the service, or another place where the connection string"
            f" stands? `runbook pgbouncer remove {bouncer.name}` leads all back",
            data=data,
        )
    said = [f"{seen['clients']} clients on {seen['servers']} server connections"]
    if seen["before"] is not None:
        counts = f"{seen['before']} connections before, {seen['now']} now"
        said.append(f"{bouncer.entry.database}: {counts}")
    if missing:
        said.append(f"nothing has asked for the database yet on {', '.join(missing)}")
    return Result(status="ok", summary="; ".join(said), data=data)


def _look(bouncer: Bouncer) -> Drive[dict[str, Any]]:
    rows = (
        yield from ask(ReadSql(database=bouncer.entry.database, sql=_SESSIONS, limit=20_000))
    ).rows
    console: ConsoleAnswers = yield from ask(
        AskPgBouncer(pgbouncer=bouncer.name, shows=("servers", "clients"), timeout_s=10.0)
    )
    through = {row.get("remote_pid") for row in console.rows.get("servers", ())}
    names = applications_by_host(bouncer, within_limit=True)
    every = frozenset(name for host in names.values() for name in host)
    direct = [
        f"{visible(str(row['role']))} ({visible(str(row['application'])) or 'no name'}) from"
        f" {row['address'] or 'a socket'}, pid {row['pid']}"
        for row in rows
        if row["pid"] not in through and _theirs(row, every, bouncer) and not _passed_on(row, every)
    ]
    clients = [row for row in console.rows.get("clients", ()) if row.get("database") != "pgbouncer"]
    return {
        "now": len(rows),
        "direct": direct,
        "clients": len(clients),
        "servers": len(console.rows.get("servers", ())),
        "clients_by_host": _by_host(bouncer, clients, names),
    }


def _theirs(row: Mapping[str, Any], names: frozenset[str], bouncer: Bouncer) -> bool:
    """Whether a session is of an app server that was to be moved; with --limit, its name tells."""
    if bouncer.fleet.limit is not None and names:
        return str(row["application"]) in names
    return belongs(row, names, bouncer)


def _passed_on(row: Mapping[str, Any], names: frozenset[str]) -> bool:
    """Whether PgBouncer gave it its name: a server connection that came between the two looks."""
    return str(row["application"]) not in names and bool(
        str(row["application"]).rpartition(" - ")[0] in names
    )


def _by_host(
    bouncer: Bouncer, clients: list[dict[str, Any]], names: Mapping[str, frozenset[str]]
) -> dict[str, int]:
    """Count each app server's clients, by its application name, else by its address."""
    counts = {}
    for host, own in names.items():
        address = bouncer.fleet.host(host).address
        counts[host] = sum(
            _named(row, own) if own else row.get("addr") == address for row in clients
        )
    return counts


def _named(client: Mapping[str, Any], names: frozenset[str]) -> bool:
    """Whether a client bears one of these names; 1.18 shows the address that it adds, too."""
    name = str(client.get("application_name", ""))
    return name in names or name.rpartition(" - ")[0] in names


def _targets(args: PgBouncerMovedArgs, fleet: Fleet) -> tuple[str, ...]:
    return (bouncer_of(args, fleet, auth=False).entry.database,)


PGBOUNCER_MOVED = StepType(
    verb="pgbouncer_moved",
    summary="look whether services go through a PgBouncer now, and what the server saves by it",
    args=PgBouncerMovedArgs,
    phases={"act": act},
    changes=lambda _args: False,
    targets=_targets,
    after_crash="repeat",
    target_kind="database",
)
