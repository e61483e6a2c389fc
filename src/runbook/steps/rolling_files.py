"""The files that hold a host's settings: what each is, what it shall be, and its way back.

No content of a file leaves this module but in a PutFile: what is kept and shown are paths, digests,
numbers, and where a connection string leads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from posixpath import dirname
from typing import Any

from runbook.model.database_url import CannotLead, endpoint_of, lead_to
from runbook.model.document import visible
from runbook.model.effects import (
    Change,
    ChangeCommand,
    CommandOutcome,
    Observe,
    PutFile,
    ReadCommand,
)
from runbook.model.errors import DoorError
from runbook.model.host_files import (
    LARGEST,
    FileSeen,
    folder_argv,
    look_argv,
    parse_look,
    remove_argv,
    sha256,
)
from runbook.model.setting_text import CannotSet, read_drop_in
from runbook.model.systemd import SYSTEMCTL, Unfit
from runbook.steps.file_args import backup_of
from runbook.steps.rolling_wanted import Item, Place, Wanted
from runbook.steps.service_manager import on_host

RELOAD_ARGV = (SYSTEMCTL, "daemon-reload")
_LOOK_TIMEOUT_S = 30.0
_RELOAD_TIMEOUT_S = 90.0
#: What stands before the content fits the rest.
_KEEP = LARGEST + 8192


@dataclass(frozen=True, kw_only=True)
class FileWish:
    """What a file is and what it shall be; None is a file that is not there."""

    place: Place
    old: str | None
    new: str | None
    #: What changes, for people: `POOL_SIZE 5 -> 10`.
    told: str
    #: Rights of a file that is made, or must be closed to others.
    mode: str | None = None
    owner: str | None = None
    #: Its folder has to be made first.
    folder: bool = False

    @property
    def path(self) -> str:
        """Where it is."""
        return self.place.path

    @property
    def before(self) -> str:
        """Its digest now; "" for none."""
        return sha256(self.old) if self.old is not None else ""

    @property
    def after(self) -> str:
        """The digest that it shall have; "" for none."""
        return sha256(self.new) if self.new is not None else ""

    @property
    def changes(self) -> bool:
        """Whether there is anything to write."""
        return self.old != self.new


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What a look at a host's settings came to."""

    wishes: tuple[FileWish, ...] = ()
    #: Each value as it is and as it shall be, for the record.
    values: tuple[dict[str, Any], ...] = ()
    #: Files that are not there, and that nothing is wished of.
    gone: frozenset[str] = frozenset()

    @property
    def changed(self) -> tuple[FileWish, ...]:
        """Return what is to be written."""
        return tuple(wish for wish in self.wishes if wish.changes)


# ---- looks ---------------------------------------------------------------------------------


def looks(wanted: Wanted) -> tuple[Observe[Any], ...]:
    """Return the looks at every file; then at its backup, or at the unit's own environment."""
    files = [file_look(wanted, place.path) for place in wanted.places]
    if wanted.restore is not None:
        kept = [file_look(wanted, backup_of(p.path, wanted.restore)) for p in wanted.places]
        return (*files, *kept)
    return (*files, environment_look(wanted)) if wanted.drop_in else tuple(files)


def file_look(wanted: Wanted, path: str) -> ReadCommand:
    """Return the look at one file."""
    return ReadCommand(
        host=wanted.host.name,
        argv=look_argv(path),
        timeout_s=_LOOK_TIMEOUT_S,
        sudo=wanted.sudo,
        keep_bytes=_KEEP,
    )


def environment_look(wanted: Wanted) -> ReadCommand:
    """Ask for the unit's `Environment=` as systemd has it, in JSON: its show cannot tell all."""
    escaped = "".join(
        char
        if char.isascii() and char.isalnum() and not (at == 0 and char.isdigit())
        else "".join(f"_{byte:02x}" for byte in char.encode())
        for at, char in enumerate(wanted.unit)
    )
    service = "org.freedesktop.systemd1"
    path = f"/org/freedesktop/systemd1/unit/{escaped}"
    words = ("get-property", service, path, f"{service}.Service", "Environment")
    argv = ("busctl", "--json=short", *words)
    return ReadCommand(host=wanted.host.name, argv=argv, timeout_s=_LOOK_TIMEOUT_S)


