"""`pgbouncer_setup`: a PgBouncer on its host, from package to answering console."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from runbook.model.document import visible
from runbook.model.effects import (
    AskPgBouncer,
    Change,
    ChangeCommand,
    Drive,
    Now,
    PutFile,
    ReadCommand,
    RestartUnit,
    Say,
    ShowUnit,
    Sleep,
    ask,
)
from runbook.model.errors import CommandFailed, ConnectionLost, DoorError, NotStarted
from runbook.model.fleet import Fleet
from runbook.model.host_files import sha256
from runbook.model.pgbouncer_config import (
    Mode,
    Wish,
    auth_file,
    config_text,
    databases_in,
    dropin_text,
    listen_port_in,
    mode_in,
    whose,
    written_for,
)
from runbook.model.pgbouncer_host import PACKAGE, HostSeen
from runbook.model.plan import Result
from runbook.model.pooling_fitness import PoolingFitness
from runbook.model.setup_effects import FilledDigest, Hole, PutSecretFile
from runbook.model.step import StepContext, StepType
from runbook.model.systemd import SYSTEMCTL
from runbook.steps.bouncer_host import (
    CannotSetUp,
    command,
    look_at,
    made,
    refuse,
    refuse_theirs,
)
from runbook.steps.bouncer_led import led_here
from runbook.steps.bouncer_subject import (
    Bouncer,
    BouncerArgs,
    Survey,
    bouncer_of,
    survey,
    words,
)
from runbook.steps.bouncer_wish import frozen, thawed, wish_of
from runbook.steps.file_args import backup_of
from runbook.steps.file_diff import shown_diff
from runbook.steps.service_manager import on_host

_LOOK_S = 60.0
_INSTALL_S = 600.0
#: PgBouncer waits for running statements before it ends; systemd's own limit is 90 s.
_RESTART_S = 120.0
#: How long a started PgBouncer may take until its console answers.
_ANSWERS_WITHIN_S = 15.0
#: It must run for so long as the same process: a wrong line ends it within milliseconds.
_STABLE_S = 1.0
_TICK_S = 0.25
_MODE = "0640"
_INSTALL = (
    "env",
    "DEBIAN_FRONTEND=noninteractive",
    "apt-get",
    "install",
    "--yes",
    "-q",
    "--no-install-recommends",
    PACKAGE,
)


class PgBouncerSetupArgs(BouncerArgs):
    """Which PgBouncer, and how it pools."""

    mode: Literal["session", "transaction", "statement"] | None = Field(
        None,
        description="how it pools; the inventory's pool.mode, when left out, else what is proposed"
        " from what is seen",
    )
    overwrite: bool = Field(
        False,
        description="replace a configuration that was changed by hand, or is somebody else's; it is"
        " kept beside the new one",
    )


# ---- prepare -------------------------------------------------------------------------------


def prepare(args: PgBouncerSetupArgs, ctx: StepContext) -> Drive[Result]:
    """Look at the host, the server's limits and what is there; show every change."""
    bouncer = bouncer_of(args, ctx.fleet)
    try:
        told = yield from survey(args, bouncer)
        seen = yield from look_at(bouncer)
        refuse(bouncer, seen)
        told = _kept(args, told, seen)
        told = yield from _inside(bouncer, told, seen)
        fitness = yield from _fitness(args, bouncer, seen, ctx)
        wish = wish_of(bouncer, _mode(args, bouncer, seen) or fitness.mode, told, seen)
        text = config_text(wish)
        if not args.overwrite:
            refuse_theirs(bouncer, seen, text)
        yield from _refuse_to_leave(bouncer, wish, seen)
    except CannotSetUp as no:
        return no.result
    wanted = yield from _wanted(bouncer, wish, seen)
    changes = [*_package(bouncer, seen), *wanted.changes(ctx, fresh=not seen.installed)]
    touches = sorted({line for change in changes for line in change.footprint()})
    diff = shown_diff(bouncer.entry.config, bouncer.entry.config, seen.text, text)
    return Result(
        status="ok",
        summary=_summary(bouncer, wish, seen, changes),
        touches=tuple(touches),
        data={
            "wish": frozen(wish),
            "installed": seen.installed,
            "because": {"pool": wish.sizes.because_pool, "clients": wish.sizes.because_clients},
            "databases": list(wish.databases),
            "databases_why": told.why,
            "diff": "\n".join(diff),
            "mode": {"chosen": wish.mode, "proposed": fitness.mode, "verdict": fitness.verdict},
            "breaks": _breaks(wish, fitness),
            "unknown": list(fitness.unknown),
            "warnings": list(wish.sizes.warnings) + _clients_warning(bouncer, seen, changes),
        },
        not_exercised=(
            "the installation, and the start with this configuration",
            "whether PgBouncer can log in to PostgreSQL from its host",
        )
        if changes
        else (),
    )


