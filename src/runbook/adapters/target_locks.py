"""Locks on the targets themselves: one change at a time, whichever machine it comes from.

A host's lock is held by a process on that host, a database's by one on the host that it runs on;
see `target_lock_script`. A database whose host is not declared, or not reached, is locked in the
server, see `postgres_lock`. Where a target has no means to hold a lock, the local lock has to do,
and the run says so: at 2:17 a host without flock(1) must be as restartable as before, and what the
lock keeps apart are people, who then read it.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from runbook.adapters.target_lock_script import (
    ANSWER_WITHIN_S,
    Holder,
    Said,
    lock_argv,
    read_answer,
)
from runbook.model.document import visible
from runbook.model.errors import DoorError, Locked, Unreachable
from runbook.model.times import stamp

if TYPE_CHECKING:
    from runbook.adapters.host_door import HeldCommand
    from runbook.model.fleet import Fleet
    from runbook.model.ports import HeldLock

#: Takes the lock: a holder to end first or None, and the stamp since which nobody else may have
#: held it or "".
_Ask = Callable[..., "tuple[HeldCommand, Said]"]

#: A holder that is asked whether it still holds answers in one round trip; one that is silent for
#: as long as a channel may take to open is as good as lost.
_STILL_THERE_S = 10.0


class Hosts(Protocol):
    """Who starts commands that stay on hosts; see `HostDoor.hold`."""

    def hold(self, host: str, argv: tuple[str, ...], within_s: float) -> HeldCommand:
        """Start a command that stays until it is closed."""


class Grip(Protocol):
    """What holds a lock: a process on a host, a session in a server."""

    def lost(self) -> str | None:
        """Say why it is held no longer."""

    def close(self) -> None:
        """Give it back."""


class Databases(Protocol):
    """Who locks a database in its server; see `postgres_lock`."""

    def hold_lock(self, database: str, note: Mapping[str, Any]) -> Grip | None:
        """Return the lock, or None where none can be kept; `Locked` when somebody holds it."""


@dataclass(kw_only=True)
class _Place:
    """A target that this run locks, and how many of its tasks do."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    held: _Held | None = None
    users: int = 0


