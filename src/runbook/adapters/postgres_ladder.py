"""The ladder into a database that has no slot left: rung by rung, with what each one said."""

from __future__ import annotations

import getpass
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook.adapters.postgres_errors import Door
from runbook.adapters.postgres_wire import Wire
from runbook.adapters.secrets import resolve
from runbook.model.errors import DoorError, SlotRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.model.inventory import Credentials, Database, Secret
    from runbook.model.sessions import Rung

#: A dead network is noticed within seconds, not after the two hours of the kernel's defaults.
_KEEPALIVE = {
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "11000",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A way in that opened."""

    wire: Wire
    #: Which rung it is, and what the rungs before it said.
    rung: Rung
    refusals: tuple[tuple[str, str], ...]
    #: Seconds from the first knock to the open door.
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rung:
    door: Door
    password: Secret | None
    replication: bool = False


def climb(name: str, database: Database) -> Entry:
    """Enter by the first rung that has a slot: `connect`, then `admin`, then `rescue`.

    `rescue` connects with `replication=database`: a walsender's slots are apart from
    max_connections (facts measured on 12 to 18: it gets in when even superusers do not).

    Raises:
        SlotRefused: when every rung was refused; the message has what each of them said.
        DatabaseLogin, MissingGrant, Unreachable, SecretMissing: the first rung failed for another
            reason than slots, so that no other rung is tried.
    """
    started = time.monotonic()
    refusals: list[tuple[str, str]] = []
    for rung in _rungs(name, database):
        try:
            wire = _open(rung, database)
        except SlotRefused as error:
            said = error.message.removeprefix(f"{rung.door.no_slot}: ")
            refusals.append((rung.door.rung, said))
        except DoorError as error:
            if not refusals:
                raise
            # Further up, a broken rung must not hide that there is no slot, nor end the climb.
            hint = f" ({error.hint})" if error.hint else ""
            refusals.append((rung.door.rung, f"{error.message}{hint}"))
        else:
            seconds = time.monotonic() - started
            return Entry(wire=wire, rung=rung.door.rung, refusals=tuple(refusals), seconds=seconds)
    raise _all_refused(name, database, refusals)


def _rungs(name: str, database: Database) -> Iterator[_Rung]:
    connect = database.connect
    yield _Rung(
        door=Door(
            database=name,
            rung="connect",
            host=connect.host,
            port=connect.port,
            dbname=connect.dbname,
            user=connect.user,
        ),
        password=connect.password,
    )
    further: tuple[tuple[Rung, Credentials | None], ...] = (
        ("admin", database.admin),
        ("rescue", database.rescue),
    )
    for rung, credentials in further:
        if credentials is None:
            continue
        yield _Rung(
            door=Door(
                database=name,
                rung=rung,
                host=connect.host,
                port=connect.port,
                dbname=credentials.dbname or connect.dbname,
                user=credentials.user,
            ),
            password=credentials.password,
            replication=rung == "rescue",
        )


def _open(rung: _Rung, database: Database) -> Wire:
    door, connect = rung.door, database.connect
    settings = {
        "host": door.host,
        "port": str(door.port),
        "dbname": door.dbname,
        "user": door.user,
        "application_name": application_name(),
        "client_encoding": "UTF8",
        # One round trip less; logging in by Kerberos still works.
        "gssencmode": "disable",
        **_KEEPALIVE,
    }
    if rung.replication:
        settings["replication"] = "database"
    if rung.password is not None:
        settings["password"] = resolve(rung.password)
    if connect.sslmode is not None:
        settings["sslmode"] = connect.sslmode
    if connect.sslrootcert is not None:
        settings["sslrootcert"] = connect.sslrootcert
    return Wire.open(door, settings, connect.connect_timeout)


def application_name() -> str:
    """Return what pg_stat_activity shows of us: `runbook USER@HOST`, ASCII, 63 bytes at most."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        who = "?"  # a container's user may have no name
    text = f"runbook {who}@{socket.gethostname().split('.')[0]}"
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:63]


def _all_refused(name: str, database: Database, refusals: list[tuple[str, str]]) -> SlotRefused:
    connect = database.connect
    said = "; ".join(f"{rung}: {text}" for rung, text in refusals)
    message = f"{name} ({connect.host}:{connect.port}) has no connection slot left for us: {said}"
    if database.rescue is None:
        hint = (
            f"give databases.{name}.rescue a role with REPLICATION, pg_monitor and"
            " pg_signal_backend: it gets in when every other slot is taken"
        )
    else:
        hint = "slots come and go: try again"
    where = database.host or connect.host
    by_hand = (
        f"; by hand on {where}: sudo -u postgres psql -p {connect.port}, and ps -u postgres -f"
    )
    return SlotRefused(message, hint=hint + by_hand, sqlstate="53300")