def _refuse_to_leave(bouncer: Bouncer, wish: Wish, seen: HostSeen) -> Drive[None]:
    """A port that app servers are led to is not left: all of them would be cut off at once."""
    now = listen_port_in(seen.text)
    if not seen.active or now is None or now == wish.listen_port:
        return
    led = yield from led_here(bouncer, bouncer.fleet.services_of(bouncer.entry.database), port=now)
    who = [f"{name} on {', '.join(hosts)}" for name, hosts in led.hosts.items()]
    who += [f"{seat} ({why})" for seat, why in led.unseen.items()]
    if who:
        raise CannotSetUp(
            f"PgBouncer {bouncer.name} listens on port {now}, and would on {wish.listen_port}:"
            f" it is used at the old one, or may be, by {'; '.join(who)}",
            f"give the old port back its place in the inventory and lead them away first: `runbook"
            f" pgbouncer remove {bouncer.name}`; or declare a second PgBouncer with the new port",
        )


def _kept(args: PgBouncerSetupArgs, told: Survey, seen: HostSeen) -> Survey:
    """Keep what is led through it already: who is idle, or not meant this time, has no session."""
    if words(args.databases) or whose(seen.text) != "ours":
        return told
    more = tuple(name for name in databases_in(seen.text) if name not in told.databases)
    if not more:
        return told
    why = f"{told.why}; and what is led through it already"
    return replace(told, databases=tuple(sorted((*told.databases, *more))), why=why)


def _inside(bouncer: Bouncer, told: Survey, seen: HostSeen) -> Drive[Survey]:
    """Tell which of the other services are led through it already: they are in its pool."""
    every = bouncer.fleet.services_of(bouncer.entry.database)
    others = {name: each for name, each in every.items() if name not in bouncer.services}
    if not others or written_for(seen.text) != bouncer.name:
        return told
    led = (yield from led_here(bouncer, others)).hosts
    whole = {n for n, h in led.items() if set(h) == set(bouncer.fleet.whole(others[n].hosts))}
    return replace(told, inside=frozenset(whole), partly=frozenset(led) - whole)


def _fitness(
    args: PgBouncerSetupArgs, bouncer: Bouncer, seen: HostSeen, ctx: StepContext
) -> Drive[PoolingFitness]:
    """Ask what pooling by transaction would break, of the services that are meant."""
    alone = next(iter(bouncer.services)) if len(words(args.services)) == 1 else None
    version = seen.version
    return ctx.judge.pooling_fitness(
        bouncer.entry.database,
        ctx.fleet,
        service=alone,
        pgbouncer_version=".".join(map(str, version)) if version else None,
    )


def _mode(args: PgBouncerSetupArgs, bouncer: Bouncer, seen: HostSeen) -> Mode | None:
    """Return the mode that somebody has chosen: now, in the inventory, or when it was set up."""
    chosen = args.mode or bouncer.entry.pool.mode
    return chosen or (mode_in(seen.text) if whose(seen.text) == "ours" else None)


