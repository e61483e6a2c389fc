"""`role_settings`: timeouts, keepalives and the connection limit of roles, by ALTER ROLE."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runbook.model.document import nearest, visible
from runbook.model.effects import ChangeSql, Drive, ask
from runbook.model.errors import ConnectionLost, DoorError
from runbook.model.fleet import Fleet
from runbook.model.inventory import Database
from runbook.model.plan import Result
from runbook.model.role_settings import (
    CONNECTION_LIMIT,
    LIMIT_EFFECT,
    NO_LIMIT,
    PARAMETERS,
    RESET,
    RoleSetting,
    identifier,
    same,
    statement,
)
from runbook.model.step import StepContext, StepType
from runbook.steps.role_look import RoleSeen, RolesSeen, look
from runbook.steps.role_settings_args import RoleSettingsArgs


class _No(Exception):
    """It cannot be done, and nothing was changed; the result says why."""

    def __init__(self, summary: str, hint: str = "") -> None:
        super().__init__(summary)
        self.result = Result(status="refused", summary=summary, hint=hint)


# ---- prepare -------------------------------------------------------------------------------


def prepare(args: RoleSettingsArgs, ctx: StepContext) -> Drive[Result]:
    """Look at what each role has, and show what would become of it, line by line."""
    seen = yield from look(args.database, args.roles, ctx.fleet)
    try:
        _check(args, seen, ctx.fleet)
        as_admin = _door(args, seen, ctx.fleet)
    except _No as no:
        return no.result
    lines = list(_lines(args, seen))
    touches = [_change(args, line, as_admin).footprint() for line in lines if line["changes"]]
    return Result(
        status="ok",
        summary=_would(lines),
        touches=tuple(sorted(frozenset().union(*touches))),
        data={
            "lines": lines,
            "as_admin": as_admin,
            "in_database": args.in_database,
            "sessions": _sessions(lines, seen),
        },
        not_exercised=("sessions that begin after it: only they have the new settings",)
        if touches
        else (),
    )


def _lines(args: RoleSettingsArgs, seen: RolesSeen) -> Iterator[dict[str, Any]]:
    """What each wish changes, as plain data; an empty `before` or `after` is None."""
    for wish in args.wishes:
        before = seen.own(wish.role, wish.name, args.in_database)
        undo = RoleSetting(role=wish.role, name=wish.name, value=before)
        yield {
            "role": wish.role,
            "name": wish.name,
            "before": before,
            "after": wish.value,
            "inherited": "" if wish.name == CONNECTION_LIMIT else seen.inherited(wish.name),
            "changes": not _as_wished(args, wish, before),
            "effect": _effect(wish),
            "hidden_in": [] if args.in_database else list(seen.overridden(wish.role, wish.name)),
            "statement": statement(wish, args.in_database),
            "undo": statement(undo, args.in_database),
        }


def _as_wished(args: RoleSettingsArgs, wish: RoleSetting, before: str | None) -> bool:
    """What is put back is put back to the letter; else `300000` is as good as `5min`."""
    if wish.key in args.restored:
        return before == wish.value
    return same(wish.name, before, wish.value)


def _effect(wish: RoleSetting) -> str:
    if wish.name == CONNECTION_LIMIT:
        return "" if wish.value == NO_LIMIT else LIMIT_EFFECT
    return PARAMETERS[wish.name].effect if wish.value is not None else ""


def _would(lines: list[dict[str, Any]]) -> str:
    changed = [line for line in lines if line["changes"]]
    if not changed:
        return "all of it is so already: nothing to do"
    roles = ", ".join(dict.fromkeys(visible(line["role"]) for line in changed))
    plural = "" if len(changed) == 1 else "s"
    return f"{len(changed)} setting{plural} of {roles} would change"


def _sessions(lines: Iterable[Mapping[str, Any]], seen: RolesSeen) -> dict[str, int]:
    """Sessions that keep what they have: a setting of a role is read when a session begins."""
    changed = dict.fromkeys(line["role"] for line in lines if line["changes"])
    return {role: seen.roles[role].sessions for role in changed}


# ---- what is refused -----------------------------------------------------------------------


def _check(args: RoleSettingsArgs, seen: RolesSeen, fleet: Fleet) -> None:
    if seen.in_recovery:
        raise _No(
            f"{args.database} is a standby: roles are altered on its primary",
            "name the primary; the standby then has the same settings",
        )
    if args.in_database is not None and args.in_database not in seen.databases:
        near = nearest(args.in_database, seen.databases)
        raise _No(
            f"{args.database} has no database {visible(args.in_database)!r}",
            f"did you mean {near!r}?" if near else f"it has: {', '.join(seen.databases[:8])}",
        )
    for role in args.roles:
        _check_role(args.database, seen.roles[role], seen, fleet.database(args.database))
    for wish in args.wishes:
        _check_wish(args, wish, seen)


def _check_role(database: str, role: RoleSeen, seen: RolesSeen, declared: Database) -> None:
    name = visible(role.name)
    if not role.exists:
        near = nearest(role.name, seen.names)
        known = ", ".join(seen.names[:8])
        raise _No(
            f"{database} has no role {name!r}",
            f"did you mean {near!r}?" if near else f"these may log in: {known}",
        )
    ours = {door.user for door in (declared.connect, declared.admin, declared.rescue) if door}
    if role.name in ours:
        raise _No(
            f"{name} is a role that runbook itself comes in by: it is not altered from here",
            "a wrong value would shut the door that mends it; ALTER ROLE by hand, if it must be",
        )
    if role.superuser:
        raise _No(
            f"{name} is a superuser: its sessions are the ones that mend things, and a connection"
            " limit does not hold for it",
            "give the application a role without SUPERUSER, and guard that one",
        )
    if role.replication:
        raise _No(
            f"{name} has REPLICATION: a standby or a backup may stand behind it",
            "give the application a role of its own, and guard that one",
        )
    if not role.login:
        raise _No(
            f"{name} cannot log in: settings are those of the role that logs in, never of a role"
            " that it is a member of",
            f"name the role that logs in; {name} itself needs nothing",
        )


def _check_wish(args: RoleSettingsArgs, wish: RoleSetting, seen: RolesSeen) -> None:
    if wish.name == CONNECTION_LIMIT:
        _check_limit(args, wish, seen)
    elif seen.major < PARAMETERS[wish.name].since:
        raise _No(
            f"{wish.name}: PostgreSQL {PARAMETERS[wish.name].since} and later know it, and"
            f" {args.database} is {seen.major}",
            f"leave {wish.name} out",
        )
    if wish.key in args.expectations:
        _check_expected(args, wish, seen)


def _check_limit(args: RoleSettingsArgs, wish: RoleSetting, seen: RolesSeen) -> None:
    limit, has = int(wish.value or NO_LIMIT), seen.roles[wish.role].sessions
    if 0 <= limit < has and wish.key not in args.restored:
        raise _No(
            f"{visible(wish.role)} has {has} sessions now: with a limit of {limit} none of its"
            " clients could connect from the next moment on",
            f"`runbook diagnose {args.database}` says whose they are; end what leaks or shrink the"
            " pools first",
        )


def _check_expected(args: RoleSettingsArgs, wish: RoleSetting, seen: RolesSeen) -> None:
    has = seen.own(wish.role, wish.name, args.in_database)
    expected = args.expectations[wish.key]
    if has not in {expected, wish.value}:
        raise _No(
            f"{visible(wish.key)} is {_said(has)}, and not {_said(expected)} as that run has left"
            " it: somebody has changed it since",
            f"by hand, if it shall be as it was: {statement(wish, args.in_database)};",
        )


def _said(value: str | None) -> str:
    return "not set" if value is None else visible(value)


def _door(args: RoleSettingsArgs, seen: RolesSeen, fleet: Fleet) -> bool:
    """Whether a superuser's door is needed: our own role is taken where it may."""
    lacking = [role for role in args.roles if not seen.roles[role].altered]
    if not lacking:
        return False
    declared = fleet.database(args.database)
    if declared.admin is not None or declared.local is not None:
        return True
    ours = declared.connect.user
    raise _No(
        f"{visible(ours)} may not alter {', '.join(visible(role) for role in lacking)}, and"
        f" databases.{args.database} declares neither admin nor local",
        _grants(ours, lacking, seen),
    )