class RemoteLocks:
    """The locks of one run on its targets; its own tasks share them."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        hosts: Hosts,
        databases: Databases,
        who: str,
        incident: str | None,
        steal: bool = False,
        local_directory: str = "",
    ) -> None:
        """Prepare; `local_directory` is where hosts that are this machine have their lock."""
        self._fleet = fleet
        self._hosts = hosts
        self._databases = databases
        self._who = who
        self._incident = incident
        self._steal = steal
        self._local_directory = local_directory
        self._places: dict[tuple[str, str], _Place] = {}
        self._lock = threading.Lock()
        #: What somebody has taken over from this run, and who: then it touches nothing more.
        self._robbed: tuple[str, str] | None = None
        #: Locks that are held for the whole run: those of services.
        self._standing: list[_Held] = []

    @contextmanager
    def hold(self, kind: str, name: str, owner: str) -> Iterator[HeldLock]:
        """Hold the lock of a host, a database or a service; see `TargetLocks` in the ports.

        Once a lock of this run was stolen, it gets no other one: who stole it has reasons.
        """
        self._stop_if_robbed()
        if kind == "service":
            with self._hold_service(name, owner) as standing:
                yield standing
            return
        host, lock = self._where(kind, name)
        with self._lock:
            place = self._places.setdefault((self._machine(host or name), lock), _Place())
        held = self._enter(place, lambda: self._take(kind, name, host, lock, owner))
        try:
            yield held
        finally:
            self._leave(place, held)

    def _enter(self, place: _Place, take: Callable[[], _Held]) -> _Held:
        """Take the lock, or share it with another task of this run that has it already."""
        with place.lock:
            if place.held is None or self._lost(place.held):
                self._stop_if_robbed()
                place.held, place.users = take(), 0
            place.users += 1
            return place.held

    def _leave(self, place: _Place, held: _Held) -> None:
        with place.lock:
            if place.held is not held:
                held.close()  # lost, and taken anew by another task
                return
            place.users -= 1
            if place.users == 0:
                place.held = None
                self._lost(held)
                held.close()

    @contextmanager
    def _hold_service(self, name: str, owner: str) -> Iterator[HeldLock]:
        """Hold a service's lock on the first of its hosts that can be reached.

        Runs of several machines on different hosts of one service would each count the other's
        hosts as up when they admit a batch, and take down more than may be down together.
        """
        held = self._take_for_service(name, owner)
        self._standing.append(held)
        try:
            yield held
        finally:
            self._standing.remove(held)
            held.close()

    def _take_for_service(self, name: str, owner: str) -> _Held:
        what, note = f"service {name}", self._note(owner)
        why = "it has no hosts"
        for host in self._fleet.whole(self._fleet.service(name).hosts):
            try:
                held = self._take_on_host(what, host, f"service-{name}", note)
            except DoorError as error:
                why = visible(error.message)
                continue
            if held.real:
                return held
            why = held.how.removeprefix("none: ")
        return _Held(what, None, how=f"none: {why}")

    def _lost(self, held: _Held) -> bool:
        """Whether a lock is held no longer; that it was stolen is remembered."""
        why = held.lost()
        if why is not None and held.robbed:
            self._robbed = self._robbed or (held.what, why)
        return why is not None

    def _stop_if_robbed(self) -> None:
        for held in self._standing:
            self._lost(held)
        if self._robbed is not None:
            what, why = self._robbed
            raise Locked(
                f"this run's lock on {what} is no longer its own: {why}",
                hint="somebody else has taken over: speak with them, and look, before this run is"
                " resumed",
            )

    def _where(self, kind: str, name: str) -> tuple[str | None, str]:
        """Return the inventory host that keeps the lock, and the lock's name on it.

        The name must be the same for everybody, whatever their inventory calls the target: a
        machine has one lock, and a server the one of its port.
        """
        if kind == "host":
            return name, "host"
        database = self._fleet.database(name)
        port = database.local.port if database.local else database.connect.port
        return database.host, f"postgresql-{port}"

    def _machine(self, host: str) -> str:
        """Return what is one machine: all hosts without a connection are this one."""
        known = host in self._fleet.inventory.hosts and self._fleet.host(host).local
        return "" if known else host

    def _take(self, kind: str, name: str, host: str | None, lock: str, owner: str) -> _Held:
        note, what = self._note(owner), f"{kind} {name}"
        if kind == "host":
            return self._take_on_host(what, name, lock, note)
        why = "it has no host in the inventory"
        if host is not None:
            try:
                held = self._take_on_host(what, host, lock, note)
            except Unreachable as error:
                # Who has SQL and no SSH must still be able to relieve it.
                why = visible(error.message)
            else:
                if held.real:
                    return held
                why = held.how.removeprefix("none: ")
        return self._take_in_server(what, name, note, why)

    # ---- on a host

    def _take_on_host(self, what: str, host: str, lock: str, note: dict[str, Any]) -> _Held:
        def ask(end: Holder | None, since: str = "") -> tuple[HeldCommand, Said]:
            return self._ask(host, lock, note, end, since)

        command, said = ask(None)
        how, before = "taken", ""
        if said.holder is not None:
            why = self._why_ended(said.holder, note)
            if why is None:
                raise _refusal(what, host, said.holder)
            how, before = why, _words(said.holder)
            command, said = ask(said.holder)
            if said.holder is not None:
                raise _not_ours(what, host, said.holder)
        if said.unseen:
            raise _unseen(what, host)
        if not said.mine:
            return _Held(what, None, how=f"none: {visible(said.none)} on {host}")
        grip = _OnHost(host, command, said.stamp, ask, note)
        return _Held(what, grip, how=how, before=before)

    def _ask(
        self, host: str, lock: str, note: dict[str, Any], end: Holder | None, since: str
    ) -> tuple[HeldCommand, Said]:
        local = self._fleet.host(host).local
        directory = self._local_directory if local else ""
        argv = lock_argv(lock, json.dumps(note), end, directory, since)
        command = self._hosts.hold(host, argv, ANSWER_WITHIN_S)
        line = command.ask(None, ANSWER_WITHIN_S)
        if line is None:
            command.close()
            raise DoorError(
                f"{host}: the lock could not be taken: no answer within {ANSWER_WITHIN_S:g}s",
                hint="nothing was changed; is the host overloaded, or does its sshd refuse"
                " commands?",
            )
        said = read_answer(line)
        if not said.mine:
            command.close()
        return command, said

    def _why_ended(self, holder: Holder, ours: Mapping[str, Any]) -> str | None:
        """Say why the holder may be ended, or None when it must not be."""
        note = _read_note(holder)
        if _is_own(note, ours):
            return "taken over from this run's own broken connection"
        if _is_dead(note, ours):
            return "taken over from a process that is gone"
        return "stolen" if self._steal else None

    def _note(self, owner: str) -> dict[str, Any]:
        return {
            "run": owner,
            "who": self._who,
            "incident": self._incident,
            "since": stamp(time.time()),
            "machine": socket.gethostname(),
            **_ourselves(),
        }

    # ---- in the server

    def _take_in_server(self, what: str, name: str, note: dict[str, Any], why: str) -> _Held:
        try:
            lock = self._databases.hold_lock(name, note)
        except DoorError:
            lock = None  # what is wrong with that door, the change itself will tell
        if lock is None:
            return _Held(what, None, how=f"none: {why}; and no connection to it can be kept open")
        return _Held(what, lock, how=f"taken in the server, because {why}")


class _Held:
    """A lock that is ours, or the want of one."""

    def __init__(self, what: str, by: Grip | None, *, how: str, before: str = "") -> None:
        self.what = what
        self._by = by
        self.how = how
        self._before = before

    @property
    def real(self) -> bool:
        """Whether anything holds it."""
        return self._by is not None

    def lost(self) -> str | None:
        """Say why it is held no longer; see `HeldLock`."""
        return self._by.lost() if self._by is not None else None

    @property
    def robbed(self) -> bool:
        """Whether it was lost to somebody else, and not only to a broken connection."""
        return bool(getattr(self._by, "robbed", False))

    def taken(self) -> dict[str, Any]:
        """Return what the journal keeps of it; see `HeldLock`."""
        before = {"from": self._before} if self._before else {}
        return {"lock": self.what, "how": self.how, **before}

    def close(self) -> None:
        """Give it back."""
        if self._by is not None:
            self._by.close()


class _OnHost:
    """A lock that a process on a host holds for us."""

    def __init__(
        self, host: str, command: HeldCommand, stamp: str, ask: _Ask, note: Mapping[str, Any]
    ) -> None:
        self._host = host
        self._command = command
        self._stamp = stamp
        self._ask = ask
        self._note = note
        self.robbed = False
        #: One question at a time: an answer belongs to its question.
        self._asking = threading.Lock()

    def lost(self) -> str | None:
        # The holder itself is asked: a process that wakes up after hours may not have read yet
        # that its lock was stolen in the meantime.
        with self._asking:
            if self._command.ask("there?", _STILL_THERE_S) == "there?":
                return None
            try:
                return self._take_again()
            except DoorError as error:
                return f"its connection was cut, and it could not be taken again: {error.message}"

    def _take_again(self) -> str | None:
        """Take a lock again whose connection was cut, if nobody else has held it since."""
        self._command.close()
        if not self._stamp:
            return f"the connection to {self._host} was cut"
        command, said = self._ask(None, self._stamp)
        if said.holder is not None and _is_own(_read_note(said.holder), self._note):
            command, said = self._ask(said.holder, self._stamp)
        if said.mine:
            self._command, self._stamp = command, said.stamp
            return None
        self.robbed = said.holder is not None or said.changed
        if said.holder is not None:
            return f"it was taken over by {_words(said.holder)}"
        if said.changed:
            return "it was taken over, and given back, by somebody else in the meantime"
        return f"its connection was cut, and somebody else may hold it now {said.none}".rstrip()

    def close(self) -> None:
        self._command.close()


# ---- who holds it


def _read_note(holder: Holder) -> dict[str, Any]:
    try:
        note = json.loads(holder.note)
    except ValueError:
        return {}
    return note if isinstance(note, dict) else {}


def _words(holder: Holder) -> str:
    """Say who holds a lock, from a note that another hand may have written."""
    note = _read_note(holder)

    def said(key: str, other: str) -> str:
        return visible(str(note.get(key) or other))[:100]

    incident = f" for {said('incident', '')}" if note.get("incident") else ""
    return (
        f"{said('who', 'somebody')}{incident}: run {said('run', 'unknown')}, since"
        f" {said('since', 'an unknown time')}, from {said('machine', 'an unknown machine')}"
        f" (process {holder.pid} of {visible(holder.account)})"
    )


def _refusal(what: str, host: str, holder: Holder) -> Locked:
    run = visible(str(_read_note(holder).get("run") or "RUN"))[:100]
    return Locked(
        f"{what} is held by {_words(holder)} on {host}",
        hint=f"wait for it, or ask: `runbook runs show {run}` on that machine tells what it does."
        f" --steal-lock ends process {holder.pid} on {host} and goes on; that run may still be"
        " at work, and stops before its next change",
    )


def _not_ours(what: str, host: str, holder: Holder) -> Locked:
    return Locked(
        f"{what} is still held by {_words(holder)} on {host}: the lock could not be stolen",
        hint=f"its process is another account's: on {host}, `sudo kill {holder.pid}` ends it",
    )


def _unseen(what: str, host: str) -> Locked:
    return Locked(
        f"{what} is held on {host} by somebody whom this account cannot see",
        hint=f"/proc may be hidden there (hidepid), or it is held in a container: as root on"
        f" {host}, `grep -la runbook-lock: /proc/[0-9]*/cmdline` names the process",
    )


# ---- whether a holder's run is gone


def _is_own(note: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether a holder is what a broken connection of our own run has left behind.

    Only one process works on a run at a time, and its tasks share their lock.
    """
    return all(note.get(key) == ours[key] for key in ("run", "who"))


def _ourselves() -> dict[str, Any]:
    """Return what tells this process from any other, now and after its end."""
    try:
        return {
            "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "space": str(Path("/proc/self/ns/pid").readlink()),
            "pid": os.getpid(),
            "began": _began(os.getpid()),
        }
    except OSError:  # no Linux: then nobody's end can be proved from here
        return {}


def _is_dead(note: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether the run that left this note is proved to be gone: a process of this very kernel."""
    same = all(note.get(key) and note.get(key) == ours.get(key) for key in ("boot", "space"))
    pid = note.get("pid")
    return same and isinstance(pid, int) and _began(pid) != note.get("began")


def _began(pid: int) -> str:
    """Return when a process began, in ticks since boot; "" when it is no more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]
