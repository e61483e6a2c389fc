"""The ladder into a database that has no slot left: rung by rung, with what each one said."""

from __future__ import annotations

import getpass
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook.adapters.postgres_dns import NameNotFound, with_addresses
from runbook.adapters.postgres_errors import Door, StalledLogin, refused
from runbook.adapters.postgres_host import ServerHost
from runbook.adapters.postgres_psql import Psql
from runbook.adapters.postgres_wire import Wire
from runbook.adapters.secrets import resolve
from runbook.model.errors import DoorError, MissingGrant, SlotRefused, Unreachable
from runbook.model.inventory import LocalSocket

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runbook.adapters.postgres_talk import Talk
    from runbook.model.fleet import Fleet
    from runbook.model.inventory import Credentials, Database, Secret
    from runbook.model.ports import Door as HostDoor
    from runbook.model.sessions import Rung

#: A dead network is noticed within seconds, not after the two hours of the kernel's defaults.
_KEEPALIVE = {
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "11000",
}
#: The rungs that run a playbook's SQL. Never a superuser's, of whom the playbook does not know:
#: what its statement calls, a trigger or a function of the application, would have all rights.
PLAYBOOKS: frozenset[Rung] = frozenset({"connect", "rescue"})
#: The rungs of a superuser, for statements of runbook's own that no other role may make.
ADMIN: frozenset[Rung] = frozenset({"admin", "local"})
#: What a SlotRefused says before it gives the server's own words.
_NO_SLOT = re.compile(r" has no connection slot for .*?: ")
#: Seconds before each further climb when every rung said that it has no slot: slots churn, so one
#: refusal proves little, and two a tenth of a second apart are enough: what opens a moment later
#: is found by the next look. No more: each knock of ours is one more login for a server that has
#: too many, and each climb with SSH in it costs whoever waits a quarter of a second.
_CLIMB_AGAIN_S = (0.1,)
#: Seconds after which no further climb begins: somebody waits for the diagnosis.
_CLIMB_WITHIN_S = 1.0
#: Seconds in which a ladder that was found shut is climbed but once more at a time: whoever looks
#: again and again (a termination from the host) must not knock twice each time.
_SHUT_FOR_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A way in that opened."""

    talk: Talk
    #: Which rung it is, and what the rungs before it said.
    rung: Rung
    refusals: tuple[tuple[str, str], ...]
    #: Seconds from the first knock to the open door.
    seconds: float


class NoDoor(Exception):
    """Every rung that makes a connection was refused: what each said, and the error for users."""

    def __init__(
        self, error: DoorError, refusals: tuple[tuple[str, str], ...], seconds: float
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.refusals = refusals
        self.seconds = seconds


class Ladder:
    """The rungs of one database, as the inventory declares them."""

    def __init__(self, name: str, fleet: Fleet, hosts: HostDoor | None) -> None:
        self.name = name
        self.database: Database = fleet.database(name)
        self._fleet = fleet
        self._hosts = hosts if self.database.host else None
        self._shut_at = -_SHUT_FOR_S

    @property
    def rungs(self) -> Mapping[Rung, Callable[[], Talk]]:
        """The rungs that make a connection, in order, each with how it is opened."""
        database = self.database
        declared: dict[Rung, Callable[[], Talk] | None] = {
            "connect": self._connect,
            "admin": self._with("admin", database.admin) if database.admin else None,
            "local": self._local(database.local) if database.local else None,
            "rescue": self._with("rescue", database.rescue) if database.rescue else None,
        }
        return {rung: opener for rung, opener in declared.items() if opener is not None}

    @property
    def host(self) -> ServerHost | None:
        """The server's host, when the inventory has it: the rung `os`."""
        if self._hosts is None or self.database.host is None:
            return None
        # Undeclared, its port is the one that we connect to.
        local = self.database.local or LocalSocket(port=self.database.connect.port)
        return ServerHost(self._hosts, self._fleet.host(self.database.host), local, self.name)

    def climb(self, *, own: bool = True) -> Entry:
        """Enter by the first rung that has a slot; `own` says that the SQL will be our own.

        Raises:
            NoDoor: every rung was refused, for want of a slot or of an answer.
            DatabaseLogin, MissingGrant, Unreachable, SecretMissing: the first rung failed for
                another reason, so that no other one is tried.
        """
        rungs = {rung: open_ for rung, open_ in self.rungs.items() if own or rung in PLAYBOOKS}
        shut_lately = time.monotonic() - self._shut_at < _SHUT_FOR_S
        try:
            return _Climb(self, rungs).run(() if shut_lately else _CLIMB_AGAIN_S)
        except NoDoor:
            self._shut_at = time.monotonic()
            raise

    def climb_as_admin(self) -> Entry:
        """Enter by the first of `ADMIN`'s rungs that has a slot.

        Raises:
            MissingGrant: the inventory has none of them.
            NoDoor, DatabaseLogin, Unreachable, SecretMissing: see `climb`.
        """
        rungs = {rung: open_ for rung, open_ in self.rungs.items() if rung in ADMIN}
        if not rungs:
            raise MissingGrant(
                f"{self.name}: the inventory declares no door for an admin",
                hint=f"declare databases.{self.name}.admin (a superuser), or"
                f" databases.{self.name}.local (psql as postgres on its host, over SSH)",
            )
        return _Climb(self, rungs).run(_CLIMB_AGAIN_S)

    # ---- the rungs

    def _connect(self) -> Talk:
        connect = self.database.connect
        return self._wire(self._door("connect", connect.user, connect.dbname), connect.password)

    def _with(self, rung: Rung, credentials: Credentials) -> Callable[[], Talk]:
        dbname = credentials.dbname or self.database.connect.dbname
        door = self._door(rung, credentials.user, dbname)
        return lambda: self._wire(door, credentials.password)

    def _local(self, local: LocalSocket) -> Callable[[], Talk] | None:
        hosts, database = self._hosts, self.database
        if hosts is None or database.host is None:
            return None
        door = Door(
            database=self.name,
            rung="local",
            host=local.socket_dir,
            port=local.port,
            dbname=database.connect.dbname,
            user=local.os_user,
        )
        host = self._fleet.host(database.host)
        return lambda: Psql(hosts, host, local, door, application_name()).open()

    def _door(self, rung: Rung, user: str, dbname: str) -> Door:
        connect = self.database.connect
        return Door(
            database=self.name,
            rung=rung,
            host=connect.host,
            port=connect.port,
            dbname=dbname,
            user=user,
        )

    def _wire(self, door: Door, password: Secret | None) -> Talk:
        connect = self.database.connect
        deadline = time.monotonic() + connect.connect_timeout
        try:
            place = with_addresses(door.host, door.port, connect.connect_timeout)
        except NameNotFound as error:
            raise refused(door, str(error), None) from None
        settings = {
            **place,
            "port": str(door.port),
            "dbname": door.dbname,
            "user": door.user,
            "application_name": application_name(),
            "client_encoding": "UTF8",
            # One round trip less; logging in by Kerberos still works.
            "gssencmode": "disable",
            **_KEEPALIVE,
        }
        if door.rung == "rescue":
            # A walsender's slots are apart from max_connections (measured on 12 to 18: it gets in
            # when even superusers do not).
            settings["replication"] = "database"
        if password is not None:
            settings["password"] = resolve(password)
        if connect.sslmode is not None:
            settings["sslmode"] = connect.sslmode
        if connect.sslrootcert is not None:
            settings["sslrootcert"] = connect.sslrootcert
        return Wire.open(door, settings, max(0.1, round(deadline - time.monotonic(), 1)))