def _breaks(wish: Wish, fitness: PoolingFitness) -> list[str]:
    """Return what the mode would break, each with its evidence and what to do about it."""
    if wish.mode == "session":
        return []
    return [
        f"{each.breaks} Seen: {each.count} {each.unit} in {each.seen_in}"
        + (f", as in {each.sample}" if each.sample else "")
        + f". {each.remedy}"
        for each in fitness.evidence
        if each.decides
    ]


def _clients_warning(bouncer: Bouncer, seen: HostSeen, changes: list[Change[Any]]) -> list[str]:
    if seen.active and changes:
        return [f"{bouncer.entry.unit} runs, and its clients are cut off by its restart"]
    return []


def _summary(bouncer: Bouncer, wish: Wish, seen: HostSeen, changes: list[Change[Any]]) -> str:
    version = ".".join(map(str, wish.version))
    if not changes:
        return f"PgBouncer {version} runs on {bouncer.host.name} as it shall: nothing to do"
    what = "set up" if seen.installed else f"install {PACKAGE} {version} and set it up"
    names = ", ".join(wish.databases)
    return (
        f"{what}: port {wish.listen_port}, {wish.mode} pooling of {names},"
        f" {wish.sizes.pool} server connections for each database and role,"
        f" {wish.sizes.per_database} at most, {wish.sizes.clients} clients"
    )


# ---- what it shall be ----------------------------------------------------------------------


class _Wanted:
    """The files as they shall be, beside how they were seen."""

    def __init__(self, bouncer: Bouncer, wish: Wish, seen: HostSeen, auth_digest: str) -> None:
        self.bouncer, self.wish, self.seen = bouncer, wish, seen
        self.auth_digest = auth_digest

    def changes(self, ctx: StepContext, *, fresh: bool = False) -> list[Change[Any]]:
        """Return what has to be done, in order; `fresh`: a package will bring files of its own."""
        files = list(self._files(ctx, fresh=fresh))
        units = list(self._units(changed=bool(files)))
        return [*files, *units]

    def _files(self, ctx: StepContext, *, fresh: bool) -> Iterator[Change[Any]]:
        seen, bouncer, entry = self.seen, self.bouncer, self.bouncer.entry
        text, dropin = config_text(self.wish), dropin_text(self.wish.sizes.open_files)
        # What the package will bring has a digest that nobody knows yet, and is backed up as well.
        unknown = "0" * 64 if fresh else ""
        common: dict[str, Any] = {
            "host": bouncer.host.name,
            "sudo": bouncer.host.sudo,
            "owner": seen.owner,
            "mode": _MODE,
        }
        if not seen.auth.is_as(self.auth_digest, _MODE, seen.owner):
            yield PutSecretFile(
                **common,
                path=bouncer.auth_file,
                content=auth_file(bouncer.auth.user, entry.admin.user).content,
                holes=holes(bouncer),
                expected=seen.auth.digest or unknown,
                # Secrets of ours are not copied about; somebody else's users are not lost.
                backup=backup_of(bouncer.auth_file, ctx.run_id)
                if whose(seen.text) == "foreign"
                else None,
            )
        if not seen.config.is_as(sha256(text), _MODE, seen.owner):
            yield PutFile(
                **common,
                path=entry.config,
                content=text,
                expected=seen.config.digest or unknown,
                backup=backup_of(entry.config, ctx.run_id),
            )
        if not seen.dropin.is_as(sha256(dropin), "0644", "root:root"):
            folder = bouncer.dropin.rpartition("/")[0]
            if seen.dropin.kind == "absent":
                yield self._command("install", "-d", "-m", "755", folder)
            yield PutFile(
                **{**common, "mode": "0644", "owner": "root:root"},
                path=bouncer.dropin,
                content=dropin,
                expected=seen.dropin.digest,
            )

    def _units(self, *, changed: bool) -> Iterator[Change[Any]]:
        bouncer, seen = self.bouncer, self.seen
        unit = bouncer.entry.unit
        stale = changed or seen.outdated or not seen.active
        if stale:
            yield self._command(SYSTEMCTL, "daemon-reload")
        if not seen.enabled:
            yield self._command(SYSTEMCTL, "enable", "--quiet", unit)
        if stale:
            yield RestartUnit(
                host=bouncer.host.name, unit=unit, timeout_s=_RESTART_S, sudo=bouncer.host.sudo
            )

    def _command(self, *argv: str, timeout_s: float = 60.0) -> ChangeCommand:
        return command(self.bouncer, *argv, timeout_s=timeout_s)


