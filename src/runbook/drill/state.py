"""The drill's state directory: what is in it, who may change it now, and how it goes away."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runbook.drill.errors import DrillError, DrillRefused
from runbook.drill.processes import Identity, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator

Phase = Literal["starting", "running", "stopping"]
_MARKER = "drill.json"
_DRAFT = f"{_MARKER}.tmp"


@dataclass(frozen=True, kw_only=True, slots=True)
class App:
    """One app server of the drill."""

    name: str
    port: int
    #: Whether its report path forgets the connections that it opens.
    leaks: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """What has to be known to use the drill, and to remove it after any accident."""

    phase: Phase
    created: float
    #: Where PostgreSQL lives; as root outside of the state directory, readable by its user alone.
    home: str
    #: The system user that PostgreSQL runs as; None for our own.
    user: str | None
    db_port: int = 0
    postmaster: Identity | None = None
    apps: tuple[App, ...] = ()
    #: When the app's role was first refused (seconds since the epoch).
    refused: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The paths inside a state directory."""

    root: Path

    @property
    def marker(self) -> Path:
        return self.root / _MARKER

    @property
    def inventory(self) -> Path:
        return self.root / "inventory.yaml"

    @property
    def traffic_counts(self) -> Path:
        return self.root / "run" / "traffic-counts.json"

    def secret(self, role: str) -> Path:
        return self.root / "secrets" / role

    def pid_file(self, name: str) -> Path:
        return self.root / "run" / f"{name}.json"

    def child_file(self, name: str) -> Path:
        """Where the starter notes what it started: the pid file follows once it listens."""
        return self.root / "run" / f"{name}.child.json"

    def lock_file(self, name: str) -> Path:
        return self.root / "run" / f"{name}.lock"

    def log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"


def default_dir() -> Path:
    """Return where the drill lives by default: the user's state directory."""
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not base.is_absolute():  # the XDG specification ignores relative ones
        base = Path("~/.local/state").expanduser()
    return base / "runbook" / "drill"


def resolve(state_dir: Path | None) -> Path:
    """Return the absolute state directory, the default one for None."""
    return (state_dir or default_dir()).expanduser().resolve()


def load(root: Path) -> State | None:
    """Return the drill's state; None when there is no drill here.

    Raises:
        DrillError: when the state cannot be read.
    """
    marker = Layout(root=root).marker
    try:
        raw = json.loads(marker.read_text(encoding="utf-8"))
        postmaster = raw.pop("postmaster")
        apps = tuple(App(**app) for app in raw.pop("apps"))
        return State(**raw, apps=apps, postmaster=Identity(**postmaster) if postmaster else None)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise DrillError(
            f"{marker} belongs to another user", hint="run this as the user who started the drill"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DrillError(f"{marker} is no state of a drill: {error}") from None


def save(root: Path, state: State) -> State:
    """Write the drill's state, whole or not at all."""
    write_atomically(Layout(root=root).marker, json.dumps(asdict(state), indent=1))
    return state


def create(root: Path, *, home: Path, user: str | None) -> State:
    """Lay out an empty state directory; the marker comes first, so that `stop` can always clean up.

    Raises:
        DrillRefused: when a drill, or something else, is there already.
    """
    _refuse_occupied(root)
    root.chmod(0o700)
    state = State(phase="starting", created=time.time(), home=str(home), user=user)
    save(root, state)
    for name in ("secrets", "run", "logs"):
        (root / name).mkdir(mode=0o700)
    return state


def _refuse_occupied(root: Path) -> None:
    found = load(root)
    if found is not None:
        kind = "is running" if found.phase == "running" else "was left half-finished"
        raise DrillRefused(f"a drill {kind} in {root}", hint="runbook drill stop")
    others = sorted(entry.name for entry in root.iterdir() if entry.name != _DRAFT)
    if others:
        raise DrillRefused(
            f"{root} is not empty ({others[0]!r} is in it) and holds no drill",
            hint="choose an empty directory, or one that does not exist yet",
        )


@contextmanager
def locked(root: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the state directory: one start or stop at a time; the kernel frees it when we die.

    Raises:
        FileNotFoundError: when there is no such directory.
        DrillRefused: when another process holds it for longer than `wait_s`.
    """
    deadline = time.monotonic() + wait_s
    while (handle := _try_lock(root)) is None:
        if time.monotonic() >= deadline:
            raise DrillRefused(
                f"a drill is being started or stopped in {root}",
                hint="wait until it is done, then: runbook drill stop",
            )
        time.sleep(0.1)
    try:
        yield
    finally:
        os.close(handle)


def _try_lock(root: Path) -> int | None:
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # While we waited, a stop may have removed this directory and a start made another one.
        if os.path.samestat(os.fstat(handle), root.stat()):
            return handle
    except BlockingIOError:
        pass
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def remove(root: Path, state: State) -> None:
    """Remove all files of a drill; the marker goes last, so that a second try can finish."""
    save(root, replace(state, phase="stopping"))
    _remove_home(root, Path(state.home))
    for entry in root.iterdir():
        if entry.name != _MARKER:
            _remove_entry(entry)
    Layout(root=root).marker.unlink()
    root.rmdir()


def remove_unmarked(root: Path) -> bool:
    """Remove a directory in which a start died before it wrote its marker; tell whether it was."""
    if {entry.name for entry in root.iterdir()} - {_DRAFT}:
        return False
    (root / _DRAFT).unlink(missing_ok=True)
    root.rmdir()
    return True


def _remove_home(root: Path, home: Path) -> None:
    # We remove what a start has made, and no other path that a mangled state might name.
    if home.parent == root or home.name.startswith("runbook-drill-"):
        _remove_entry(home)


def _remove_entry(entry: Path) -> None:
    for _ in range(40):  # a process that is just dying may still write beside us
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
        if not os.path.lexists(entry):
            return
        time.sleep(0.05)
    raise DrillError(f"{entry} cannot be removed", hint="runbook drill stop, once more")
