"""Locks on this machine: one file a name, held by flock, so that the kernel frees it on kill -9."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from runbook.model.document import visible
from runbook.model.errors import DoorError, Locked
from runbook.model.times import stamp

#: Where runtime locks belong; and what is there on every machine, for every user.
_RUN_LOCK, _TMP = Path("/run/lock"), Path("/tmp")  # noqa: S108 - the same for all is the point


def shared_directory(run_lock: Path = _RUN_LOCK, tmp: Path = _TMP) -> Path:
    """Return where all users of this machine have their locks, root too.

    It must not hang on who asks, nor on their environment: two directories are two locks, and two
    rollings of one service at once. The rule is that of `target_lock_script`.
    """
    ours = run_lock / "runbook"
    if _is_sticky(run_lock) or ours.is_dir():
        return ours
    return tmp / "runbook-locks"


def _is_sticky(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_ISVTX)
    except OSError:
        return False


class FileLocks:
    """Locks under one directory; the file says who holds it, for whom it refuses."""

    def __init__(
        self,
        directory: Path,
        *,
        who: str,
        incident: str | None,
        environment: str | None = None,
        steal: bool = False,
    ) -> None:
        """Prepare; `environment` tells two inventories apart that use the same names."""
        self._directory = directory
        self._who = who
        self._incident = incident
        self._environment = environment
        self._steal = steal

    @contextmanager
    def hold(self, name: str, owner: str) -> Iterator[None]:
        """Hold the lock `name` for run `owner`.

        Raises:
            Locked: when another run holds it. It is never stolen: the kernel frees it when its
                holder ends, so whoever holds it is alive on this machine, and can be stopped.
            DoorError: when the lock's file cannot be made.
        """
        if self._environment:
            name = f"{name} in {self._environment}"
        descriptor = self._open(name)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._held(name, descriptor) from None
            self._sign(descriptor, name, owner)
            yield
        finally:
            os.close(descriptor)

    def _open(self, name: str) -> int:
        # Readable for a person, and unique even when two names read the same once cleaned.
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        path = self._directory / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', name)[:80]}-{digest}.lock"
        try:
            self._make_directory()
            return _open_shared(path)
        except OSError as error:
            raise self._trouble(path, error) from error

    def _make_directory(self) -> None:
        """Make the directory for all users, as /tmp is: each may add, nobody may take away."""
        if not os.path.lexists(self._directory):
            self._directory.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):  # made by somebody else in the meantime
                self._directory.mkdir()
                self._directory.chmod(0o1777)
        self._check_directory()

    def _check_directory(self) -> None:
        """Refuse a directory in which somebody could put a lock aside that another one holds."""
        is_ = self._directory.lstat()
        for_all = is_.st_mode & 0o1777 == 0o1777
        if not stat.S_ISDIR(is_.st_mode):
            why = "it is no directory, or a symbolic link to one"
        elif is_.st_mode & stat.S_IWOTH and not is_.st_mode & stat.S_ISVTX:
            why = f"everybody may remove files there (mode {is_.st_mode & 0o7777:o})"
        elif is_.st_uid not in {0, os.geteuid()} and not for_all:
            why = f"it belongs to user {is_.st_uid}, and is not for everybody (1777)"
        else:
            return
        raise DoorError(
            f"the locks cannot be kept in {self._directory}: {why}",
            hint=f"look whose it is, and as root: install -d -m 1777 {self._directory}",
        )

    def _trouble(self, path: Path, error: OSError) -> DoorError:
        return DoorError(
            f"the lock {path} cannot be made: {error.strerror}",
            hint="a change needs its lock: mend the directory, or set RUNBOOK_STATE",
        )

    def _sign(self, descriptor: int, name: str, owner: str) -> None:
        note = {
            "lock": name,
            "run": owner,
            "who": self._who,
            "incident": self._incident,
            "pid": os.getpid(),
            "since": stamp(time.time()),
        }
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(note).encode(), 0)
        except OSError as error:
            raise self._trouble(self._directory, error) from error

    def _held(self, name: str, descriptor: int) -> Locked:
        try:
            read = json.loads(os.pread(descriptor, 4096, 0) or b"{}")
        except ValueError:
            read = {}
        note = read if isinstance(read, dict) else {}
        who, run, pid = (_said(note, key) for key in ("who", "run", "pid"))
        incident = f" for {_said(note, 'incident')}" if note.get("incident") else ""
        stop = f"`runbook runs cancel {run}` stops it as Ctrl-C does, and kill {pid} as well"
        if self._steal:
            hint = (
                "a lock is not stolen from a process that is alive on this very machine: it would"
                f" work on beside this run. {stop}; its lock goes with it"
            )
        else:
            hint = (
                f"`runbook runs show {run}` tells what it does; wait for it, or ask {who}; {stop}"
            )
        return Locked(
            f"{name} is held by {who}{incident}: run {run}, process {pid} on this machine, since"
            f" {_said(note, 'since')}",
            hint=hint,
        )


def _said(note: dict[str, Any], key: str) -> str:
    """Return what the holder wrote; it may just be about to."""
    other = {"who": "somebody", "since": "just now"}.get(key, "unknown")
    return visible(str(note.get(key) or other))[:100]


def _open_shared(path: Path) -> int:
    """Open a lock that another user may have made, or make it for all to use.

    In a sticky directory the kernel refuses O_CREAT on another user's file (protected_regular),
    so making and opening are asked for apart.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        descriptor = os.open(path, flags | os.O_CREAT, 0o666)
        with suppress(PermissionError):  # made by somebody else in the meantime
            os.fchmod(descriptor, 0o666)
        return descriptor
