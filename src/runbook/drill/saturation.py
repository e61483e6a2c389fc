"""The scenario: a shop on four app servers, one of which leaks until the database refuses."""

from __future__ import annotations

import contextlib
import random
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from runbook.drill import (
    app_server,
    appctl,
    cluster,
    inventory,
    probe,
    processes,
    signals,
    state,
    traffic,
)
from runbook.drill.errors import DrillError, require_extra
from runbook.drill.state import App, Layout, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

APP_NAMES = ("app-1", "app-2", "app-3", "app-4")
LEAKING = "app-3"
#: Below what the systems give to outgoing connections (from 32768 on Linux, 49152 on macOS), so
#: that none of them sits on the port of a server that is being restarted.
_PORTS = range(20_000, 30_000)
_PORT_ATTEMPTS = 3
_REPORTS_AT_MOST = 4 * cluster.MAX_CONNECTIONS
_WARM_UP_S = 20.0
#: How old the youngest leaked session is when `start` returns. No page comes sooner, and a session
#: that was idle for a moment only proves nothing: it may be between two statements.
LEAK_AGE_S = 6.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Drill:
    """A drill that runs: the app's role is refused."""

    state_dir: Path
    inventory: Path
    #: What to name on the command line: `runbook diagnose TARGET -i INVENTORY`.
    target: str
    service: str
    db_port: int
    leaked: int
    #: What the server says to the app's role.
    refusal: str
    #: Seconds from the start to the refusal.
    saturated_after: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerStatus:
    """One app server."""

    name: str
    port: int
    running: bool
    ready: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """What there is of a drill."""

    state_dir: Path
    #: none, starting, running or stopping; the last-but-one is the ordinary one.
    phase: str
    inventory: Path | None = None
    database_running: bool = False
    db_port: int = 0
    #: Slots that ordinary roles hold, and could hold; None when the database does not answer.
    used: int | None = None
    usable: int = cluster.USABLE
    app_role: str = "unknown"
    servers: tuple[ServerStatus, ...] = ()
    traffic_running: bool = False


def start(state_dir: Path | None = None, say: Callable[[str], None] | None = None) -> Drill:
    """Start the scenario and return once the database refuses the app; `say` hears of progress.

    What was started is removed again when the start fails or is interrupted.

    Raises:
        DrillRefused: when a drill is there already.
        DrillError: when it cannot be built here.
    """
    require_extra()
    began = time.monotonic()
    root = state.resolve(state_dir)
    _check_name(root)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with state.locked(root):
        home = cluster.choose_home(root)
        drill = state.create(root, home=home.path, user=home.user)
        try:
            return _build(root, drill, home, began, say or (lambda _: None))
        except BaseException:
            with signals.undisturbed():
                _tear_down(root)
            raise


def stop(state_dir: Path | None = None) -> bool:
    """Stop and remove everything; tell whether there was anything.

    Raises:
        DrillError: when something cannot be stopped or removed, or the directory holds no drill.
    """
    root = state.resolve(state_dir)
    if not root.is_dir():
        return False
    try:
        with state.locked(root, wait_s=20.0):
            return _tear_down(root)
    except FileNotFoundError:
        return False  # somebody else has just removed it


def status(state_dir: Path | None = None) -> Status:
    """Look at the drill without touching it."""
    root = state.resolve(state_dir)
    drill = state.load(root)
    if drill is None:
        return Status(state_dir=root, phase="none")
    layout = Layout(root=root)
    used, app_role = _look_inside(root, drill)
    return Status(
        state_dir=root,
        phase=drill.phase,
        inventory=layout.inventory if layout.inventory.exists() else None,
        database_running=processes.is_alive(drill.postmaster),
        db_port=drill.db_port,
        used=used,
        app_role=app_role,
        servers=tuple(_server_status(root, app) for app in drill.apps),
        traffic_running=processes.is_alive(
            processes.read_pid_file(layout.pid_file(traffic.NAME)),
        ),
    )


def _look_inside(root: Path, drill: State) -> tuple[int | None, str]:
    try:
        found = probe.sessions(root, drill.db_port).values()
        login = probe.log_in(root, drill.db_port)
    except (psycopg.Error, OSError):
        return None, "unknown"
    used = sum(role != cluster.ADMIN_ROLE for _, role in found)
    return used, "accepted" if login.accepted else "refused"


def _server_status(root: Path, app: App) -> ServerStatus:
    running = appctl.status(root, app.name) is not None
    ready = running and traffic.get(app.port, "/ready")[0] == 200
    return ServerStatus(name=app.name, port=app.port, running=running, ready=ready)


def _check_name(root: Path) -> None:
    # The inventory names this path, and ${...} means something there.
    if "${" in str(root) or not str(root).isprintable():
        raise DrillError(f"{str(root)!r} cannot be named in an inventory", hint="choose another")


def _build(
    root: Path, drill: State, home: cluster.Home, began: float, say: Callable[[str], None]
) -> Drill:
    say(f"starting PostgreSQL with {cluster.MAX_CONNECTIONS} connection slots")
    drill = _start_database(root, drill, home)
    say(f"starting {len(drill.apps)} app servers, each with a pool of {app_server.POOL_MAX}")
    _start_apps(root, drill)
    _start_traffic(root)
    _fill_pools(root, drill)
    say(f"{LEAKING} serves reports, and forgets to close their connections")
    refusal = _leak(root, drill)
    say(f"the database refuses the app: {refusal}")
    saturated_after = time.monotonic() - began
    say(f"a page takes its time: {LEAK_AGE_S:.0f} s")
    _let_traffic_flow(root, drill)
    layout = Layout(root=root)
    processes.write_atomically(layout.inventory, inventory.render(root, drill))
    state.save(root, replace(drill, phase="running", refused=time.time()))
    return Drill(
        state_dir=root,
        inventory=layout.inventory,
        target=inventory.TARGET,
        service=inventory.SERVICE,
        db_port=drill.db_port,
        leaked=len(probe.leaked_pids(drill)),
        refusal=refusal,
        saturated_after=saturated_after,
    )


