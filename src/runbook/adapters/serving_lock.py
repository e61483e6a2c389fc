"""One `serve` for each state directory: two would take the same events twice."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runbook.model.document import visible
from runbook.model.errors import DoorError, Locked
from runbook.model.times import stamp


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Be the one for as long as the context lasts; the kernel frees it when the process ends.

    Raises:
        Locked: when another process is; the message names it.
        DoorError: when the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DoorError(
            f"the lock {path} cannot be made: {error.strerror}",
            hint="mend the directory, or set RUNBOOK_STATE to one that can be written",
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held(path, descriptor) from None
        since = stamp(time.time())
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "since": since}).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _held(path: Path, descriptor: int) -> Locked:
    try:
        read = json.loads(os.pread(descriptor, 4096, 0) or b"{}")
    except ValueError:
        read = {}
    note = read if isinstance(read, dict) else {}
    pid, since = (visible(str(note.get(key) or "unknown"))[:50] for key in ("pid", "since"))
    return Locked(
        f"another `runbook serve` works on {path.parent}: process {pid}, since {since}",
        hint=f"stop it first (systemctl stop runbook-serve, or kill {pid}); a second one needs a"
        " RUNBOOK_STATE of its own",
    )