def environment_of(outcome: CommandOutcome | DoorError) -> dict[str, str] | Unfit:
    """Return the unit's variables, as systemd told them."""
    said = outcome.message if isinstance(outcome, DoorError) else outcome.stderr.strip()
    try:
        pairs = json.loads(outcome.stdout)["data"] if isinstance(outcome, CommandOutcome) else None
    except (ValueError, KeyError, TypeError):
        pairs = None
    if not isinstance(pairs, list):
        problem = f"systemd does not tell the unit's environment: {visible(said)[:200]}"
        return Unfit(problem=problem, hint="busctl --json=short needs systemd 240 or later")
    return dict(str(pair).split("=", 1) for pair in pairs if "=" in str(pair))


def seen_file(outcome: Any, path: str, *, sudo: bool) -> FileSeen | Unfit:
    """Return what a look saw; a folder that is not there yet is told as `why`."""
    if isinstance(outcome, DoorError):
        return Unfit(problem=outcome.message, hint=outcome.hint or "")
    if outcome.stdout.startswith("nofolder "):
        return FileSeen(kind="absent", why="nofolder")
    seen = parse_look(outcome.stdout, path)
    if seen is None:
        said = visible(outcome.stderr.strip().rpartition("\n")[2])[:200]
        hint = (
            "settings.sudo looks and writes with `sudo -n sh`; in sudoers there, for the user that"
            " logs in: USER ALL=(root) NOPASSWD: /usr/bin/sh, /bin/sh"
        )
        problem = f"{path} could not be looked at: {said or f'exit code {outcome.exit_code}'}"
        return Unfit(problem=problem, hint=hint if sudo else "settings.sudo: true looks as root")
    if seen.kind == "refused":
        return Unfit(problem=seen.why, hint=seen.hint)
    return seen


def judged(wanted: Wanted, outcomes: Sequence[Any], run_id: str) -> Looked | Unfit:
    """Judge the outcomes of `looks`: what is to become of each file, or why that cannot be."""
    count = len(wanted.places)
    seen: list[FileSeen] = []
    paths = [place.path for place in wanted.places]
    if wanted.restore is not None:
        paths += [backup_of(path, wanted.restore) for path in paths]
    for path, outcome in zip(paths, outcomes, strict=False):
        file = seen_file(outcome, path, sudo=wanted.sudo)
        if isinstance(file, Unfit):
            return file
        seen.append(file)
    told = environment_of(outcomes[-1]) if wanted.restore is None and wanted.drop_in else {}
    if isinstance(told, Unfit):
        return told
    return _wishes(wanted, seen[:count], seen[count:], told, run_id)


def _wishes(
    wanted: Wanted,
    seen: Sequence[FileSeen],
    backups: Sequence[FileSeen],
    environment: Mapping[str, str],
    run_id: str,
) -> Looked | Unfit:
    wishes: list[FileWish] = []
    values: list[dict[str, Any]] = []
    gone: set[str] = set()
    for number, place in enumerate(wanted.places):
        backup = backups[number] if backups else None
        try:
            wish = _wish(wanted, place, seen[number], backup, environment, run_id)
        except (CannotSet, CannotLead) as error:
            return Unfit(problem=f"{place.path}: {error}", hint=_hint(wanted, place))
        if wish is not None:
            wishes.append(wish)
            values += _values(place, wish, environment)
        elif seen[number].kind != "file":
            gone.add(place.path)
    return Looked(wishes=tuple(wishes), values=tuple(values), gone=frozenset(gone))


def _hint(wanted: Wanted, place: Place) -> str:
    names = ", ".join(f"services.{wanted.service}.settings.{item.name}" for item in place.items)
    return f"look at the file, or at {names} in the inventory; nothing was changed"