def _wanted(bouncer: Bouncer, wish: Wish, seen: HostSeen) -> Drive[_Wanted]:
    content = auth_file(bouncer.auth.user, bouncer.entry.admin.user).content
    digest = yield from ask(FilledDigest(content=content, holes=holes(bouncer)))
    return _Wanted(bouncer, wish, seen, digest)


def holes(bouncer: Bouncer) -> dict[str, Hole]:
    """Return what goes into the auth file's marks: a password, and a SCRAM secret."""
    name, entry, auth = bouncer.name, bouncer.entry, bouncer.auth
    filled = {}
    for mark, role in auth_file(auth.user, entry.admin.user).marks.items():
        key: Literal["auth", "admin"] = "auth" if role == auth.user else "admin"
        filled[mark] = Hole(
            secret=bouncer.password(key),
            where=f"pgbouncers.{name}.{key}.password",
            # PgBouncer logs in to the server with it; of the other it only has to know the proof.
            as_what="plain" if key == "auth" else "scram",
            salt_of=() if key == "auth" else ("pgbouncer", name, bouncer.host.name, role),
        )
    return filled


def _package(bouncer: Bouncer, seen: HostSeen) -> list[Change[Any]]:
    """Masked while it is installed: the package would start it with a configuration of its own."""
    if seen.installed:
        return []
    unit = bouncer.entry.unit
    return [
        command(bouncer, SYSTEMCTL, "mask", "--quiet", unit),
        command(bouncer, *_INSTALL, timeout_s=_INSTALL_S),
        command(bouncer, SYSTEMCTL, "unmask", "--quiet", unit),
    ]


# ---- act -----------------------------------------------------------------------------------


def act(args: PgBouncerSetupArgs, ctx: StepContext) -> Drive[Result]:
    """Do what is missing, in order; then see it run, and hear its console."""
    bouncer = bouncer_of(args, ctx.fleet)
    prepared = ctx.given["prepared"]
    wish = thawed(bouncer, prepared["wish"])
    done: list[str] = []
    try:
        seen = yield from _install(bouncer, prepared, done)
        wanted = yield from _wanted(bouncer, wish, seen)
        for change in wanted.changes(ctx):
            yield from _carried_out(change, done)
        yield from _await(bouncer)
    except CannotSetUp as no:
        return Result(
            status="failed",
            summary=no.result.summary,
            hint=no.result.hint,
            data={"done": done},
            by_hand=_by_hand(bouncer),
        )
    except NotStarted as error:
        return Result(status="failed", summary=error.message, hint=error.hint or "")
    except (ConnectionLost, CommandFailed) as error:
        hint = f"run it again, it looks first. {error.hint or ''}".strip()
        return Result(status="unknown", summary=error.message, hint=hint, by_hand=_by_hand(bouncer))
    version = ".".join(map(str, wish.version))
    summary = f"PgBouncer {version} answers on port {wish.listen_port} of {bouncer.host.name}"
    return Result(
        status="ok",
        summary=summary if done else f"{summary}: nothing was to be done",
        data={
            "changed": bool(done),
            "done": done,
            "mode": wish.mode,
            "pool_size": wish.sizes.pool,
            "max_db_connections": wish.sizes.per_database,
            "max_client_conn": wish.sizes.clients,
            "databases": list(wish.databases),
        },
        by_hand=_by_hand(bouncer) if done else (),
    )


def _carried_out(change: Change[Any], done: list[str]) -> Drive[None]:
    """Make one change. What a restart's exit code says is nothing: what runs then is looked at."""
    if not isinstance(change, RestartUnit):
        yield from made(change, done)
        return
    yield from ask(Say(stage="setting up", text=change.sentence()))
    yield from ask(change)
    done.append(change.sentence())