class _Climb:
    """One climb, and once or twice more while every rung says that it is full."""

    def __init__(self, ladder: Ladder, rungs: Mapping[Rung, Callable[[], Talk]]) -> None:
        self._ladder = ladder
        self._rungs = rungs
        self._started = time.monotonic()
        #: The last words of each rung that refused.
        self._said: dict[Rung, str] = {}
        self._stalled: StalledLogin | None = None

    def run(self, pauses: Sequence[float]) -> Entry:
        entry, full = self._pass(list(self._rungs))
        for pause in pauses:
            if entry or not full or self._seconds > _CLIMB_WITHIN_S:
                break
            time.sleep(pause)
            entry, full = self._pass(full)
        if entry:
            return entry
        raise NoDoor(self._error(), self._refusals, self._seconds)

    def _pass(self, rungs: Sequence[Rung]) -> tuple[Entry | None, list[Rung]]:
        """Try rungs in order; return the first that opens, else those that were full."""
        full: list[Rung] = []
        for rung in rungs:
            if rung == "admin" and self._stalled:
                continue  # the same way as `connect`, and the same silence
            try:
                talk = self._rungs[rung]()
            except SlotRefused as error:
                full.append(rung)
                self._said[rung] = _NO_SLOT.split(error.message, maxsplit=1)[-1]
            except DoorError as error:
                self._note(rung, error)
            else:
                return self._entry(rung, talk), []
        return None, full

    def _note(self, rung: Rung, error: DoorError) -> None:
        """Take down a rung's failure; the first rung's ends the climb, unless it is a stall.

        Further up, a broken rung must not hide that there is no slot, nor end the climb.
        """
        if not self._said:
            if not isinstance(error, StalledLogin) or self._ladder.host is None:
                raise error
            self._stalled = error
        hint = f" ({error.hint})" if error.hint and not self._stalled else ""
        self._said[rung] = f"{error.message}{hint}"

    def _entry(self, rung: Rung, talk: Talk) -> Entry:
        return Entry(talk=talk, rung=rung, refusals=self._refusals, seconds=self._seconds)

    @property
    def _refusals(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._said.items())

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _error(self) -> DoorError:
        if self._stalled is None:
            return all_refused(self._ladder, self._refusals)
        said = "; ".join(f"{rung}: {text}" for rung, text in self._refusals if rung != "connect")
        message = f"{self._stalled.message}; {said}" if said else self._stalled.message
        return Unreachable(message, hint=self._stalled.hint)


def all_refused(ladder: Ladder, refusals: Sequence[tuple[str, str]]) -> SlotRefused:
    """Return the error of a ladder of which no rung opened."""
    name, database = ladder.name, ladder.database
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


def application_name() -> str:
    """Return what pg_stat_activity shows of us: `runbook USER@HOST`, ASCII, 63 bytes at most."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        who = "?"  # a container's user may have no name
    text = f"runbook {who}@{socket.gethostname().split('.')[0]}"
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:63]
