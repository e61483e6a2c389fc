"""`pgbouncer_role`: in PostgreSQL, the role and the function that PgBouncer's auth_query needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from runbook.model.effects import Drive, ReadSql, ask
from runbook.model.errors import CommandFailed, ConnectionLost, NotStarted
from runbook.model.fleet import Fleet
from runbook.model.pgbouncer_auth import (
    FUNCTION,
    LOOK,
    SCHEMA,
    VERIFIER,
    AuthSeen,
    drop_function,
    drop_role,
    look_for,
    make_function,
    make_role,
)
from runbook.model.pgbouncer_config import knows_auth_dbname
from runbook.model.plan import Result
from runbook.model.setup_effects import AdminLook, AdminSql, Hole, PasswordFits
from runbook.model.step import StepContext, StepType
from runbook.steps.bouncer_subject import (
    Bouncer,
    BouncerArgs,
    Survey,
    beside,
    bouncer_of,
    survey,
)

_DATABASES = """\
SELECT datname::pg_catalog.text AS dbname FROM pg_catalog.pg_database
 WHERE datallowconn AND NOT datistemplate ORDER BY 1"""


class PgBouncerRoleArgs(BouncerArgs):
    """For which PgBouncer, and whether it shall be there."""

    absent: bool = Field(False, description="take role and function away, when they are there")


def prepare(args: PgBouncerRoleArgs, ctx: StepContext) -> Drive[Result]:
    """Look what of it there is, as a superuser, and show what is missing."""
    bouncer = bouncer_of(args, ctx.fleet)
    shared = _shared(args, bouncer)
    if shared is not None:
        return shared
    if args.absent:
        places = yield from _everywhere(bouncer)
    else:
        places = where((yield from survey(args, bouncer)), bouncer)
    seen = yield from _look(bouncer, places)
    for each in seen:
        problem = each.problem(bouncer.auth.user)
        if problem is not None:
            why, hint = problem
            return Result(status="refused", summary=f"nothing was changed: {why}", hint=hint)
    changes = _changes(args, bouncer, seen)
    touches = sorted({line for change in changes for line in change.footprint()})
    summary = "; ".join(change.sentence() for change in changes) or _nothing(args, bouncer, places)
    return Result(
        status="ok",
        summary=summary,
        touches=tuple(touches),
        data={"databases": list(places)},
        not_exercised=("whether the server's pg_hba.conf lets PgBouncer's host in",)
        if changes and not args.absent
        else (),
    )


def _shared(args: PgBouncerRoleArgs, bouncer: Bouncer) -> Result | None:
    """Refuse what would shut another PgBouncer of the same server out: it has the same function."""
    for name, entry in beside(bouncer).items():
        same = entry.auth == bouncer.auth
        if args.absent or not same:
            here, there = f"pgbouncers.{bouncer.name}.auth", f"pgbouncers.{name}.auth"
            return Result(
                status="refused",
                summary=f"nothing was changed: PgBouncer {name} stands before the same server, and"
                " its logins need the function and a role as well",
                hint=f"take {name} out of the inventory first, or leave purge out"
                if args.absent
                else f"let {here} be the same role and password as {there}",
            )
    return None


def act(args: PgBouncerRoleArgs, ctx: StepContext) -> Drive[Result]:
    """Make what is missing; each database's part whole or not at all."""
    bouncer = bouncer_of(args, ctx.fleet)
    places = tuple(ctx.given["prepared"]["databases"])
    seen = yield from _look(bouncer, places)
    changes = _changes(args, bouncer, seen)
    try:
        for change in changes:
            yield from ask(change)
    except NotStarted as error:
        return Result(status="failed", summary=error.message, hint=error.hint or "")
    except (ConnectionLost, CommandFailed) as error:
        hint = "all of a database's part is there, or none of it: run it again to see"
        return Result(status="unknown", summary=error.message, hint=hint)
    done = "; ".join(change.sentence() for change in changes)
    touches = sorted({line for change in changes for line in change.footprint()})
    return Result(
        status="ok",
        summary=done or _nothing(args, bouncer, places),
        data={"changed": bool(changes), "databases": list(places), "role": bouncer.auth.user},
        touches=tuple(touches),
    )


def where(seen: Survey, bouncer: Bouncer) -> tuple[str, ...]:
    """Return the databases that hold the function: one, where PgBouncer can be told which."""
    if seen.version is not None and knows_auth_dbname(seen.version):
        return (bouncer.database.connect.dbname,)
    return seen.databases


