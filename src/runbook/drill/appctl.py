"""Restart, stop and look at the drill's app servers, as a service manager would.

    python -m runbook.drill.appctl restart|status|stop --dir STATE --name app-1

`status` prints what changes with each start and exits 0 while the server runs, 3 when it does
not. Every command may be cut off half-way: the next one looks at the processes, not at notes.
"""

from __future__ import annotations

import argparse
import fcntl
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runbook.drill import processes, state
from runbook.drill.errors import DrillError
from runbook.model.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RUNNING, FAILED, NOT_RUNNING = 0, 1, 3
_START_S = 20.0
#: A start that was cut off may hold the port before it is noted; by the second try it is.
_ATTEMPTS = 3


def restart(root: Path, name: str) -> processes.Identity:
    """Stop the app server, start it anew, and return once it listens.

    Raises:
        DrillError: when it does not stop, or does not start.
    """
    app, db_port = _find(root, name)
    with _alone(root, name):
        for _ in range(_ATTEMPTS):
            stop_noted(root, name)
            started = _start(root, app, db_port)
            if started is not None:
                return started
    tail = _tail(state.Layout(root=root).log(name))
    raise DrillError(f"{name} did not start: {tail}")


def stop(root: Path, name: str) -> None:
    """Stop the app server, if it runs.

    Raises:
        DrillError: when it does not stop.
    """
    with _alone(root, name):
        stop_noted(root, name)


def status(root: Path, name: str) -> processes.Identity | None:
    """Return the identity of the running app server; None when it does not run."""
    identity = processes.read_pid_file(state.Layout(root=root).pid_file(name))
    return identity if processes.is_alive(identity) else None


def start_argv(root: Path, app: state.App, db_port: int) -> list[str]:
    """Return the command line that runs an app server."""
    # -P: a file in the current directory must not stand in for a module.
    argv = [sys.executable, "-P", "-m", "runbook.drill.app_server", "--dir", str(root)]
    argv += ["--name", app.name, "--port", str(app.port), "--db-port", str(db_port)]
    return [*argv, "--leak"] if app.leaks else argv


def spawn(root: Path, app: state.App, db_port: int) -> processes.Identity | None:
    """Start an app server without waiting for it."""
    return spawn_noted(root, app.name, start_argv(root, app, db_port))


def spawn_noted(root: Path, name: str, argv: Sequence[str]) -> processes.Identity | None:
    """Start one of the drill's processes, and note it at once: nothing may escape `stop`."""
    layout = state.Layout(root=root)
    child = processes.identify(processes.spawn(argv, log=layout.log(name), cwd=root))
    if child is not None:
        processes.write_pid_file(layout.child_file(name), child)
    return child


def stop_noted(root: Path, name: str, *, grace_s: float = 5.0) -> None:
    """Stop one of the drill's processes, whether it listens already or was only just started.

    Raises:
        DrillError: when it does not stop.
    """
    layout = state.Layout(root=root)
    for path in (layout.pid_file(name), layout.child_file(name)):
        identity = processes.read_pid_file(path)
        if not processes.stop(identity, grace_s=grace_s):
            raise DrillError(f"{name} (process {identity}) does not stop")


def await_started(root: Path, name: str, child: processes.Identity | None) -> bool:
    """Wait until `child` has noted itself as the running server; tell whether it did."""
    deadline = time.monotonic() + _START_S
    while processes.is_alive(child) and time.monotonic() < deadline:
        if processes.read_pid_file(state.Layout(root=root).pid_file(name)) == child:
            return True
        time.sleep(0.02)
    return False


def _start(root: Path, app: state.App, db_port: int) -> processes.Identity | None:
    child = spawn(root, app, db_port)
    if await_started(root, app.name, child):
        return child
    processes.stop(child, grace_s=0.0)
    return None


def _find(root: Path, name: str) -> tuple[state.App, int]:
    drill = state.load(root)
    if drill is None:
        raise DrillError(f"there is no drill in {root}", hint="runbook drill start saturation")
    app = next((each for each in drill.apps if each.name == name), None)
    if app is None:
        known = ", ".join(each.name for each in drill.apps)
        raise DrillError(f"the drill has no app server {name!r}", hint=f"it has: {known}")
    return app, drill.db_port


@contextmanager
def _alone(root: Path, name: str) -> Iterator[None]:
    path = state.Layout(root=root).lock_file(name)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return "(no log)"
    return lines[-1] if lines else "(empty log)"


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, obey, and return the exit code."""
    parser = argparse.ArgumentParser(prog="appctl", description="the drill's service manager")
    parser.add_argument("verb", choices=("restart", "status", "stop"))
    parser.add_argument("--dir", type=Path, required=True, help="the drill's state directory")
    parser.add_argument("--name", required=True, help="the app server")
    args = parser.parse_args(argv)
    try:
        return _obey(args.verb, args.dir.resolve(), args.name)
    except (RunbookError, OSError) as error:
        sys.stderr.write(f"appctl: {error}\n")
        return FAILED


def _obey(verb: str, root: Path, name: str) -> int:
    _find(root, name)
    if verb == "stop":
        stop(root, name)
        return RUNNING
    running = restart(root, name) if verb == "restart" else status(root, name)
    sys.stdout.write(f"{running or 'not running'}\n")
    return RUNNING if running else NOT_RUNNING


if __name__ == "__main__":
    sys.exit(main())
