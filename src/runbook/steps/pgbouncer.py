"""`pgbouncer`: pause, resume, reload, reconnect, kill_client, disable, enable, by its console."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from runbook.model.effects import Drive, TellPgBouncer
from runbook.model.errors import DoorError, Unreachable
from runbook.model.fleet import Fleet
from runbook.model.inventory import Closed, Name
from runbook.model.plan import Crashed, Result, Status
from runbook.model.step import StepContext, StepType
from runbook.model.units import Duration, format_duration
from runbook.steps.pgbouncer_console import Seen, by_hand, look, version_of
from runbook.steps.pgbouncer_renewals import (
    RECONNECT_WAIT_S,
    client_of,
    client_words,
    kill_client,
    reconnect,
    reload,
)
from runbook.steps.pgbouncer_switches import (
    DISABLED,
    PAUSE_WAIT_S,
    PAUSED,
    Subject,
    settle,
    switch_off,
    switch_on,
)

Action = Literal["pause", "resume", "reload", "reconnect", "kill_client", "disable", "enable"]
DatabaseName = Annotated[
    str, StringConstraints(min_length=1, max_length=63, pattern=r"^[^\x00-\x1f\x7f]+$")
]
ClientId = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,20}$")]

#: Actions that may say for how long, what, whom.
_WITH_WAIT = frozenset({"pause", "reconnect"})
_WITH_DATABASE = frozenset({"pause", "resume", "reconnect", "disable", "enable"})
#: KILL_CLIENT came with it.
_KILL_CLIENT_SINCE = (1, 24)
_SWITCHES = {"pause": PAUSED, "resume": PAUSED, "disable": DISABLED, "enable": DISABLED}


class PgbouncerArgs(Closed):
    """One command to one PgBouncer's admin console."""

    pgbouncer: Name = Field(description="the inventory's name")
    action: Action
    database: DatabaseName | None = Field(
        None,
        description="as PgBouncer calls it; all of them, if left out (not for disable and enable)",
    )
    client: ClientId | None = Field(None, description="kill_client: the `id` of SHOW CLIENTS")
    wait: Duration | None = Field(
        None,
        description="pause, reconnect: how long clients may keep their server connections;"
        " 10s and 60s, if left out",
    )
    expect: dict[str, str] = Field(
        {}, description="reload: settings as SHOW CONFIG has to tell them afterwards"
    )

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if (self.client is None) == (self.action == "kill_client"):
            raise ValueError("kill_client needs client, and nothing else takes it")
        if self.action in {"disable", "enable"} and self.database is None:
            raise ValueError(f"{self.action} needs a database")
        if self.database is not None and self.action not in _WITH_DATABASE:
            raise ValueError(f"{self.action} takes no database")
        if self.wait is not None and self.action not in _WITH_WAIT:
            raise ValueError(f"{self.action} takes no wait")
        if self.expect and self.action != "reload":
            raise ValueError(f"{self.action} takes no expect")
        return self

    def subject(self, fleet: Fleet) -> Subject:
        """Return what is switched off or on."""
        return Subject(
            fleet=fleet,
            pgbouncer=self.pgbouncer,
            database=self.database or "",
            switch=_SWITCHES[self.action],
        )

    def changes(self, fleet: Fleet) -> tuple[TellPgBouncer, ...]:
        """Return everything that it may come to: what is switched off is switched on again."""
        if self.action in {"pause", "disable"}:
            subject = self.subject(fleet)
            return subject.off(), subject.on()
        if self.action in {"resume", "enable"}:
            return (self.subject(fleet).on(),)
        if self.action == "reload":
            return (TellPgBouncer(pgbouncer=self.pgbouncer, command="RELOAD"),)
        if self.action == "reconnect":
            of = self.database or ""
            return (TellPgBouncer(pgbouncer=self.pgbouncer, command="RECONNECT", subject=of),)
        killed = TellPgBouncer(
            pgbouncer=self.pgbouncer, command="KILL_CLIENT", subject=self.client or ""
        )
        return (killed,)