def _look(bouncer: Bouncer, places: tuple[str, ...]) -> Drive[tuple[AuthSeen, ...]]:
    role, fits = bouncer.auth.user, None
    seen = []
    for dbname in places:
        rows = yield from ask(
            AdminLook(
                database=bouncer.entry.database,
                dbname=dbname,
                sql=LOOK,
                parameters=look_for(role),
            )
        )
        row = rows.rows[0]
        if fits is None and row["role"]:
            fits = yield from ask(
                PasswordFits(database=bouncer.entry.database, role=role, hole=_hole(bouncer))
            )
        seen.append(AuthSeen(dbname=dbname, row=row, password_fits=fits))
    return tuple(seen)


def _hole(bouncer: Bouncer) -> Hole:
    where_found = f"pgbouncers.{bouncer.name}.auth.password"
    return Hole(secret=bouncer.password("auth"), where=where_found)


def _everywhere(bouncer: Bouncer) -> Drive[tuple[str, ...]]:
    """Return every database that can be logged in to: the role cannot go while one needs it."""
    look = ReadSql(database=bouncer.entry.database, sql=_DATABASES)
    rows = (yield from ask(look)).rows
    return tuple(str(row["dbname"]) for row in rows)


def _changes(
    args: PgBouncerRoleArgs, bouncer: Bouncer, seen: tuple[AuthSeen, ...]
) -> list[AdminSql]:
    return list(_gone(bouncer, seen) if args.absent else _there(bouncer, seen))


def _there(bouncer: Bouncer, seen: tuple[AuthSeen, ...]) -> Iterator[AdminSql]:
    role, database, first = bouncer.auth.user, bouncer.entry.database, seen[0]
    exists = bool(first.row["role"])
    if not (exists and first.row["login"] and first.password_fits):
        said = f"give role {role} its password"
        if not exists:
            said = f"make role {role}, which may log in and nothing else, with the password"
        yield AdminSql(
            database=database,
            dbname=first.dbname,
            statements=(make_role(role, exists=exists),),
            shown=(f"{said} that pgbouncers.{bouncer.name}.auth.password leads to",),
            holes={VERIFIER: _hole(bouncer)},
        )
    function = (
        f"make function {SCHEMA}.{FUNCTION}, which tells {role} alone the SCRAM secret of a login"
        " that is no superuser"
    )
    for each in seen:
        if not each.function_sound:
            yield AdminSql(
                database=database,
                dbname=each.dbname,
                statements=make_function(role, schema_exists=bool(each.row["schema"])),
                shown=(function,),
            )


def _gone(bouncer: Bouncer, seen: tuple[AuthSeen, ...]) -> Iterator[AdminSql]:
    role, database = bouncer.auth.user, bouncer.entry.database
    for each in seen:
        if each.row["schema"]:
            yield AdminSql(
                database=database,
                dbname=each.dbname,
                statements=drop_function(),
                shown=(f"drop function {SCHEMA}.{FUNCTION} and its schema",),
            )
    if seen[0].row["role"]:
        yield AdminSql(
            database=database,
            dbname=seen[0].dbname,
            statements=(drop_role(role),),
            shown=(f"drop role {role}",),
        )


def _nothing(args: PgBouncerRoleArgs, bouncer: Bouncer, places: tuple[str, ...]) -> str:
    role = bouncer.auth.user
    if args.absent:
        return f"there is no role {role} and no function of it"
    return f"role {role} and its function in {', '.join(places)} are there already"


def _targets(args: PgBouncerRoleArgs, fleet: Fleet) -> tuple[str, ...]:
    return (bouncer_of(args, fleet).entry.database,)


def _lock(args: Any) -> str:
    return f"pgbouncer {args.pgbouncer}"


PGBOUNCER_ROLE = StepType(
    verb="pgbouncer_role",
    summary="make the role and the function that a PgBouncer's auth_query needs in PostgreSQL",
    args=PgBouncerRoleArgs,
    phases={"prepare": prepare, "act": act},
    changes=lambda _args: True,
    targets=_targets,
    # It looks first, and makes only what is missing.
    after_crash="probe",
    lock=_lock,
    default_timeout_s=120.0,
    undo="pgbouncer_retire with purge: true drops them",
    target_kind="database",
    repeatable=lambda _args: True,
)