def _start_database(root: Path, drill: State, home: cluster.Home) -> State:
    passwords = cluster.new_passwords()
    for role, password in passwords.items():
        processes.write_atomically(Layout(root=root).secret(role), password)
    cluster.initialise(home, passwords)
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        drill = _launch(root, drill, home)
        try:
            cluster.wait_ready(
                home, drill.db_port, _known(drill.postmaster), passwords[cluster.ADMIN_ROLE]
            )
            break
        except DrillError as error:
            # Somebody took the port between our choice and the server's start.
            if "Address already in use" not in error.message or attempt == _PORT_ATTEMPTS:
                raise
    cluster.populate(drill.db_port, passwords)
    return drill


def _launch(root: Path, drill: State, home: cluster.Home) -> State:
    db_port, *ports = free_ports(1 + len(APP_NAMES))
    apps = tuple(
        App(name=name, port=port, leaks=name == LEAKING)
        for name, port in zip(APP_NAMES, ports, strict=True)
    )
    postmaster = cluster.launch(home, db_port)
    return state.save(root, replace(drill, db_port=db_port, apps=apps, postmaster=postmaster))


def _known(postmaster: processes.Identity | None) -> processes.Identity:
    assert postmaster is not None  # noqa: S101 - launched one line ago
    return postmaster


def free_ports(count: int) -> list[int]:
    """Return ports on the loopback that nobody listens on now."""
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        for port in random.sample(_PORTS, k=200):
            if len(ports) == count:
                break
            door = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            with contextlib.suppress(OSError):
                door.bind((cluster.HOST, port))
                ports.append(port)
    if len(ports) < count:
        raise DrillError(f"no {count} free ports between {_PORTS.start} and {_PORTS.stop}")
    return ports


def _start_apps(root: Path, drill: State) -> None:
    children = {app.name: appctl.spawn(root, app, drill.db_port) for app in drill.apps}
    for app in drill.apps:
        if not appctl.await_started(root, app.name, children[app.name]):
            tail = cluster.log_tail(Layout(root=root).log(app.name))
            raise DrillError(f"{app.name} did not start: {tail}")


def _start_traffic(root: Path) -> None:
    argv = [sys.executable, "-P", "-m", "runbook.drill.traffic", "--dir", str(root)]
    appctl.spawn_noted(root, traffic.NAME, argv)


def _fill_pools(root: Path, drill: State) -> None:
    """Send bursts of customers until every pool has grown to its full size."""
    wanted = {f"shop-{app.name}": app_server.POOL_MAX for app in drill.apps}
    deadline = time.monotonic() + _WARM_UP_S
    while time.monotonic() < deadline:
        found = Counter(app for app, _ in probe.sessions(root, drill.db_port).values())
        if all(found[name] >= size for name, size in wanted.items()):
            return
        _burst(drill, size=2 * app_server.POOL_MAX)
    raise DrillError("the app servers' pools did not fill; is the machine very busy?")


def _burst(drill: State, *, size: int) -> None:
    customers = [
        threading.Thread(target=traffic.get, args=(app.port, "/order"), daemon=True)
        for app in drill.apps
        for _ in range(size)
    ]
    for customer in customers:
        customer.start()
    for customer in customers:
        customer.join()


def _leak(root: Path, drill: State) -> str:
    """Ask for reports until the app's role is refused; return the server's words."""
    leaking = next(app for app in drill.apps if app.leaks)
    for _ in _paced(_REPORTS_AT_MOST):
        if traffic.get(leaking.port, "/report")[0] == 200:
            continue
        login = probe.log_in(root, drill.db_port)
        if login.refused:
            return login.text.rpartition("FATAL:")[2].strip()
    raise DrillError(f"{_REPORTS_AT_MOST} reports did not saturate the database")


def _let_traffic_flow(root: Path, drill: State) -> None:
    """Wait until traffic has used every pooled connection: only the leaked ones are idle longer."""
    deadline = time.monotonic() + _WARM_UP_S
    while not probe.leak_is_plain(root, drill, age_s=LEAK_AGE_S):
        if time.monotonic() > deadline:
            raise DrillError("the traffic does not reach the app servers")
        time.sleep(0.1)


def _paced(count: int) -> Iterator[int]:
    # A breath between the reports, so that the leaked sessions differ in age as real ones do.
    for number in range(count):
        yield number
        time.sleep(0.02)


def _tear_down(root: Path) -> bool:
    drill = state.load(root)
    if drill is None:
        if state.remove_unmarked(root):
            return True
        raise DrillError(
            f"{root} holds no drill, so nothing was removed", hint="look at what is in it"
        )
    for name in (traffic.NAME, *APP_NAMES):
        appctl.stop_noted(root, name, grace_s=1.5)
    cluster.stop(cluster.Home(path=Path(drill.home), user=drill.user), drill.postmaster)
    state.remove(root, drill)
    return True