def _grants(ours: str, roles: list[str], seen: RolesSeen) -> str:
    """The statements that give our role the right, as this version of the server has it."""
    statements = []
    if not seen.roles[roles[0]].creates:
        statements.append(f"ALTER ROLE {identifier(ours)} CREATEROLE;")
    if seen.major >= 16:
        statements += [
            f"GRANT {identifier(role)} TO {identifier(ours)}"
            " WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;"
            for role in roles
        ]
    return " ".join(statements)


# ---- act -----------------------------------------------------------------------------------


def act(args: RoleSettingsArgs, ctx: StepContext) -> Drive[Result]:
    """Make one statement a line, where the role still is as it was shown; then look again."""
    prepared = ctx.given.get("prepared", {})
    lines = [line for line in prepared.get("lines", ()) if line["changes"]]
    if not lines:
        return Result(status="ok", summary=_would([]), data={"changed": []})
    seen = yield from look(args.database, args.roles, ctx.fleet)
    moved = [line for line in lines if not _still(args, line, seen)]
    if moved:
        return _moved_on(args, moved[0], seen)
    failure: DoorError | None = None
    touched: list[str] = []
    for line in lines:
        if _is(args, line, seen, "after"):
            continue  # a process that ended in the middle had come so far
        change = _change(args, line, prepared["as_admin"])
        touched += sorted(change.footprint())
        try:
            yield from ask(change)
        except DoorError as error:
            failure = error
            break
    try:
        seen = yield from look(args.database, args.roles, ctx.fleet)
    except DoorError as error:
        return _unseen(lines, touched, failure or error)
    return _came_to(args, lines, seen, touched, failure)