def _wish(  # noqa: PLR0917 - one place, as it was seen
    wanted: Wanted,
    place: Place,
    seen: FileSeen,
    backup: FileSeen | None,
    environment: Mapping[str, str],
    run_id: str,
) -> FileWish | None:
    old = seen.content if seen.kind == "file" else None
    mode = owner = None
    if backup is None:
        new: str | None = old
        for item in place.items:
            new = item.written(new, environment, run_id)
        if place.drop_in and any(item.name == "url" for item in place.items):
            mode = "600"  # a connection string may hold a password
    elif backup.kind == "file":
        new = backup.content
        if old is not None and not _changed_by_values_alone(place, new, old, run_id):
            raise CannotSet(
                f"something else in it was changed since run {wanted.restore}, and would go back"
                f" as well: its backup is {backup_of(place.path, wanted.restore or '')}"
            )
        mode, owner = (backup.mode, backup.owner) if old is None else (None, None)
    elif place.drop_in and old is not None and read_drop_in(old).made_by == wanted.restore:
        new = None
    else:
        return None  # that run has not changed it
    return FileWish(
        place=place,
        old=old,
        new=new,
        told=_told(wanted, place, old, new, environment),
        mode=mode,
        owner=owner,
        folder=seen.why == "nofolder",
    )


def _changed_by_values_alone(place: Place, kept: str, now: str, run_id: str) -> bool:
    """Whether a backup with the values of now in it is the file as it is now."""
    text = kept
    for item in place.items:
        value = item.read(now, {})
        if value == item.read(kept, {}):
            continue
        if value is None or not _led_alone(item, item.read(kept, {}), value):
            return False
        text = item.put(text, value, run_id)
    return text == now


def _led_alone(item: Item, kept: str | None, now: str) -> bool:
    """Whether of a connection string only host and port differ: a new password would be lost."""
    if item.name != "url":
        return True
    try:
        endpoint = endpoint_of(now)
        return kept is not None and lead_to(kept, endpoint.host, endpoint.port) == now
    except CannotLead:
        return False


def _told(
    wanted: Wanted,
    place: Place,
    old: str | None,
    new: str | None,
    environment: Mapping[str, str],
) -> str:
    parts = [f"as before run {wanted.restore}"] if wanted.restore is not None else []
    for item in place.items:
        was, becomes = _read(item, old, environment), _read(item, new, {})
        if was != becomes:
            parts.append(f"{item.label} {item.shown(was)} -> {item.shown(becomes)}")
    return ", ".join(parts)


def _read(item: Item, text: str | None, environment: Mapping[str, str]) -> str | None:
    try:
        return item.read(text, environment)
    except CannotSet:
        return None


def _values(place: Place, wish: FileWish, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "name": item.name,
            "path": place.path,
            "label": item.label,
            "old": item.told(_read(item, wish.old, environment)),
            "new": item.told(_read(item, wish.new, {})),
        }
        for item in place.items
    ]


# ---- changes -------------------------------------------------------------------------------


def forward(wanted: Wanted, wish: FileWish, run_id: str) -> tuple[Change[CommandOutcome], ...]:
    """Return the changes that make a file what it shall be."""
    backup = backup_of(wish.path, run_id)
    if wish.new is None:
        why = f"{wish.told}: there was none" if wish.told else "there was none"
        return (_removal(wanted, wish.path, wish.before, backup, why),)
    folder = (
        ChangeCommand(
            host=wanted.host.name,
            argv=folder_argv(dirname(wish.path)),
            sudo=wanted.sudo,
            shown=f"make the folder {dirname(wish.path)}",
        ),
    )
    put = PutFile(
        host=wanted.host.name,
        path=wish.path,
        content=wish.new,
        expected=wish.before,
        backup=backup,
        mode=wish.mode,
        owner=wish.owner,
        sudo=wanted.sudo,
        shown=wish.told,
    )
    return (*(folder if wish.folder else ()), put)


def back(wanted: Wanted, path: str, old: str | None, after: str) -> Change[CommandOutcome]:
    """Return the change that puts a file back, if it is as this run has left it."""
    why = f"back, if {wanted.host.name} does not come back healthy"
    if old is None:
        return _removal(wanted, path, after, None, why)
    return PutFile(
        host=wanted.host.name,
        path=path,
        content=old,
        expected=after,
        # What its rights were went with it.
        mode=None if after else "600",
        sudo=wanted.sudo,
        shown=why,
    )


def _removal(
    wanted: Wanted, path: str, expected: str, backup: str | None, why: str
) -> ChangeCommand:
    kept = f", kept as {backup}" if backup else ""
    return ChangeCommand(
        host=wanted.host.name,
        argv=remove_argv(path, expected, backup),
        sudo=wanted.sudo,
        shown=f"remove {path} (sha256 {expected[:12]}{kept}; {why})",
    )


