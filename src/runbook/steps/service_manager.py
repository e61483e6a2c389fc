"""What runs a service, behind one small interface: systemd, or commands of the user's own."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from runbook.model.document import visible
from runbook.model.effects import (
    Change,
    ChangeCommand,
    CommandOutcome,
    Observe,
    ReadCommand,
    RestartUnit,
    ShowUnit,
    UnitState,
)
from runbook.model.fleet import Fleet, ResolvedHost
from runbook.model.inventory import CommandManager, Service
from runbook.model.systemd import (
    Standing,
    Unfit,
    action_argv,
    crash_looping,
    job_pending,
    mending_hint,
    reload_problem,
    restart_argv,
    restart_problem,
    restart_timeout,
    running,
    standing,
    start_attempts,
    start_limit_hit,
    start_problem,
    stop_problem,
    unit_name_problem,
)

Action = Literal["restart", "start", "stop", "reload"]

_STATUS_TIMEOUT_S = 15.0
#: What a regular expression of pgrep's would read.
_REGEX = re.compile(r"[.\\\[\]*^$+?(){}|]")


class ServiceManager(Protocol):
    """One service on one host: how it is looked at, and how it is restarted."""

    @property
    def unchanged_is_final(self) -> bool:
        """Whether an unchanged identity after a lost command proves that nothing was restarted."""

    def look(self) -> Observe[Any]:
        """Return the effect that looks at it; its outcome goes into the methods below."""

    def unfit(self, seen: Any) -> Unfit | None:
        """Say why it must not be restarted as it stands."""

    def down(self, seen: Any) -> str | None:
        """Say why it does not run, or None when it does."""

    def busy(self, seen: Any) -> str | None:
        """Say what is being done to it at this moment, or None."""

    def crashed_before(self, seen: Any) -> bool:
        """Whether it has crashed and come back by itself since it was last started."""

    def stopped(self, seen: Any) -> bool:
        """Whether nothing of it runs any more."""

    def standing(self, seen: Any, before: str) -> Standing:
        """Judge a look after a restart; `before` is the identity from before it."""

    def identity(self, seen: Any) -> str:
        """Return what changes with each start."""

    def baseline(self, seen: Any) -> dict[str, str]:
        """Return what is worth keeping of a look before the restart."""

    def restart_argv(self) -> tuple[str, ...]:
        """Return the argv of the restart, as sudo will see it."""

    def restart_timeout(self, seen: Any) -> float:
        """Return how long the restart may take, in seconds."""

    def restart(self, timeout_s: float) -> Change[CommandOutcome]:
        """Return the change."""

    def unfit_for(self, action: Action, seen: Any) -> Unfit | None:
        """Say why an action must not be taken as it stands."""

    def argv_of(self, action: Action) -> tuple[str, ...] | None:
        """Return the argv of an action, as sudo will see it; None when it has none."""

    def take(self, action: Action, timeout_s: float) -> Change[CommandOutcome]:
        """Return the change of an action that has an argv."""

    def hint(self, seen: Any) -> str:
        """Return what helps a service that did not come back, as it was last seen."""

    def fingerprint(self, seen: Any) -> dict[str, str]:
        """Return what a restart changes even when it comes to nothing."""

    def at_work(self) -> ReadCommand | None:
        """Return the look that exits with 0 while a restart command is at work on the host."""

    def by_hand(self, seen: Any) -> tuple[str, ...]:
        """Return the commands with which a person looks, and finishes."""


def manager_of(name: str, service: Service, host: ResolvedHost, fleet: Fleet) -> ServiceManager:
    """Return what runs `service` on `host`.

    Raises:
        UsageError: when a command names what the inventory does not have.
    """
    if service.manager == "systemd":
        return SystemdUnit(host=host, unit=service.unit or name)
    command = service.manager.command
    return OwnCommands(
        host=host,
        commands=command,
        restart_words=tuple(fleet.expand(word, host) for word in command.restart),
        status_words=tuple(fleet.expand(word, host) for word in command.status),
        more_words={
            action: tuple(fleet.expand(word, host) for word in words)
            for action in ("start", "stop", "reload")
            if (words := getattr(command, action)) is not None
        },
    )


def on_host(host: ResolvedHost, argv: tuple[str, ...]) -> str:
    """Return the line that runs `argv` on `host` from the on-call's own terminal.

    Two shells read a word on its way, the one here and the host's; plain words need no quotes.
    """
    if host.local:
        return shlex.join(argv)
    ssh = host.ssh
    target = f"{ssh.user}@{host.address}" if ssh.user else host.address
    options = [
        *(("-p", str(ssh.port)) if ssh.port and ssh.port != 22 else ()),
        *(("-J", ssh.jump) if ssh.jump and ssh.jump != "none" else ()),
        *(("-i", ssh.identity_file) if ssh.identity_file else ()),
        *(("-o", f"UserKnownHostsFile={ssh.known_hosts}") if ssh.known_hosts else ()),
    ]
    words = (shlex.quote(shlex.quote(word)) for word in argv)
    return f"{shlex.join(['ssh', *options, target])} {' '.join(words)}"


@dataclass(frozen=True, kw_only=True)
class SystemdUnit:
    """A unit of systemd's."""

    host: ResolvedHost
    unit: str
    unchanged_is_final: bool = True

    def look(self) -> ShowUnit:
        """Ask for the unit's properties."""
        return ShowUnit(host=self.host.name, unit=self.unit)

    def unfit(self, seen: UnitState) -> Unfit | None:
        """Say why it must not be restarted as it stands."""
        return unit_name_problem(self.unit) or restart_problem(self.unit, seen)

    def down(self, seen: UnitState) -> str | None:
        """Say why it does not run."""
        if running(seen):
            return None
        return f"{self.unit} is {seen['ActiveState'] or 'unknown'}/{seen['SubState'] or 'unknown'}"

    def busy(self, seen: UnitState) -> str | None:
        """A job that systemd has for the unit."""
        return f"systemd is at work on {self.unit}" if job_pending(seen) else None

    def crashed_before(self, seen: UnitState) -> bool:
        """Whether systemd counts restarts of its own."""
        return crash_looping(seen, "")

    def stopped(self, seen: UnitState) -> bool:
        """Inactive, or failed: a process that had to be killed leaves the unit so."""
        return seen["ActiveState"] in {"inactive", "failed"}

    def standing(self, seen: UnitState, before: str) -> Standing:
        """Judge a look after a restart, by InvocationID, state and NRestarts."""
        return standing(seen, before)

    def identity(self, seen: UnitState) -> str:
        """Return the InvocationID."""
        return seen["InvocationID"]

    def baseline(self, seen: UnitState) -> dict[str, str]:
        """Keep what tells one start from another."""
        keys = ("InvocationID", "MainPID", "NRestarts", "ActiveState", "SubState", "Type")
        return {key: seen[key] for key in (*keys, "ExecMainStartTimestampMonotonic")}

    def restart_argv(self) -> tuple[str, ...]:
        """Return the one argv that the sudoers rule names."""
        return restart_argv(self.unit)

    def restart_timeout(self, seen: UnitState) -> float:
        """Return stop + start timeouts + grace."""
        return restart_timeout(seen)

    def restart(self, timeout_s: float) -> RestartUnit:
        """Restart the unit."""
        return RestartUnit(
            host=self.host.name, unit=self.unit, timeout_s=timeout_s, sudo=self.host.sudo
        )

    def unfit_for(self, action: Action, seen: UnitState) -> Unfit | None:
        """Judge the unit's name, and what systemd allows."""
        judges = {
            "restart": restart_problem,
            "start": start_problem,
            "stop": stop_problem,
            "reload": reload_problem,
        }
        return unit_name_problem(self.unit) or judges[action](self.unit, seen)

    def argv_of(self, action: Action) -> tuple[str, ...]:
        """Return `systemctl ACTION UNIT`."""
        return action_argv(action, self.unit)

    def take(self, action: Action, timeout_s: float) -> Change[CommandOutcome]:
        """Return `systemctl ACTION UNIT`."""
        if action == "restart":
            return self.restart(timeout_s)
        return ChangeCommand(
            host=self.host.name,
            argv=self.argv_of(action),
            timeout_s=timeout_s,
            sudo=self.host.sudo,
        )

    def hint(self, seen: UnitState | None) -> str:
        """Return what helps, by what systemd says of the unit."""
        return mending_hint(self.unit, seen) if seen is not None else ""

    def fingerprint(self, seen: UnitState) -> dict[str, str]:
        """Return the InvocationID, and when a start was last tried."""
        return start_attempts(seen)

    def at_work(self) -> ReadCommand:
        """Look for `systemctl restart UNIT`: sudo may hold it back for longer than we look."""
        unit = _REGEX.sub(r"\\\g<0>", self.unit)
        # The brackets keep the pattern from finding the shell that runs this very look.
        argv = ("pgrep", "-f", f"[s]ystemctl restart {unit}")
        return ReadCommand(host=self.host.name, argv=argv, timeout_s=_STATUS_TIMEOUT_S)

    def by_hand(self, seen: UnitState | None) -> tuple[str, ...]:
        """Look, read its log, clear a start limit where one was hit, restart."""
        sudo = ("sudo",) if self.host.sudo else ()
        limit = seen is not None and start_limit_hit(seen)
        argvs = (
            ("systemctl", "status", "--no-pager", self.unit),
            ("journalctl", "--no-pager", "-n", "50", "-u", self.unit),
            *(((*sudo, "systemctl", "reset-failed", self.unit),) if limit else ()),
            (*sudo, *restart_argv(self.unit)),
        )
        return tuple(on_host(self.host, argv) for argv in argvs)