def _by_hand(bouncer: Bouncer) -> tuple[str, ...]:
    log = ("sudo", "journalctl", "-u", bouncer.entry.unit, "-n", "20", "--no-pager")
    return (on_host(bouncer.host, log), f"runbook pgbouncer remove {bouncer.name}  # undoes it")


def _install(bouncer: Bouncer, prepared: dict[str, Any], done: list[str]) -> Drive[HostSeen]:
    """Have the package there, with the unit not masked by us any more."""
    seen = yield from look_at(bouncer)
    if prepared["installed"]:
        return seen
    mask, install, unmask = _package(bouncer, _without_package(seen))
    if not seen.installed:
        yield from made(mask, done)
        try:
            yield from made(install, done)
        except CannotSetUp:
            # Else the next try would find it masked, by nobody that anybody knows.
            yield from made(unmask, done)
            raise
        seen = yield from look_at(bouncer)
    if seen.masked:
        yield from made(unmask, done)
        seen = yield from look_at(bouncer)
    return seen


def _without_package(seen: HostSeen) -> HostSeen:
    return replace(seen, said={**seen.said, "binary": ""})


def _await(bouncer: Bouncer) -> Drive[None]:
    """Return once it runs as one process and its console answers.

    Raises:
        CannotSetUp: it does not, in time; the last words say why.
    """
    entry, host = bouncer.entry, bouncer.host.name
    deadline = (yield from ask(Now())) + _ANSWERS_WITHIN_S
    first, since, why = "", 0.0, ""
    while True:
        unit = yield from ask(ShowUnit(host=host, unit=entry.unit))
        at = yield from ask(Now())
        if unit["ActiveState"] != "active":
            why = f"{entry.unit} is {unit['ActiveState']} ({unit['Result']})"
            first = ""
        elif unit["InvocationID"] != first:
            first, since = unit["InvocationID"], at
        elif at - since >= _STABLE_S:
            why = yield from _console(bouncer)
            if not why:
                return
        if at >= deadline or unit["ActiveState"] == "failed":
            said = yield from _last_words(bouncer)
            raise CannotSetUp(
                f"PgBouncer on {host} does not work: {why}{said}",
                "this run has moved nothing to it; what was led to it before is cut off until it"
                f" works again, and what its files were is beside them: ls {entry.config}*",
            )
        yield from ask(Sleep(seconds=_TICK_S))


def _console(bouncer: Bouncer) -> Drive[str]:
    try:
        yield from ask(AskPgBouncer(pgbouncer=bouncer.name, shows=("pools",)))
    except DoorError as error:
        return error.message
    return ""


def _last_words(bouncer: Bouncer) -> Drive[str]:
    argv = ("journalctl", "-u", bouncer.entry.unit, "-n", "5", "--no-pager", "-o", "cat")
    look = ReadCommand(host=bouncer.host.name, argv=argv, timeout_s=15.0, sudo=bouncer.host.sudo)
    try:
        outcome = yield from ask(look)
    except DoorError:
        return ""
    said = visible(" ".join(outcome.stdout.split()))[-400:]
    return f"; its log: {said}" if said else ""


def _targets(args: PgBouncerSetupArgs, fleet: Fleet) -> tuple[str, ...]:
    return (bouncer_of(args, fleet).host.name,)


PGBOUNCER_SETUP = StepType(
    verb="pgbouncer_setup",
    summary="install, configure and start a PgBouncer from the pool budget, and hear its console",
    args=PgBouncerSetupArgs,
    phases={"prepare": prepare, "act": act},
    changes=lambda _args: True,
    targets=_targets,
    # It looks first, and does only what is missing.
    after_crash="probe",
    lock=lambda args: f"pgbouncer {args.pgbouncer}",
    default_timeout_s=1800.0,
    undo="pgbouncer_retire stops and disables it; with purge: true its files and package go",
    target_kind="host",
    repeatable=lambda _args: True,
)