def reload_units(wanted: Wanted) -> ChangeCommand:
    """Let systemd read its unit files anew."""
    return ChangeCommand(
        host=wanted.host.name,
        argv=RELOAD_ARGV,
        timeout_s=_RELOAD_TIMEOUT_S,
        sudo=wanted.host.sudo,
    )


def writes(wanted: Wanted, looked: Looked, run_id: str) -> tuple[str, ...]:
    """Return what is touched before the restart, in order."""
    lines: list[str] = []
    for wish in looked.changed:
        for change in forward(wanted, wish, run_id):
            lines += sorted(change.footprint(), reverse=True)
    if any(wish.place.drop_in for wish in looked.changed):
        lines += reload_units(wanted).footprint()
    return tuple(lines)


def ways_back(wanted: Wanted, looked: Looked) -> tuple[str, ...]:
    """Return what is touched when the host does not come back healthy, in order."""
    lines: list[str] = []
    for wish in looked.changed:
        lines += back(wanted, wish.path, wish.old, wish.after).footprint()
    again = f"{wanted.host.name}: restart {wanted.unit} again, if it does not come back healthy"
    return (*lines, again) if lines else ()


def by_hand(
    wanted: Wanted, path: str, before: str, run_id: str, *, drop_in: bool
) -> tuple[str, ...]:
    """Return the commands with which a person puts a file back."""
    sudo = ("sudo",) if wanted.sudo else ()
    backup = backup_of(path, run_id)
    argv = (*sudo, "cp", "-p", backup, path) if before else (*sudo, "rm", "-f", path)
    reload = (on_host(wanted.host, ("sudo", "systemctl", "daemon-reload")),) if drop_in else ()
    # An earlier step of the run may have changed it too: there is one backup of both.
    told = "  # the first that this run kept of it" if before else ""
    return (f"{on_host(wanted.host, argv)}{told}", *reload)


# ---- one host's settings on their way ---------------------------------------------------------


@dataclass(kw_only=True)
class OneFile:
    """A file that preflight has seen, and what has become of it."""

    path: str
    before: str
    after: str
    drop_in: bool
    #: This run has written it, or may have.
    ours: bool = False
    #: What it was, where this process has seen it; else the backup has it.
    old: str | None = None
    old_known: bool = False


@dataclass(kw_only=True)
class Configuration:
    """What is known of a host's settings on its way through the stages."""

    wanted: Wanted
    run_id: str
    files: list[OneFile]
    values: list[dict[str, Any]]
    #: Footprints of what this process has changed.
    touched: list[str] = field(default_factory=list)
    #: as it was; there already; put; put back; not put back
    state: str = "as it was"
    #: Healthy again, after it was put back.
    healthy_again: bool | None = None
    #: Why the host is neither written to nor restarted; "" when it is.
    left_alone: str = ""

    @property
    def ours(self) -> list[OneFile]:
        """Files that this run has written, or may have."""
        return [file for file in self.files if file.ours]

    def paths(self, files: Sequence[OneFile]) -> str:
        """Return their paths, for a sentence."""
        return ", ".join(file.path for file in files)

    def data(self) -> dict[str, Any]:
        """Return what the record keeps."""
        return {
            "state": self.state,
            "values": self.values,
            "files": [{"path": f.path, "before": f.before, "after": f.after} for f in self.files],
            "healthy_again": self.healthy_again,
        }

    def proof(self) -> str:
        """Say what the host has now."""
        labels = [f"{v['label']} {v['new']}" for v in self.values if v["name"] != "url"]
        labels += [f"{v['label']} led elsewhere" for v in self.values if v["name"] == "url"]
        if self.wanted.restore is not None:
            return f"settings as before run {self.wanted.restore}"
        already = " (there already)" if self.state == "there already" else ""
        return ", ".join(labels) + already

    def undo(self) -> tuple[str, ...]:
        """Return the command that undoes the whole run."""
        if not self.ours:
            return ()
        service = self.wanted.service
        return (f"runbook run rolling-restart {service} -p restore={self.run_id}  # undoes it",)

    def put_back_by_hand(self) -> tuple[str, ...]:
        """Return the commands that put back what still may hold the new setting."""
        if self.state == "put back":
            return ()
        return tuple(
            line
            for file in self.ours
            for line in by_hand(
                self.wanted, file.path, file.before, self.run_id, drop_in=file.drop_in
            )
        )