@dataclass(frozen=True, kw_only=True)
class OwnCommands:
    """A service that systemd does not run: `manager: {command: {restart, status}}`."""

    host: ResolvedHost
    commands: CommandManager
    restart_words: tuple[str, ...]
    status_words: tuple[str, ...]
    #: Words of start, stop and reload, where the inventory has them.
    more_words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: The command that was cut off may still be at work.
    unchanged_is_final: bool = False

    def look(self) -> ReadCommand:
        """Run the status command."""
        return ReadCommand(host=self.host.name, argv=self.status_words, timeout_s=_STATUS_TIMEOUT_S)

    def unfit(self, seen: CommandOutcome) -> Unfit | None:
        """A status command that is not there, or prints no identity, proves nothing."""
        said = visible(seen.stderr.strip().partition("\n")[0])
        if seen.exit_code in {126, 127}:
            return Unfit(
                problem=f"its status command cannot be run: {said or seen.exit_code}",
                hint="manager.command.status in the inventory is one argv, not a shell line",
            )
        if seen.ok and not self.identity(seen):
            return Unfit(
                problem="its status command prints nothing, so a restart could not be proved",
                hint="let it print what changes with each start, such as the process id and its"
                " start time",
            )
        return None

    def down(self, seen: CommandOutcome) -> str | None:
        """Say why it does not run: the status command's exit code."""
        return None if seen.ok else f"its status command exits with {seen.exit_code}"

    def busy(self, seen: CommandOutcome) -> None:
        """The status command says no more than whether it runs."""

    def crashed_before(self, seen: CommandOutcome) -> bool:
        """Nobody counts that."""
        del seen
        return False

    def stopped(self, seen: CommandOutcome) -> bool:
        """The status command says that it does not run; one that cannot be run says nothing."""
        return seen.exit_code > 0 and seen.exit_code not in {126, 127}

    def standing(self, seen: CommandOutcome, before: str) -> Standing:
        """Judge a look after a restart, by what the status command prints."""
        identity = self.identity(seen) if seen.ok else ""
        if not seen.ok:
            # A start may take a moment; the deadline decides.
            return Standing(verdict="pending", identity="", text=self.down(seen) or "")
        if before and identity == before:
            text = "the process from before still runs: nothing was restarted"
            return Standing(verdict="unchanged", identity=identity, text=text)
        return Standing(verdict="up", identity=identity, text=f"running as {identity}")

    def identity(self, seen: CommandOutcome) -> str:
        """Return the first line that the status command printed."""
        return visible(seen.stdout.strip().partition("\n")[0].strip())[:200] if seen.ok else ""

    def baseline(self, seen: CommandOutcome) -> dict[str, str]:
        """Keep the identity."""
        return {"identity": self.identity(seen)}

    def restart_argv(self) -> tuple[str, ...]:
        """Return the restart command."""
        return self.restart_words

    def restart_timeout(self, seen: CommandOutcome) -> float:
        """Return the timeout that the inventory declares."""
        del seen
        return self.commands.timeout

    def restart(self, timeout_s: float) -> ChangeCommand:
        """Run the restart command."""
        return ChangeCommand(
            host=self.host.name,
            argv=self.restart_words,
            timeout_s=timeout_s,
            sudo=self.host.sudo,
        )

    def unfit_for(self, action: Action, seen: CommandOutcome) -> Unfit | None:
        """The inventory must have a command for it, and the status command must make sense."""
        if self.argv_of(action) is None:
            return Unfit(
                problem=f"the inventory has no command to {action} it",
                hint=f"services.NAME.manager.command.{action} is one argv",
            )
        return self.unfit(seen)

    def argv_of(self, action: Action) -> tuple[str, ...] | None:
        """Return the declared command."""
        return self.restart_words if action == "restart" else self.more_words.get(action)

    def take(self, action: Action, timeout_s: float) -> ChangeCommand:
        """Run the declared command."""
        return ChangeCommand(
            host=self.host.name,
            argv=self.argv_of(action) or (),
            timeout_s=timeout_s,
            sudo=self.host.sudo,
        )

    def hint(self, seen: CommandOutcome | None) -> str:
        """Its commands say no more than whether it runs."""
        del seen
        return ""

    def fingerprint(self, seen: CommandOutcome) -> dict[str, str]:
        """Return the identity."""
        return self.baseline(seen)

    def at_work(self) -> None:
        """Nobody knows what a command of the user's own looks like while it is at work."""

    def by_hand(self, seen: CommandOutcome | None) -> tuple[str, ...]:
        """Look, and restart."""
        del seen
        sudo = ("sudo",) if self.host.sudo else ()
        argvs = (self.status_words, (*sudo, *self.restart_words))
        return tuple(on_host(self.host, argv) for argv in argvs)
