"""`pgbouncer_check`: does it answer, do queries pass through it, can app servers reach it?"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from runbook.model.document import visible
from runbook.model.effects import (
    AskPgBouncer,
    CommandOutcome,
    ConsoleAnswers,
    Drive,
    ReadCommand,
    Together,
    ask,
)
from runbook.model.errors import DoorError
from runbook.model.fleet import Fleet
from runbook.model.pgbouncer_host import reach_argv
from runbook.model.plan import Result
from runbook.model.setup_effects import AskThroughPgBouncer, Through
from runbook.model.step import StepContext, StepType
from runbook.steps.bouncer_subject import Bouncer, BouncerArgs, bouncer_of

_REACH_S = 20.0


class PgBouncerCheckArgs(BouncerArgs):
    """What is looked at."""

    through: bool = Field(True, description="ask something through it, as the role of connect")
    reach: bool = Field(True, description="try it from every app server of the services")


def act(args: PgBouncerCheckArgs, ctx: StepContext) -> Drive[Result]:
    """Ask the console, then through it, then each app server; the first no ends it."""
    bouncer = bouncer_of(args, ctx.fleet, auth=False)
    try:
        console: ConsoleAnswers = yield from ask(
            AskPgBouncer(pgbouncer=bouncer.name, shows=("databases", "pools"))
        )
    except DoorError as error:
        return Result(status="failed", summary=error.message, hint=error.hint or "")
    said = [f"PgBouncer {console.version} answers"]
    data: dict[str, Any] = {"version": console.version}
    names = [str(r["name"]) for r in console.rows.get("databases", ()) if r["name"] != "pgbouncer"]
    if args.through:
        answered = yield from _through(bouncer, names)
        if isinstance(answered, Result):
            return answered
        data["through"] = answered
        said.append(f"queries pass through it to {', '.join(answered)}")
    if args.reach and bouncer.services:
        reached = yield from _reach(bouncer)
        if isinstance(reached, Result):
            return reached
        data["reached"] = reached
        said.append(f"{len(reached)} app servers reach it")
    return Result(status="ok", summary="; ".join(said), data=data)


def _through(bouncer: Bouncer, names: list[str]) -> Drive[list[str] | Result]:
    for dbname in names:
        try:
            told: Through = yield from ask(
                AskThroughPgBouncer(pgbouncer=bouncer.name, dbname=dbname)
            )
        except DoorError as error:
            return Result(
                status="failed",
                summary=f"no query passes through it to {dbname}: {error.message}",
                hint=_why_not(bouncer, error.message) or error.hint or "",
            )
        if told.dbname != dbname:
            return Result(
                status="failed",
                summary=f"it leads to database {told.dbname} where {dbname} was asked for",
            )
    return names


#: What PgBouncer says -> what mends it. {…} are filled in.
_REMEDIES = (
    (
        "pg_hba.conf",
        "the server's pg_hba.conf wants a line for PgBouncer's host: host all all ADDRESS/32 …",
    ),
    (
        "server login has been failing",
        "journalctl -u {unit} on {host} says why: pg_hba.conf? pgbouncers.{name}.auth?",
    ),
    (
        "bouncer config error",
        "auth_query failed: journalctl -u {unit} on {host} says why",
    ),
)


def _why_not(bouncer: Bouncer, said: str) -> str:
    values = {"unit": bouncer.entry.unit, "host": bouncer.host.name, "name": bouncer.name}
    return next((hint.format(**values) for text, hint in _REMEDIES if text in said), "")


def _reach(bouncer: Bouncer) -> Drive[list[str] | Result]:
    address, port = bouncer.clients
    hosts = sorted(
        {h for service in bouncer.services.values() for h in bouncer.fleet.whole(service.hosts)}
    )
    looks = tuple(
        ReadCommand(host=host, argv=reach_argv(address, port), timeout_s=_REACH_S) for host in hosts
    )
    outcomes = yield from ask(Together(effects=looks))
    no = {}
    for host, outcome in zip(hosts, outcomes, strict=True):
        why = _reached(outcome)
        if why is not None:
            no[host] = why
    if not no:
        return hosts
    told = "; ".join(f"{host}: {why}" for host, why in list(no.items())[:4])
    more = f"; and {len(no) - 4} more" if len(no) > 4 else ""
    return Result(
        status="failed",
        summary=f"{address}:{port} is not reached by {len(no)} of {len(hosts)} app servers: {told}"
        f"{more}",
        hint=f"pgbouncers.{bouncer.name}.clients and client_port say where they look for it; else a"
        " firewall is in between. No app server was moved",
        data={"unreached": no},
    )


def _reached(outcome: CommandOutcome | DoorError) -> str | None:
    if isinstance(outcome, DoorError):
        return outcome.message
    said = visible(outcome.stdout.strip().partition("\n")[0])[:120]
    if said == "reached":
        return None
    if said == "open":
        return "something listens there, and it speaks no PostgreSQL"
    return said.removeprefix("no: ") or f"it could not be tried (exit code {outcome.exit_code})"


def _targets(args: PgBouncerCheckArgs, fleet: Fleet) -> tuple[str, ...]:
    return (bouncer_of(args, fleet, auth=False).host.name,)


PGBOUNCER_CHECK = StepType(
    verb="pgbouncer_check",
    summary="look whether a PgBouncer answers, passes queries, and is reached by app servers",
    args=PgBouncerCheckArgs,
    phases={"act": act},
    changes=lambda _args: False,
    targets=_targets,
    after_crash="repeat",
    target_kind="host",
)
