"""`pgbouncer_retire`: stop a PgBouncer that nobody uses any more; its files stay, or go."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from runbook.model.document import visible
from runbook.model.effects import (
    AskPgBouncer,
    Change,
    ConsoleAnswers,
    Drive,
    Now,
    Say,
    Sleep,
    ask,
)
from runbook.model.errors import CommandFailed, ConnectionLost, DoorError, NotStarted
from runbook.model.fleet import Fleet, some_of
from runbook.model.inventory import Service
from runbook.model.pgbouncer_config import whose
from runbook.model.pgbouncer_host import PACKAGE, HostSeen
from runbook.model.plan import Result
from runbook.model.step import StepContext, StepType
from runbook.model.systemd import SYSTEMCTL
from runbook.model.units import Duration
from runbook.steps.bouncer_host import CannotSetUp, command, look_at, made
from runbook.steps.bouncer_led import LedHere, led_here
from runbook.steps.bouncer_subject import Bouncer, BouncerArgs, bouncer_of

_TICK_S = 0.5
_STOP_S = 120.0
_PURGE_S = 300.0


class PgBouncerRetireArgs(BouncerArgs):
    """Which PgBouncer, and what becomes of its files."""

    purge: bool = Field(False, description="take its package, its files and its drop-in away, too")
    within: Duration = Field(30.0, description="how long the last clients may take to leave")


def prepare(args: PgBouncerRetireArgs, ctx: StepContext) -> Drive[Result]:
    """Look at the unit and whose it is; show what is stopped, and what goes."""
    bouncer = bouncer_of(args, ctx.fleet, auth=False)
    try:
        seen = yield from look_at(bouncer)
    except CannotSetUp as no:
        return no.result
    if seen.config.kind == "file" and whose(seen.text) == "foreign" and not seen.pristine:
        return Result(
            status="refused",
            summary=f"{bouncer.entry.config} on {bouncer.host.name} was not written by runbook",
            hint="what somebody else has set up is stopped by them: nothing was changed",
        )
    if _runs(seen) and seen.config.kind != "file":
        return Result(
            status="refused",
            summary=f"{bouncer.entry.unit} runs on {bouncer.host.name}, and there is no"
            f" file {bouncer.entry.config}: whose it is cannot be told",
            hint=f"let pgbouncers.{bouncer.name}.config be the file that the unit starts with"
            f" (systemctl cat {bouncer.entry.unit}): nothing was changed",
        )
    neighbours = _neighbours(bouncer)
    if args.purge and neighbours:
        return Result(
            status="refused",
            summary=f"PgBouncer {', '.join(neighbours)} is on {bouncer.host.name} as well, and"
            f" needs the package {PACKAGE}",
            hint="leave purge out: nothing was changed",
        )
    changes = _changes(args, bouncer, seen)
    touches = sorted({line for change in changes for line in change.footprint()})
    return Result(
        status="ok",
        summary="; ".join(change.sentence() for change in changes) or _nothing(bouncer),
        touches=tuple(touches),
        not_exercised=(
            "whether a connection string still leads to it, and whether its last client leaves",
        )
        if seen.active
        else (),
    )


def act(args: PgBouncerRetireArgs, ctx: StepContext) -> Drive[Result]:
    """See the last client leave; then stop it for good."""
    bouncer = bouncer_of(args, ctx.fleet, auth=False)
    # A rehearsal has led nobody back, so that who is there now says nothing of who will be.
    led_back = not ctx.rehearsal
    done: list[str] = []
    try:
        seen = yield from look_at(bouncer)
        if _runs(seen) and led_back:
            led = yield from led_here(bouncer, _users(bouncer))
            if led.hosts or led.unseen:
                return _still_led(bouncer, led)
        if seen.active and led_back:
            left = yield from _await_empty(bouncer, args.within)
            if left:
                return _still_used(bouncer, left)
        for change in _changes(args, bouncer, seen):
            yield from made(change, done, "retiring")
    except CannotSetUp as no:
        return Result(status="failed", summary=no.result.summary, hint=no.result.hint)
    except NotStarted as error:
        return Result(status="failed", summary=error.message, hint=error.hint or "")
    except (ConnectionLost, CommandFailed) as error:
        return Result(status="unknown", summary=error.message, hint=f"run it again. {error.hint}")
    return Result(
        status="ok",
        summary=f"no client was left; {bouncer.entry.unit} is stopped and disabled"
        if done
        else _nothing(bouncer),
        data={"done": done},
    )


def _neighbours(bouncer: Bouncer) -> list[str]:
    every = bouncer.fleet.inventory.pgbouncers
    here = bouncer.entry.host
    return [name for name, e in every.items() if name != bouncer.name and e.host == here]


def _runs(seen: HostSeen) -> bool:
    return seen.active or seen.said.get("ActiveState") == "activating"


def _nothing(bouncer: Bouncer) -> str:
    return f"{bouncer.entry.unit} on {bouncer.host.name} does not run: nothing to do"


def _changes(args: PgBouncerRetireArgs, bouncer: Bouncer, seen: HostSeen) -> list[Change[Any]]:
    unit = bouncer.entry.unit
    changes: list[Change[Any]] = []
    if _runs(seen):
        changes.append(command(bouncer, SYSTEMCTL, "stop", unit, timeout_s=_STOP_S))
    if seen.enabled:
        changes.append(command(bouncer, SYSTEMCTL, "disable", "--quiet", unit))
    if args.purge:
        changes += _purge(bouncer, seen)
    return changes


def _purge(bouncer: Bouncer, seen: HostSeen) -> list[Change[Any]]:
    changes: list[Change[Any]] = []
    if seen.installed and seen.said.get("package", "").startswith("ii"):
        argv = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "purge", "--yes", "-q", PACKAGE)
        changes.append(command(bouncer, *argv, timeout_s=_PURGE_S))
    files = {bouncer.entry.config: seen.config, bouncer.auth_file: seen.auth}
    files[bouncer.dropin] = seen.dropin
    there = [path for path, file in files.items() if file.kind == "file"]
    if there:
        changes.append(command(bouncer, "rm", "-f", "--", *there))
        changes.append(command(bouncer, SYSTEMCTL, "daemon-reload"))
    return changes


def _await_empty(bouncer: Bouncer, within: float) -> Drive[list[str]]:
    """Wait for the last client to leave; return who is still there when the time is over."""
    deadline = (yield from ask(Now())) + within
    told = False
    while True:
        try:
            console: ConsoleAnswers = yield from ask(
                AskPgBouncer(pgbouncer=bouncer.name, shows=("clients",))
            )
        except DoorError as error:
            raise CannotSetUp(
                f"whether anybody still uses it cannot be seen: {error.message}", error.hint or ""
            ) from None
        left = [r for r in console.rows.get("clients", ()) if r.get("database") != "pgbouncer"]
        if not left:
            return []
        if (yield from ask(Now())) >= deadline:
            return [_client(row) for row in left]
        if not told:
            yield from ask(Say(stage="draining", text=f"{len(left)} clients are still there"))
            told = True
        yield from ask(Sleep(seconds=_TICK_S))


def _client(row: dict[str, Any]) -> str:
    name = visible(str(row.get("application_name") or "no name"))
    return f"{visible(str(row.get('user')))} ({name}) from {visible(str(row.get('addr')))}"


def _users(bouncer: Bouncer) -> dict[str, Service]:
    """Return every service that may be led to it, also those that are not meant this time."""
    databases = bouncer.fleet.same_server(bouncer.entry.database)
    every = bouncer.fleet.inventory.services
    return {name: service for name, service in every.items() if service.database in databases}


def _still_led(bouncer: Bouncer, led: LedHere) -> Result:
    """Nobody may be there at this moment: the next connection of such a host would fail."""
    told = [f"{name} on {some_of(hosts)}" for name, hosts in led.hosts.items()]
    if told:
        services = " ".join(f"--service {name}" for name in led.hosts)
        hint = f"`runbook pgbouncer remove {bouncer.name} {services}` leads them back, with --run"
        hint += " RUN as they were before it, with -p run= to the server behind it"
        summary = f"connection strings still lead to PgBouncer {bouncer.name}: {'; '.join(told)}"
    else:
        unseen = [f"{where}: {why}" for where, why in led.unseen.items()]
        summary = f"whether they still lead to PgBouncer {bouncer.name} cannot be seen: "
        summary += "; ".join(unseen[:4])
        hint = "make them readable, or take hosts that are gone out of the inventory"
    return Result(
        status="failed",
        summary=summary,
        hint=f"it was left running. {hint}; then run this again",
        data={"led": {name: list(hosts) for name, hosts in led.hosts.items()}},
    )


def _still_used(bouncer: Bouncer, left: list[str]) -> Result:
    who = "; ".join(list(dict.fromkeys(left))[:4])
    return Result(
        status="failed",
        summary=f"{len(left)} clients still use PgBouncer {bouncer.name}: {who}",
        hint="it was left running. Lead them back first, or wait for them, and run this again",
        data={"clients": len(left)},
    )


def _targets(args: PgBouncerRetireArgs, fleet: Fleet) -> tuple[str, ...]:
    return (bouncer_of(args, fleet, auth=False).host.name,)


PGBOUNCER_RETIRE = StepType(
    verb="pgbouncer_retire",
    summary="stop and disable a PgBouncer once its last client has left; purge it, if wanted",
    args=PgBouncerRetireArgs,
    phases={"prepare": prepare, "act": act},
    changes=lambda _args: True,
    targets=_targets,
    # It looks first, and does only what is left to do.
    after_crash="probe",
    lock=lambda args: f"pgbouncer {args.pgbouncer}",
    default_timeout_s=900.0,
    undo="pgbouncer_setup starts it again; what was purged it makes anew",
    target_kind="host",
    repeatable=lambda _args: True,
)