# ---- prepare -------------------------------------------------------------------------------


class _Unfit(Exception):
    """It may not be done; why, and what to do about it."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.why, self.hint = why, hint


def prepare(args: PgbouncerArgs, ctx: StepContext) -> Drive[Result]:
    """Look at the console, and prove that it would take the command from us."""
    more = ("clients",) if args.action == "kill_client" else ()
    try:
        seen = yield from look(args.pgbouncer, *more)
    except DoorError as error:
        status: Status = "unreachable" if isinstance(error, Unreachable) else "refused"
        return Result(status=status, summary=error.message, hint=error.hint or "")
    try:
        _allowed(args, seen, ctx.fleet)
        client = _fit(args, seen, ctx.fleet)
    except _Unfit as unfit:
        return Result(status="refused", summary=unfit.why, hint=unfit.hint)
    changes = args.changes(ctx.fleet)
    touches = sorted({line for change in changes for line in change.footprint()})
    whom = f" ({client_words(client)})" if client else ""
    warnings = tuple(_warnings(args, seen))
    return Result(
        status="ok",
        summary="; ".join((changes[0].sentence() + whom, *warnings)),
        data={"client": client, "warnings": list(warnings), "version": seen.version},
        touches=tuple(touches),
        not_exercised=(f"the {changes[0].command} itself", _AFTER[args.action]),
        by_hand=(by_hand(ctx.fleet, args.pgbouncer, "SHOW DATABASES"),),
    )


_AFTER: dict[Action, str] = {
    "pause": "whether its clients let go of their server connections in time",
    "resume": "whether it is paused by then",
    "reload": "whether its files are as they should be: what they say is read then",
    "reconnect": "how long its clients keep the old server connections",
    "kill_client": "whether the client is still there then",
    "disable": "what becomes of new clients meanwhile: they are refused",
    "enable": "whether it is disabled by then",
}


def _allowed(args: PgbouncerArgs, seen: Seen, fleet: Fleet) -> None:
    """Who is in stats_users alone is told "admin access needed" only when it is too late."""
    user = fleet.pgbouncer(args.pgbouncer).admin.user
    told = seen.config.get("admin_users")
    if told is None:
        raise _Unfit(
            f"PgBouncer {args.pgbouncer} does not tell its admin_users"
            f" ({seen.failed.get('config', 'SHOW CONFIG has none')})",
            f"run it again; or name one of its admin_users in pgbouncers.{args.pgbouncer}.admin",
        )
    if user not in {name.strip() for name in told.split(",")}:
        raise _Unfit(
            f"PgBouncer {args.pgbouncer} lets {user!r} look, and change nothing: it is not in its"
            " admin_users",
            "add it to admin_users in PgBouncer's configuration and RELOAD, or name another user in"
            f" pgbouncers.{args.pgbouncer}.admin",
        )


def _fit(args: PgbouncerArgs, seen: Seen, fleet: Fleet) -> dict[str, Any] | None:
    """Return whom a kill_client is about.

    Raises:
        _Unfit: when the command would not be carried out, or do what is not wanted.
    """
    if args.action == "kill_client":
        return _client(args, seen)
    known = seen.databases
    if args.database and args.action not in {"resume", "enable"} and args.database not in known:
        names = ", ".join(sorted(known)) or "none"
        raise _Unfit(
            f"PgBouncer {args.pgbouncer} has no database {args.database!r}",
            f"it has: {names}; one that `*` stands for is there once a client has come",
        )
    if args.action in {"pause", "disable"}:
        _not_yet(args, seen, fleet)
    if args.action == "pause" and args.wait is None and seen.in_session_mode(args.database or ""):
        raise _Unfit(
            f"{args.subject(fleet).name} pools by session: a PAUSE waits until every client has"
            " left, and new ones wait meanwhile",
            "say for how long that may be: wait: 30s; then it is resumed",
        )
    return None


def _not_yet(args: PgbouncerArgs, seen: Seen, fleet: Fleet) -> None:
    subject = args.subject(fleet)
    state = subject.switch.state
    if seen.is_(state, subject.database) or (state == "paused" and seen.is_(state, "")):
        raise _Unfit(
            f"{subject.name} is {state} already: somebody else is at work there",
            f"when that is over: {subject.by_hand()}",
        )


def _client(args: PgbouncerArgs, seen: Seen) -> dict[str, Any]:
    wanted = args.client or ""
    if version_of(seen.version) < _KILL_CLIENT_SINCE:
        raise _Unfit(
            f"PgBouncer {seen.version} cannot cut off one client: KILL_CLIENT came with 1.24",
            "restart the client's own service, or end its statement in PostgreSQL; KILL, which"
            " cuts off all of them, is not said here",
        )
    client = client_of(seen, wanted)
    if client is None:
        raise _Unfit(
            f"PgBouncer {args.pgbouncer} has no client {wanted}",
            "the `id` of SHOW CLIENTS is asked for",
        )
    if client["database"] == "pgbouncer":
        raise _Unfit(f"client {wanted} is a console, and somebody's who is at work there")
    return client


def _warnings(args: PgbouncerArgs, seen: Seen) -> list[str]:
    if args.action != "pause":
        return []
    said = []
    patience = seen.config.get("query_wait_timeout", "")
    patience_s = float(patience) if patience.isdigit() else 0.0
    wait_s = PAUSE_WAIT_S if args.wait is None else args.wait
    if 0 < patience_s <= wait_s:
        said.append(
            f"clients that wait for longer than query_wait_timeout ({format_duration(patience_s)})"
            " are told an error"
        )
    if seen.in_session_mode(args.database or ""):
        said.append(
            f"it pools by session: every client has {format_duration(wait_s)} to leave, then it is"
            " resumed"
        )
    return said


# ---- act -----------------------------------------------------------------------------------


def act(args: PgbouncerArgs, ctx: StepContext) -> Drive[Result]:
    """Say it, and see that it came about."""
    crashed = Crashed(**ctx.given["crashed"]) if ctx.given.get("crashed") else None
    database = args.database or ""
    match args.action:
        case "pause" | "disable":
            wait_s = PAUSE_WAIT_S if args.wait is None else args.wait
            return (yield from switch_off(args.subject(ctx.fleet), wait_s, crashed))
        case "resume" | "enable":
            return (yield from switch_on(args.subject(ctx.fleet)))
        case "reload":
            return (yield from reload(ctx.fleet, args.pgbouncer, args.expect))
        case "reconnect":
            wait_s = RECONNECT_WAIT_S if args.wait is None else args.wait
            return (yield from reconnect(args.pgbouncer, database, wait_s, crashed))
    shown = ctx.given["prepared"]["client"]
    return (yield from kill_client(args.pgbouncer, args.client or "", shown))


def _settle(args: PgbouncerArgs, ctx: StepContext) -> Drive[Result]:
    return (yield from settle(args.subject(ctx.fleet), ctx.given["owed"]))


def _targets(args: PgbouncerArgs, fleet: Fleet) -> tuple[str, ...]:
    fleet.pgbouncer(args.pgbouncer)  # an unknown name is an error, with the nearest one
    return (args.pgbouncer,)


PGBOUNCER = StepType(
    verb="pgbouncer",
    summary="pause, resume, reload, reconnect a PgBouncer, or cut off one client, by its console",
    args=PgbouncerArgs,
    phases={"prepare": prepare, "act": act, "settle": _settle},
    changes=lambda _args: True,
    targets=_targets,
    after_crash="probe",
    lock=lambda args: f"pgbouncer {args.pgbouncer}",
    default_timeout_s=600.0,
    undo="resume undoes a pause, enable a disable: the run owes it; the others have no inverse",
)
