"""Detached processes that are known by more than their pid: started, recognised, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_POLL_S = 0.02
#: Field 22 of /proc/PID/stat is the start time; what precedes the last ")" are fields 1 and 2.
_STATE, _STARTED = 3 - 3, 22 - 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """One process in time: a reused pid has another start time."""

    pid: int
    #: The kernel's own word for the start; only ever compared.
    started: str

    def __str__(self) -> str:
        return f"{self.pid}:{self.started}"


def identify(pid: int) -> Identity | None:
    """Return who runs under `pid` now; None for nobody, or for a zombie."""
    _reap(pid)
    started = _started_by_proc(pid) if Path("/proc/self/stat").exists() else _started_by_ps(pid)
    return Identity(pid=pid, started=started) if started else None


def is_alive(identity: Identity | None) -> bool:
    """Tell whether this very process still runs."""
    return identity is not None and identify(identity.pid) == identity


def _reap(pid: int) -> None:
    # Our own children stay zombies until somebody asks for them.
    with suppress(ChildProcessError, OverflowError):
        os.waitpid(pid, os.WNOHANG)


def _started_by_proc(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[_STATE] in {"Z", "X"} else fields[_STARTED]


def _started_by_ps(pid: int) -> str | None:
    answer = _ps(pid, "stat=,lstart=")
    state, _, started = answer.partition(" ")
    return None if not started or state.startswith("Z") else "-".join(started.split())


def command_line(pid: int) -> str:
    """Return the words of a process's command line, joined by blanks; empty when it is gone."""
    path = Path(f"/proc/{pid}/cmdline")
    if Path("/proc/self/stat").exists():
        try:
            return path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            return ""
    return _ps(pid, "args=")


def _ps(pid: int, columns: str) -> str:
    argv = ["ps", "-o", columns, "-p", str(pid)]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        check=False,
        timeout=5,
        env={**os.environ, "LC_ALL": "C"},
    )
    return done.stdout.strip()


def spawn(argv: Sequence[str], *, log: Path, cwd: Path, user: str | None = None) -> int:
    """Start a process that outlives us, its output in `log`; return its pid.

    It leads its own session, so that a Ctrl-C in our terminal does not reach it.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            start_new_session=True,
            user=user,
            group=primary_group(user) if user else None,
            extra_groups=[] if user else None,
        )
    # It is meant to run on: without a return code, Popen would warn of it when collected.
    process.returncode = 0
    return process.pid


def primary_group(user: str) -> int:
    """Return the primary group of a system user."""
    import pwd  # not on every platform that can import this file

    return pwd.getpwnam(user).pw_gid


def stop(
    identity: Identity | None,
    *,
    first: signal.Signals = signal.SIGTERM,
    grace_s: float = 5.0,
) -> bool:
    """Stop this very process: politely, then by force; tell whether it is gone."""
    for number, patience in ((first, grace_s), (signal.SIGKILL, 3.0)):
        if identity is None or not is_alive(identity):
            return True
        with suppress(ProcessLookupError):
            os.kill(identity.pid, number)
        _wait_gone(identity, patience)
    return not is_alive(identity)


def _wait_gone(identity: Identity, patience: float) -> None:
    deadline = time.monotonic() + patience
    while is_alive(identity) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def write_pid_file(path: Path, identity: Identity | None = None) -> None:
    """Record an identity (our own by default), whole or not at all."""
    who = identity or identify(os.getpid())
    if who is not None:
        write_atomically(path, json.dumps({"pid": who.pid, "started": who.started}))


def read_pid_file(path: Path) -> Identity | None:
    """Return the identity that a process has recorded; None when there is none to be read."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return Identity(pid=int(known["pid"]), started=str(known["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_atomically(path: Path, text: str) -> None:
    """Replace a file (0600) in one move: a reader sees the old text or the new one."""
    draft = path.with_name(f"{path.name}.tmp")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
