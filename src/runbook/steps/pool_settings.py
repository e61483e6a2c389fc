"""What the hosts of services are really configured to: read over SSH, told with its source.

What the inventory declares (`services.NAME.settings`) comes first. What is found besides, by the
names that frameworks read, may be something else. No text of a host leaves this step: only the
values that have a name here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from runbook.model import pool_settings
from runbook.model.document import visible
from runbook.model.effects import CommandOutcome, Drive, ReadCommand, Together, ask
from runbook.model.errors import DoorError
from runbook.model.fleet import Fleet, ResolvedHost
from runbook.model.host_reading import FileRead, keep_bytes, parse_read, read_argv
from runbook.model.inventory import Service, Setting
from runbook.model.pool_facts import Configured
from runbook.model.pool_settings import UnitSettings, parse_unit
from runbook.model.setting_text import CannotSet, assignments, env_value, matched_value
from runbook.model.sudo import sudoers_line
from runbook.model.systemd import SYSTEMCTL

#: Seconds for one round of looks, all hosts at once; there are three at most.
WITHIN_S = 5.0
#: Seconds that one host may take for a look.
TIMEOUT_S = 4.0

#: What `sudo -n sh` needs a rule for.
SH = ("/bin/sh",)

_DECLARED: tuple[Literal["size", "overflow", "processes", "url"], ...] = (
    "size",
    "overflow",
    "processes",
    "url",
)


@dataclass(kw_only=True)
class _Seat:
    """One service on one host, and what was read there."""

    name: str
    service: Service
    host: ResolvedHost
    unit: UnitSettings = field(default_factory=lambda: UnitSettings(loaded=False))
    files: dict[str, FileRead] = field(default_factory=dict)
    #: Whether sudo was asked for what was closed, and why that failed.
    no_sudo: str = ""

    @property
    def unit_name(self) -> str:
        declared = self.service.unit or self.name
        return declared if "." in declared else f"{declared}.service"

    @property
    def by_systemd(self) -> bool:
        return self.service.manager == "systemd"

    @property
    def texts(self) -> dict[str, str]:
        return {path: read.text for path, read in self.files.items() if read.state == "file"}

    def declared(self) -> Iterator[tuple[Literal["size", "overflow", "processes", "url"], Setting]]:
        for what in _DECLARED:
            setting: Setting | None = getattr(self.service.settings, what)
            if setting is not None:
                yield what, setting

    def paths(self) -> tuple[str, ...]:
        """Return the files to read: those of the inventory, and the unit's."""
        declared = [s.env_file or s.file for _, s in self.declared()]
        found = [path for path, _ in self.unit.env_files]
        every = [*filter(None, declared), *found, *self.unit.config_files]
        # What systemd would expand (a glob) is not followed here.
        return tuple(dict.fromkeys(path for path in every if not re.search(r"[*?\[]", path)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """What hosts are configured to, and what could not be seen of it."""

    configured: tuple[Configured, ...]
    unseen: tuple[str, ...]


def configured(services: Sequence[str], fleet: Fleet) -> Drive[Read]:
    """Read what the hosts of these services are configured to; what fails is told."""
    seats = [
        _Seat(name=name, service=fleet.service(name), host=host)
        for name in services
        for host in fleet.service_hosts(name)
    ]
    silent: dict[str, list[str]] = defaultdict(list)
    seats = yield from _units(seats, silent)
    yield from _files(seats, silent)
    yield from _with_sudo(seats, silent)
    values = [value for seat in seats for value in _values(seat, silent)]
    told = tuple(f"{_listed(hosts)}: {what}" for what, hosts in silent.items())
    return Read(configured=tuple(values), unseen=told)


# ---- looking -------------------------------------------------------------------------------

_Silent = dict[str, list[str]]


def _together(looks: Sequence[ReadCommand]) -> Drive[tuple[CommandOutcome | DoorError, ...]]:
    if not looks:
        return ()
    outcomes: tuple[Any, ...] = yield from ask(Together(effects=tuple(looks), within_s=WITHIN_S))
    return outcomes


def _units(seats: Sequence[_Seat], silent: _Silent) -> Drive[list[_Seat]]:
    """Ask systemd what each unit gives its processes; return the seats whose hosts answer."""
    outcomes = yield from _together([_show(seat) for seat in seats])
    there = []
    for seat, outcome in zip(seats, outcomes, strict=True):
        if isinstance(outcome, DoorError):
            _silence(silent, seat, _not_told(outcome, seat.host.name))
            continue
        there.append(seat)
        if seat.by_systemd:
            seat.unit = parse_unit(outcome.stdout)
            problem = seat.unit.problem or ("" if seat.unit.loaded else "systemd has no such unit")
            if problem:
                _silence(silent, seat, f"what {seat.unit_name} is started with: {problem}")
    return there


def _show(seat: _Seat) -> ReadCommand:
    """Ask for a unit; where no systemd runs the service, only whether the host answers."""
    properties = [f"--property={name}" for name in pool_settings.SHOWN]
    show = (SYSTEMCTL, "show", *properties, "--", seat.unit_name)
    argv = show if seat.by_systemd else ("true",)
    return ReadCommand(host=seat.host.name, argv=argv, timeout_s=TIMEOUT_S)


def _files(seats: Sequence[_Seat], silent: _Silent) -> Drive[None]:
    wanted = [(seat, seat.paths()) for seat in seats if seat.paths()]
    outcomes = yield from _together([_read(seat, paths, sudo=False) for seat, paths in wanted])
    for (seat, paths), outcome in zip(wanted, outcomes, strict=True):
        if isinstance(outcome, DoorError):
            _silence(silent, seat, _not_told(outcome, seat.host.name))
            continue
        seat.files = parse_read(outcome.stdout, paths) or dict.fromkeys(
            paths, FileRead(state="garbled")
        )


def _with_sudo(seats: Sequence[_Seat], silent: _Silent) -> Drive[None]:
    """Ask as root for what was closed, where the inventory lets us."""
    wanted = [(seat, closed) for seat in seats if (closed := _closed(seat)) and _may_sudo(seat)]
    outcomes = yield from _together([_read(seat, paths, sudo=True) for seat, paths in wanted])
    for (seat, paths), outcome in zip(wanted, outcomes, strict=True):
        if isinstance(outcome, DoorError):
            _silence(silent, seat, _not_told(outcome, seat.host.name))
            continue
        read = parse_read(outcome.stdout, paths)
        if read is None:
            seat.no_sudo = visible(outcome.stderr.strip().partition("\n")[0]) or "sudo failed"
        seat.files.update(read or {})


def _closed(seat: _Seat) -> tuple[str, ...]:
    return tuple(path for path, read in seat.files.items() if read.state == "closed")


def _may_sudo(seat: _Seat) -> bool:
    return seat.service.settings.sudo and seat.host.sudo


def _read(seat: _Seat, paths: Sequence[str], *, sudo: bool) -> ReadCommand:
    return ReadCommand(
        host=seat.host.name,
        argv=read_argv(paths),
        timeout_s=TIMEOUT_S,
        sudo=sudo,
        keep_bytes=keep_bytes(paths),
    )


def _not_told(error: DoorError, host: str) -> str:
    why = re.sub(rf"^{re.escape(host)}( \([^)]*\))?: ", "", error.message)
    return f"what is configured there was not told: {why}"


def _silence(silent: _Silent, seat: _Seat, what: str) -> None:
    if seat.host.name not in silent[what]:
        silent[what].append(seat.host.name)


def _listed(hosts: Sequence[str]) -> str:
    more = f" and {len(hosts) - 3} more" if len(hosts) > 3 else ""
    return ", ".join(hosts[:3]) + more


# ---- judging -------------------------------------------------------------------------------


def _values(seat: _Seat, silent: _Silent) -> Iterator[Configured]:
    """Yield what is declared to be there, then what else was found."""
    places = set()
    for what, setting in seat.declared():
        try:
            value, source = _of_setting(seat, what, setting)
        except CannotSet as error:
            _silence(silent, seat, f"services.{seat.name}.settings.{what}: {error}")
            continue
        _note_outdone(seat, what, setting, silent)
        places.add((what, source.partition(",")[0]))
        yield _configured(seat, what, value, source, declared=True)
    for path, (_, may_miss) in _unit_files(seat).items():
        _note_closed(seat, path, silent, may_miss=may_miss)
    for found in pool_settings.found(seat.unit_name, seat.unit, seat.texts):
        if (found.what, found.source.partition(",")[0]) not in places:
            yield _configured(seat, found.what, found.value, found.source, declared=False)


def _configured(
    seat: _Seat, what: pool_settings.What, value: str, source: str, *, declared: bool
) -> Configured:
    return Configured(
        service=seat.name,
        host=seat.host.name,
        name=what,
        value=value,
        source=source,
        declared=declared,
    )


def _of_setting(seat: _Seat, what: pool_settings.What, setting: Setting) -> tuple[str, str]:
    """Return what the inventory's place holds, and the place in words.

    Raises:
        CannotSet: when it holds nothing of the kind; the message says why.
    """
    raw, source = _raw(seat, setting)
    value = pool_settings.told(what, raw)
    if value is None:
        raise CannotSet(f"{source} holds no whole number")
    return value, source


def _raw(seat: _Seat, setting: Setting) -> tuple[str, str]:
    if setting.environment is not None:
        return _of_environment(seat, setting.environment)
    path = str(setting.env_file or setting.file)
    text = _text(seat, path)
    if setting.match is not None:
        value = matched_value(text, setting.match)
        return value, f"{path} line {_line(text, setting.match)}"
    key = str(setting.key)
    if env_value(text, key) is None:
        raise CannotSet(f"{path} does not set {key}")
    last = next(each for each in reversed(assignments(text)) if each.key == key)
    return last.value, f"{path} line {last.line}, {key}"


def _of_environment(seat: _Seat, variable: str) -> tuple[str, str]:
    if not seat.by_systemd:
        raise CannotSet(f"{variable} is in no systemd unit: {seat.name} is run by other commands")
    values = [value for key, value in seat.unit.environment if key == variable]
    if not values:
        path = pool_settings.source_of(variable, seat.unit, seat.texts)
        where = f"; it is in {path}" if path else ""
        raise CannotSet(f"{seat.unit_name} has no {variable} in its Environment{where}")
    return values[-1], f"Environment of {seat.unit_name}, {variable}"


def _text(seat: _Seat, path: str) -> str:
    read = seat.files.get(path, FileRead(state="garbled"))
    if read.state != "file":
        raise CannotSet(_why(seat, path, read))
    return read.text


def _why(seat: _Seat, path: str, read: FileRead) -> str:
    """Say why a file was not read, and what would mend it."""
    if read.state != "closed":
        why = {
            "absent": "is not there",
            "other": "is no regular file",
            "large": "is too large for settings",
        }
        return f"{path} {why.get(read.state, 'is no UTF-8 text, or was not read to its end')}"
    if not seat.service.settings.sudo:
        return f"{path} may not be read by this user: services.{seat.name}.settings.sudo: true"
    if not seat.host.sudo:
        return f"{path} may not be read by this user, and hosts.{seat.host.name}.sudo is off"
    line = sudoers_line(seat.host.ssh.user or "USER", SH)
    return (
        f"{path} may not be read by this user, and sudo for `sh` failed: {seat.no_sudo}; let it"
        f" read the file, or give its sudoers (all of root) {line}"
    )


def _line(text: str, pattern: str) -> int:
    compiled = re.compile(pattern)
    lines = enumerate(text.split("\n"), start=1)
    return next((number for number, line in lines if compiled.search(line)), 0)


def _unit_files(seat: _Seat) -> Mapping[str, tuple[str, bool]]:
    declared = {s.env_file or s.file for _, s in seat.declared()}
    return {path: (path, may) for path, may in seat.unit.env_files if path not in declared}


def _note_closed(seat: _Seat, path: str, silent: _Silent, *, may_miss: bool) -> None:
    """Tell of an EnvironmentFile that was not read, unless it may well be missing."""
    read = seat.files.get(path)
    if read is None:
        if seat.files:
            _silence(silent, seat, f"EnvironmentFile={path} is a pattern: its files were not read")
    elif read.state != "file" and not (read.state == "absent" and may_miss):
        _silence(silent, seat, _why(seat, path, read))


def _note_outdone(seat: _Seat, what: str, setting: Setting, silent: _Silent) -> None:
    """Tell where the unit takes a declared variable from elsewhere, or does not read its file."""
    variable = setting.key or setting.environment
    if variable is None or not seat.unit.loaded:
        return
    place = f"services.{seat.name}.settings.{what}"
    if setting.env_file and setting.env_file not in {path for path, _ in seat.unit.env_files}:
        text = f"{place}: {seat.unit_name} does not read {setting.env_file} (EnvironmentFile)"
        _silence(silent, seat, text)
        return
    source = pool_settings.source_of(variable, seat.unit, seat.texts)
    if source is not None and source != (setting.env_file or ""):
        text = f"{place}: {variable} is overridden by {source or 'Environment'}, which counts"
        _silence(silent, seat, text)