def _still(args: RoleSettingsArgs, line: Mapping[str, Any], seen: RolesSeen) -> bool:
    return _is(args, line, seen, "before") or _is(args, line, seen, "after")


def _is(args: RoleSettingsArgs, line: Mapping[str, Any], seen: RolesSeen, when: str) -> bool:
    role = seen.roles.get(line["role"])
    if role is None or not role.exists:
        return False
    has: str | None = seen.own(line["role"], line["name"], args.in_database)
    wanted: str | None = line[when]
    return has == wanted


def _change(args: RoleSettingsArgs, line: Mapping[str, Any], as_admin: bool) -> ChangeSql:
    return ChangeSql(
        database=args.database, sql=line["statement"], timeout_s=10.0, as_admin=as_admin
    )


def _moved_on(args: RoleSettingsArgs, line: Mapping[str, Any], seen: RolesSeen) -> Result:
    role = seen.roles.get(line["role"])
    has = (
        _said(seen.own(line["role"], line["name"], args.in_database))
        if role is not None and role.exists
        else "gone with its role"
    )
    return Result(
        status="failed",
        summary=f"nothing was changed: {visible(line['role'])}.{line['name']} was"
        f" {_said(line['before'])} when it was shown, and is {has}",
        hint="somebody else has changed it meanwhile: run this again",
    )


def _unseen(lines: list[dict[str, Any]], touched: list[str], error: DoorError) -> Result:
    return Result(
        status="unknown",
        summary=f"what the roles have now could not be looked at: {error.message}",
        hint=error.hint or "",
        data={"changed": lines},
        touches=tuple(touched),
        by_hand=tuple(_by_hand(lines)),
    )


def _came_to(
    args: RoleSettingsArgs,
    lines: list[dict[str, Any]],
    seen: RolesSeen,
    touched: list[str],
    failure: DoorError | None,
) -> Result:
    changed = [line for line in lines if _is(args, line, seen, "after")]
    missing = [line for line in lines if line not in changed]
    sessions = _sessions(changed, seen)
    data: dict[str, Any] = {
        "changed": changed,
        "in_database": args.in_database,
        "sessions": sessions,
    }
    by_hand = tuple(_by_hand(changed))
    if not missing:
        summary = f"{_did(changed)}; {_who_keeps(data['sessions'])}"
        return Result(
            status="ok", summary=summary, data=data, touches=tuple(touched), by_hand=by_hand
        )
    said = failure.message if failure else "the server has another value than it was given"
    hint = (failure.hint or "") if failure else "look who else alters these roles"
    return Result(
        # What was cut off may still wait for its lock, and come after this look.
        status="unknown" if isinstance(failure, ConnectionLost) else "failed",
        summary=f"{_did(changed)}; not {_names(missing)}: {said}",
        hint=hint,
        data=data,
        touches=tuple(touched),
        by_hand=by_hand,
    )


def _did(changed: list[dict[str, Any]]) -> str:
    return f"set {_names(changed)}" if changed else "nothing was changed"


def _names(lines: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(
        f"{visible(line['role'])}.{line['name']} = {_told(line['after'])}" for line in lines
    )


def _told(value: str | None) -> str:
    return RESET if value is None else value


def _who_keeps(sessions: Mapping[str, int]) -> str:
    told = [f"{count} of {visible(role)}" for role, count in sessions.items() if count]
    if not told:
        return "no session of theirs is open, so every one has it"
    return (
        f"new sessions have it; those that are open ({', '.join(told)}) keep what they have until"
        " their pool replaces them, or a rolling restart does"
    )


def _by_hand(lines: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield from (f"{line['undo']};  -- undoes it" for line in lines)


# ---- the step type -------------------------------------------------------------------------


def _targets(args: RoleSettingsArgs, fleet: Fleet) -> tuple[str, ...]:
    fleet.database(args.database)
    return (args.database,)


ROLE_SETTINGS = StepType(
    verb="role_settings",
    summary="Set timeouts, keepalives and connection limits of roles, by ALTER ROLE.",
    args=RoleSettingsArgs,
    phases={"prepare": prepare, "act": act},
    changes=lambda _args: True,
    targets=_targets,
    # The catalogue itself says what was done.
    after_crash="probe",
    default_timeout_s=120.0,
    undo="role_settings with restore, or the printed ALTER ROLE; `runbook pool guard --undo RUN`",
    lock=lambda args: f"database {args.database}",
    target_kind="database",
    # It looks first, and alters nothing that is so already.
    repeatable=lambda _args: True,
)
