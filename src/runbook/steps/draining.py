"""A host's place in rotation: how its balancers are asked, told to drain it, and to take it back.

What was out of rotation before a run began is nobody's debt: only balancers that a run itself told
to drain a host are told to take it back.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any, Protocol

from runbook.model.document import visible
from runbook.model.effects import (
    ChangeCommand,
    CommandOutcome,
    Drive,
    Observe,
    ReadCommand,
    Together,
    ask,
)
from runbook.model.errors import DoorError, UsageError
from runbook.model.fleet import Fleet, ResolvedHost
from runbook.model.inventory import Argv, Drain, DrainCommands, DrainHaproxy, Service
from runbook.steps.draining_haproxy import Place, answered, place_of, refusal
from runbook.steps.service_manager import on_host

#: socat waits 0.5s for an answer after the question; a busy HAProxy may need longer.
_SOCAT = ("/usr/bin/socat", "-t5", "-")
_LONGEST_SAYING = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """What one balancer says of a host."""

    balancer: str
    place: Place
    #: In words, to be read after the balancer's name: `has app-1 drained`.
    text: str
    #: Connections that it still holds open to the host; None when it does not tell.
    connections: int | None = None
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.balancer} {self.text}"


class Balancer(Protocol):
    """One balancer in front of one host."""

    @property
    def name(self) -> str:
        """The inventory host that its commands run on."""

    @property
    def tells(self) -> bool:
        """Whether it can be asked where it has the host."""

    def look(self) -> Observe[CommandOutcome] | None:
        """Return the effect that asks; None when there is no way to ask."""

    def sight(self, outcome: CommandOutcome | DoorError | None) -> Sight:
        """Judge what `look` came to."""

    def drain(self) -> ChangeCommand:
        """Return the change that takes the host out."""

    def undrain(self) -> ChangeCommand:
        """Return the change that takes it back; doing it twice does no harm."""

    def said_no(self, outcome: CommandOutcome) -> str | None:
        """Say why a change was not made, or None when it was."""

    def sudo_argvs(self) -> tuple[tuple[str, ...], ...]:
        """Return what sudo must allow on its host, argv by argv."""


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """A host of a service, and every balancer in front of it."""

    host: ResolvedHost
    fleet: Fleet
    settings: Drain
    balancers: tuple[Balancer, ...]
    #: Prints how many connections are left, on the host itself.
    counter: ReadCommand | None

    def looks(self) -> tuple[Observe[CommandOutcome], ...]:
        """Return what tells where the host is, for the balancers that tell."""
        return tuple(look for each in self.balancers if (look := each.look()) is not None)

    def sights(self, outcomes: tuple[Any, ...]) -> tuple[Sight, ...]:
        """Judge the outcomes of `looks`: one sight for each balancer."""
        left = iter(outcomes)
        return tuple(
            each.sight(next(left) if each.look() is not None else None) for each in self.balancers
        )

    def of(self, names: tuple[str, ...]) -> tuple[Balancer, ...]:
        """Return the balancers of these names, in the inventory's order."""
        return tuple(each for each in self.balancers if each.name in names)

    def tells(self, name: str) -> bool:
        """Whether that balancer can be asked where it has the host."""
        return any(each.tells for each in self.of((name,)))

    def footprint(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what draining touches, and what taking the host back does."""
        drains = [line for each in self.balancers for line in each.drain().footprint()]
        undrains = [line for each in self.balancers for line in each.undrain().footprint()]
        return tuple(drains), tuple(undrains)

    def by_hand(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the commands with which a person puts the host back."""
        return tuple(self._line(each.undrain()) for each in self.of(names))

    def _line(self, change: ChangeCommand) -> str:
        sudo = ("sudo",) if change.sudo else ()
        line = on_host(self.fleet.host(change.host), (*sudo, *change.argv))
        return f"echo {shlex.quote(change.stdin.strip())} | {line}" if change.stdin else line


def rotation_of(service: Service, host: ResolvedHost, fleet: Fleet) -> Rotation | None:
    """Return how a host is taken out of rotation; None for a service that declares no drain.

    Raises:
        UsageError: when it names what the inventory does not have.
    """
    drain = service.drain
    if drain is None:
        return None
    return Rotation(
        host=host,
        fleet=fleet,
        settings=drain,
        balancers=_balancers(drain, host, fleet),
        counter=_counter(drain, host, fleet),
    )


def _balancers(drain: Drain, host: ResolvedHost, fleet: Fleet) -> tuple[Balancer, ...]:
    own, haproxy = drain.command, drain.haproxy
    if own is not None:
        return (_own_commands(own, host, fleet),)
    if haproxy is None:  # a drain is exactly one of both
        return ()
    on = haproxy.on if isinstance(haproxy.on, tuple) else (haproxy.on,)
    return tuple(_haproxy(haproxy, fleet.host(name), host, fleet) for name in on)


def _counter(drain: Drain, host: ResolvedHost, fleet: Fleet) -> ReadCommand | None:
    if drain.connections is None:
        return None
    return ReadCommand(host=host.name, argv=_expanded(drain.connections, host, fleet))


def _expanded(argv: Argv, host: ResolvedHost, fleet: Fleet) -> tuple[str, ...]:
    return tuple(fleet.expand(word, host) for word in argv)


def look_at(rotation: Rotation) -> Drive[tuple[Sight, ...]]:
    """Ask every balancer at once where it has the host."""
    outcomes = yield from ask(Together(effects=rotation.looks()))
    return rotation.sights(outcomes)


def count_left(outcome: CommandOutcome | DoorError) -> int | str:
    """Return the count that `connections` printed, or why there is none."""
    if isinstance(outcome, DoorError):
        return outcome.message
    said = visible(" ".join((outcome.stdout or outcome.stderr).split()))[:_LONGEST_SAYING]
    if not outcome.ok:
        return f"the command that counts connections exits with {outcome.exit_code}: {said}"
    if not said.isascii() or not said.isdigit():
        return f"the command that counts connections printed no number: {said or 'nothing'}"
    return int(said)


# ---- HAProxy -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Haproxy:
    """One HAProxy, by the runtime socket on its host."""

    on: ResolvedHost
    declared: DrainHaproxy
    #: As HAProxy calls them, filled in.
    backend: str
    server: str
    tells: bool = True

    @property
    def name(self) -> str:
        """The inventory host that it runs on."""
        return self.on.name

    @property
    def _sudo(self) -> bool:
        return self.declared.sudo and self.on.sudo

    @property
    def _argv(self) -> tuple[str, ...]:
        return (*_SOCAT, f"UNIX-CONNECT:{self.declared.socket}")

    def look(self) -> ReadCommand:
        """Ask for the whole backend: one look serves every host of it."""
        backend = self.backend
        return ReadCommand(
            host=self.name,
            argv=self._argv,
            timeout_s=self.declared.timeout,
            sudo=self._sudo,
            stdin=f"show servers state {backend}; show stat {backend} 4 -1\n",
        )

    def sight(self, outcome: CommandOutcome | DoorError | None) -> Sight:
        """Judge `show servers state` and `show stat`."""
        if not isinstance(outcome, CommandOutcome):
            return _unseen(self.name, outcome)
        if not answered(outcome.stdout):
            return self._unanswered(outcome)
        place, text, connections = place_of(outcome.stdout, self.backend, self.server)
        hint = f"its servers: echo 'show servers state {self.backend}' to its socket"
        return Sight(
            balancer=self.name,
            place=place,
            text=text,
            connections=connections,
            hint=hint if place == "unknown" else "",
        )

    def _unanswered(self, outcome: CommandOutcome) -> Sight:
        said = _said(outcome)
        if outcome.exit_code in {126, 127} or "command not found" in said:
            hint = f"socat must be installed on {self.name} ({_SOCAT[0]})"
        elif "Can't find" in said or "No such" in said:
            hint = "the inventory's key is services.NAME.drain.haproxy.backend"
        else:
            hint = (
                f"is {self.declared.socket} the socket of `stats socket` in haproxy.cfg, and may"
                " the login use it?"
            )
        text = f"did not answer on {self.declared.socket}: {said}"
        return Sight(balancer=self.name, place="unknown", text=text, hint=hint)

    def drain(self) -> ChangeCommand:
        """Let it send nothing new to the host."""
        return self._set("drain")

    def undrain(self) -> ChangeCommand:
        """Let it send to the host again."""
        return self._set("ready")

    def _set(self, state: str) -> ChangeCommand:
        command = f"set server {self.backend}/{self.server} state {state}"
        return ChangeCommand(
            host=self.name,
            argv=self._argv,
            timeout_s=self.declared.timeout,
            sudo=self._sudo,
            stdin=f"{command}\n",
            # The argv is the same for every command: what goes in by stdin is what matters.
            shown=f"{command} ({self.declared.socket})",
        )

    def said_no(self, outcome: CommandOutcome) -> str | None:
        """Say why not: HAProxy answers nothing to a change that it made, and text to any other."""
        said = _said(outcome)
        if outcome.ok and not refusal(outcome.stdout):
            return None
        return f"{self.name} said: {said}"

    def sudo_argvs(self) -> tuple[tuple[str, ...], ...]:
        """Return the one argv: every command goes in by stdin."""
        return (self._argv,) if self._sudo else ()


def _haproxy(declared: DrainHaproxy, on: ResolvedHost, host: ResolvedHost, fleet: Fleet) -> Haproxy:
    backend, server = fleet.expand(declared.backend, host), fleet.expand(declared.server, host)
    for key, name in (("backend", backend), ("server", server)):
        if not re.fullmatch(r"[A-Za-z0-9_.:-]+", name):
            raise UsageError(
                f"drain.haproxy.{key} comes to {name!r} for {host.name}: no name in HAProxy",
                hint=f"letters, digits and _ . : - make one; see the vars of {host.name}",
            )
    return Haproxy(on=on, declared=declared, backend=backend, server=server)


# ---- commands of one's own -----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class OwnHooks:
    """Commands of the user's own, on the host itself or on another one."""

    on: ResolvedHost
    declared: DrainCommands
    drain_words: tuple[str, ...]
    undrain_words: tuple[str, ...]
    status_words: tuple[str, ...] | None

    @property
    def name(self) -> str:
        """The inventory host that they run on."""
        return self.on.name

    @property
    def tells(self) -> bool:
        """Whether a status command is declared."""
        return self.status_words is not None

    def look(self) -> ReadCommand | None:
        """Run the status command."""
        if self.status_words is None:
            return None
        return ReadCommand(
            host=self.name,
            argv=self.status_words,
            timeout_s=self.declared.timeout,
            sudo=self.declared.sudo,
        )

    def sight(self, outcome: CommandOutcome | DoorError | None) -> Sight:
        """Judge the status command by its exit code: 0 in rotation, 1 not, else no answer."""
        if self.status_words is None:
            text = "does not tell (no status command is declared)"
            return Sight(balancer=self.name, place="in", text=text)
        if not isinstance(outcome, CommandOutcome):
            return _unseen(self.name, outcome)
        # `sudo -n` refuses with 1 as well.
        refused = self.declared.sudo and outcome.stderr.startswith("sudo:")
        if outcome.exit_code == 0:
            return Sight(balancer=self.name, place="in", text="has it in rotation")
        if outcome.exit_code == 1 and not refused:
            return Sight(balancer=self.name, place="out", text="has it out of rotation")
        return Sight(
            balancer=self.name,
            place="unknown",
            text=f"did not say: its status command exits with {outcome.exit_code}:"
            f" {_said(outcome)}",
            hint="drain.command.status exits with 0 while the host is in rotation, 1 while not",
        )

    def drain(self) -> ChangeCommand:
        """Run the drain command."""
        return self._change(self.drain_words)

    def undrain(self) -> ChangeCommand:
        """Run the undrain command."""
        return self._change(self.undrain_words)

    def _change(self, argv: tuple[str, ...]) -> ChangeCommand:
        return ChangeCommand(
            host=self.name, argv=argv, timeout_s=self.declared.timeout, sudo=self.declared.sudo
        )

    def said_no(self, outcome: CommandOutcome) -> str | None:
        """Say why not: its exit code."""
        if outcome.ok:
            return None
        return f"it exited with {outcome.exit_code} on {self.name}: {_said(outcome)}"

    def sudo_argvs(self) -> tuple[tuple[str, ...], ...]:
        """Return each command, where sudo is asked for."""
        if not self.declared.sudo:
            return ()
        status = (self.status_words,) if self.status_words is not None else ()
        return (self.drain_words, self.undrain_words, *status)


def _own_commands(declared: DrainCommands, host: ResolvedHost, fleet: Fleet) -> OwnHooks:
    on = fleet.host(fleet.expand(declared.on, host)) if declared.on is not None else host
    status = declared.status
    return OwnHooks(
        on=on,
        declared=declared,
        drain_words=_expanded(declared.drain, host, fleet),
        undrain_words=_expanded(declared.undrain, host, fleet),
        status_words=_expanded(status, host, fleet) if status is not None else None,
    )


def _unseen(name: str, error: DoorError | None) -> Sight:
    why = error.message if error is not None else "nobody asked"
    hint = (error.hint or "") if error is not None else ""
    return Sight(balancer=name, place="unknown", text=f"cannot be asked: {why}", hint=hint)


def _said(outcome: CommandOutcome) -> str:
    said = visible(" ".join((outcome.stderr or outcome.stdout).split()))[:_LONGEST_SAYING]
    return said or f"nothing (exit code {outcome.exit_code})"
