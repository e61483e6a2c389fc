"""Which runs have a process that works on them: a lock on one byte for each, in one file.

The kernel frees it when its process ends, however it ends. A look at it takes nothing: asking
whether a run is alive never keeps anybody from taking it up.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runbook.model.errors import DoorError, Locked

#: `struct flock` as Linux has it: type, whence, start, length, pid.
_FLOCK = "hhqqi4x"
#: One byte a run, far apart by their hashes: 2^56 places, and the file stays empty.
_HASH_BYTES = 7


class RunLocks:
    """One file beside the journal."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def hold(self, run_id: str) -> Iterator[None]:
        """Be the process that works on a run, for as long as the context lasts.

        Raises:
            Locked: when another process is.
            DoorError: when the file cannot be made.
        """
        descriptor = self._open()
        try:
            try:
                # A lock of the open file, not of the process: a second look at the file from this
                # process, once closed, would free the other kind.
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, run_id))
            except OSError as error:
                if error.errno not in {errno.EAGAIN, errno.EACCES}:
                    raise self._trouble(error) from error
                raise Locked(
                    f"run {run_id} goes on: a process on this machine works on it",
                    hint=f"`runbook runs show {run_id}` tells how far it is;"
                    f" `runbook runs cancel {run_id}` stops it as Ctrl-C does",
                ) from None
            yield
        finally:
            os.close(descriptor)

    def alive(self, run_id: str) -> bool:
        """Whether a process works on a run at this moment.

        Raises:
            DoorError: when the file cannot be looked at.
        """
        descriptor = self._open()
        try:
            answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, run_id))
        except OSError as error:
            raise self._trouble(error) from error
        finally:
            os.close(descriptor)
        return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)

    def _open(self) -> int:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._trouble(error) from error

    def _trouble(self, error: OSError) -> DoorError:
        return DoorError(
            f"the lock of runs {self._path} cannot be used: {error.strerror}",
            hint="mend the directory, or set RUNBOOK_STATE to one that can be written",
        )


def _flock(kind: int, run_id: str) -> bytes:
    digest = hashlib.sha256(run_id.encode()).digest()
    start = int.from_bytes(digest[:_HASH_BYTES], "big")
    return struct.pack(_FLOCK, kind, os.SEEK_SET, start, 1, 0)
