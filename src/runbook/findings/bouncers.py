"""What PgBouncers' consoles told, made into pools, clients and server connections.

Rows are read by name. Versions differ in their columns (1.18 has no `id`, 1.24 renames
`reserve_pool`, 1.25 tells idle clients apart), so what is missing is taken for not told.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runbook.model.sessions import PoolerLook, Snapshot

#: Seconds that the first client in the queue has waited before it counts: a pool is there to let
#: clients wait for milliseconds, and SHOW POOLS' own figure in whole seconds is then still 0.
WAITS_S = 1.0
#: The console's own virtual database.
CONSOLE = "pgbouncer"
_TIME = "%Y-%m-%d %H:%M:%S"

#: Why clients of a pool wait, or are refused.
#:   paused                somebody said PAUSE or KILL, and nobody RESUME yet
#:   disabled              somebody said DISABLE: new clients are refused
#:   max_client_conn       no further client is let in, whatever it wants
#:   pool_size             every server connection that the pool may have is there
#:   max_db_connections    the database's own bound on server connections
#:   max_user_connections  the user's own bound on server connections
#:   untold                clients wait, and the console did not tell enough to say for what
#:   no_server             it may open server connections, and gets none
Binding = Literal[
    "paused",
    "disabled",
    "max_client_conn",
    "pool_size",
    "max_db_connections",
    "max_user_connections",
    "no_server",
    "untold",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Client:
    """One client of a PgBouncer."""

    ptr: str
    #: The server connection that it has at this moment; "" when it has none.
    link: str
    database: str
    user: str
    waiting: bool
    #: An address, or `unix`.
    addr: str
    application_name: str
    #: Connected, and without anything to do at this moment. 1.25 tells it; before, a client that
    #: neither waits nor has a server connection is idle.
    idle: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConnection:
    """One connection of a PgBouncer to PostgreSQL."""

    ptr: str
    link: str
    database: str
    user: str
    #: The server's process, and our end's port; the port means nothing on a Unix socket.
    pid: int
    local_port: int
    unix: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """One pool: the server connections for one database and user."""

    bouncer: str
    database: str
    user: str
    mode: str
    size: int
    reserve: int
    cl_active: int
    cl_waiting: int
    sv_active: int
    #: Usable at once, or after a check.
    sv_idle: int
    #: Every server connection, those that log in or are being cleaned up too.
    servers: int
    #: Seconds that the first client in the queue has waited.
    maxwait_s: float
    binding: Binding | None
    #: The number that binds, and the setting that it comes from; 0 and "" where none does.
    bound: int = 0
    setting: str = ""
    #: Where the size comes from, and the bounds above it; 0 where there is none.
    size_setting: str = ""
    max_db_connections: int = 0
    max_user_connections: int = 0

    @property
    def name(self) -> str:
        """Return `shop/app`: database and user."""
        return f"{self.database}/{self.user}"

    @property
    def stuck(self) -> bool:
        """Whether clients wait for longer than a pool should let them, or are refused."""
        refused = self.binding in {"disabled", "max_client_conn"}
        return refused or (self.cl_waiting > 0 and self.binding is not None)

    @property
    def budget(self) -> int:
        """Server connections that it may hold."""
        most = self.size + self.reserve
        if self.binding in {"max_db_connections", "max_user_connections"}:
            return min(most, self.bound)
        return most


@dataclass(frozen=True, kw_only=True, slots=True)
class Bouncer:
    """One PgBouncer."""

    name: str
    version: str
    pools: tuple[Pool, ...]
    clients: tuple[Client, ...]
    servers: tuple[ServerConnection, ...]
    #: Seconds after which it closes an idle server connection; 0 when it never does.
    idle_timeout_s: float
    max_client_conn: int
    #: Clients that it has, our own console aside.
    used_clients: int

    @property
    def full(self) -> bool:
        """Whether it lets no further client in."""
        return 0 < self.max_client_conn <= self.used_clients


def bouncers_of(snapshot: Snapshot) -> tuple[Bouncer, ...]:
    """Return every PgBouncer whose console answered; pools of other servers are left out."""
    return tuple(_bouncer(look, snapshot) for look in snapshot.poolers if look.rows)


def server_of(bouncers: Iterable[Bouncer]) -> dict[tuple[int, int], tuple[Bouncer, str]]:
    """Return (pid, client_port) -> the PgBouncer, and the `ptr` of its server connection.

    Both must agree with a session's: a process id alone may be another server's. PostgreSQL tells
    -1 as the port of a Unix socket.
    """
    return {
        (server.pid, -1 if server.unix else server.local_port): (bouncer, server.ptr)
        for bouncer in bouncers
        for server in bouncer.servers
    }


def _bouncer(look: PoolerLook, snapshot: Snapshot) -> Bouncer:
    facts = _Facts(look)
    foreign = facts.foreign(snapshot)
    mine = [row for row in facts.rows("pools") if _key(row) not in foreign]
    return Bouncer(
        name=look.name,
        version=look.version,
        pools=tuple(facts.pool(row) for row in mine),
        clients=tuple(_client(row) for row in facts.rows("clients")),
        servers=tuple(facts.servers),
        idle_timeout_s=float(facts.config("server_idle_timeout")),
        max_client_conn=facts.config("max_client_conn"),
        used_clients=facts.used_clients,
    )


class _Facts:
    """One console's rows, looked up by what they are about."""

    def __init__(self, look: PoolerLook) -> None:
        self._look = look
        self._config = {row.get("key"): row.get("value") for row in look.rows.get("config", ())}
        self._databases = {row.get("name"): row for row in look.rows.get("databases", ())}
        self._users = {row.get("name"): row for row in look.rows.get("users", ())}
        lists = {row.get("list"): row.get("items") for row in look.rows.get("lists", ())}
        #: Our own console is among them.
        self.used_clients = max(0, _number(lists.get("used_clients")) - 1)
        self.servers = [_server(row) for row in self.rows("servers")]
        self._of_user = Counter(server.user for server in self.servers)
        self._paused = any(
            row.get("key") == "paused" and row.get("value") in {"yes", 1, "1"}
            for row in look.rows.get("state", ())
        )
        self._waits = self._longest_waits()

    def rows(self, show: str) -> list[dict[str, Any]]:
        """Return the rows about databases, the console's own aside."""
        return [row for row in self._look.rows.get(show, ()) if row.get("database") != CONSOLE]

    def config(self, key: str) -> int:
        """Return a setting as a whole number; 0 where it is not told."""
        return _number(self._config.get(key))

    def foreign(self, snapshot: Snapshot) -> set[tuple[str, str]]:
        """Return pools whose server connections are none of this server's.

        One PgBouncer may stand before several servers. Only where some of its connections are
        found here does it mean anything that all of another pool's are not.
        """
        here = {(s.pid, s.client_port) for s in snapshot.sessions}
        found: dict[tuple[str, str], bool] = {}
        for server in self.servers:
            port = -1 if server.unix else server.local_port
            pool = (server.database, server.user)
            found[pool] = found.get(pool, False) or (server.pid, port) in here
        return {pool for pool, any_here in found.items() if any(found.values()) and not any_here}

    def pool(self, row: dict[str, Any]) -> Pool:
        """Return one row of SHOW POOLS with what binds it."""
        database, user = _key(row)
        told = _number(row.get("maxwait")) + _number(row.get("maxwait_us")) / 1_000_000
        sv = {key: _number(value) for key, value in row.items() if key.startswith("sv_")}
        size, setting = self._size(database, user)
        reserve = self._reserve(database, user)
        servers = sum(sv.values())
        maxwait_s = max(told, self._waits.get((database, user), 0.0))
        late = _number(row.get("cl_waiting")) > 0 and maxwait_s >= WAITS_S
        binding, bound, named = self._refusing(database)
        if binding is None and late:
            binding, bound, named = self._short(database, user, servers, (size, reserve, setting))
        if binding is None and self._full:
            binding, bound, named = "max_client_conn", self.config("max_client_conn"), ""
        return Pool(
            bouncer=self._look.name,
            database=database,
            user=user,
            mode=str(row.get("pool_mode") or self._config.get("pool_mode") or ""),
            size=size,
            reserve=reserve,
            cl_active=_number(row.get("cl_active")),
            cl_waiting=_number(row.get("cl_waiting")),
            sv_active=sv.get("sv_active", 0),
            sv_idle=sv.get("sv_idle", 0) + sv.get("sv_used", 0),
            servers=servers,
            maxwait_s=maxwait_s,
            binding=binding,
            bound=bound,
            setting=named or (binding or ""),
            size_setting=setting,
            max_db_connections=self._most_of_database(database),
            max_user_connections=self._most_of_user(user),
        )

    @property
    def _full(self) -> bool:
        return 0 < self.config("max_client_conn") <= self.used_clients

    def _refusing(self, database: str) -> tuple[Binding | None, int, str]:
        """Return what somebody has switched off."""
        row = self._databases.get(database, {})
        if _number(row.get("disabled")):
            return "disabled", 0, ""
        if _number(row.get("paused")) or self._paused:
            return "paused", 0, ""
        return None, 0, ""

    def _short(
        self, database: str, user: str, servers: int, pool: tuple[int, int, str]
    ) -> tuple[Binding, int, str]:
        """Return which bound on server connections keeps clients waiting."""
        size, reserve, setting = pool
        row = self._databases.get(database, {})
        if size and servers >= size:
            return "pool_size", size + (reserve if servers > size else 0), setting
        most = self._most_of_database(database)
        if 0 < most <= _number(row.get("current_connections")):
            return "max_db_connections", most, "max_db_connections"
        most = self._most_of_user(user)
        if 0 < most <= self._of_user[user]:
            return "max_user_connections", most, "max_user_connections"
        told = {"databases", "config", "users"} <= self._look.rows.keys()
        return "no_server" if told else "untold", 0, ""

    def _most_of_database(self, database: str) -> int:
        return _number(self._databases.get(database, {}).get("max_connections"))

    def _most_of_user(self, user: str) -> int:
        own = _number(self._users.get(user, {}).get("max_user_connections"))
        return own or self.config("max_user_connections")

    def _size(self, database: str, user: str) -> tuple[int, str]:
        """Return the pool's size, and the setting that it comes from."""
        own = _number(self._users.get(user, {}).get("pool_size"))
        if own:
            return own, f"pool_size of user {user}"
        size = _number(self._databases.get(database, {}).get("pool_size"))
        if size and size != self.config("default_pool_size"):
            return size, f"pool_size of database {database}"
        return size or self.config("default_pool_size"), "default_pool_size"

    def _reserve(self, database: str, user: str) -> int:
        row, own = self._databases.get(database, {}), self._users.get(user, {})
        told = own.get("reserve_pool_size") or row.get("reserve_pool_size")
        return _number(told or row.get("reserve_pool"))

    def _longest_waits(self) -> dict[tuple[str, str], float]:
        """Return by pool how long its first waiting client has waited, by PgBouncer's own clock.

        SHOW POOLS says 0 of clients whose very login waits for a first server connection. Our own
        console has asked just now: the latest request of all is now.
        """
        rows = self._look.rows.get("clients", ())
        # One spelling for all of them, so that text sorts as time does: there may be thousands.
        now = max((str(row.get("request_time") or "") for row in rows), default="")
        first: dict[tuple[str, str], str] = {}
        for row in rows:
            if row.get("state") == "waiting" and row.get("request_time"):
                pool = _key(row)
                first[pool] = min(first.get(pool, now), str(row["request_time"]))
        return {pool: _moment(now) - _moment(asked) for pool, asked in first.items()}


def _key(row: dict[str, Any]) -> tuple[str, str]:
    """Return which pool a row is of: a client that has not logged in yet may be of none."""
    return row.get("database") or "", row.get("user") or ""


def _client(row: dict[str, Any]) -> Client:
    return Client(
        ptr=row.get("ptr") or "",
        link=row.get("link") or "",
        database=row.get("database") or "",
        user=row.get("user") or "",
        waiting=row.get("state") == "waiting",
        addr=row.get("addr") or "",
        application_name=_own_name(row),
        idle=row.get("state") == "idle" or (row.get("state") == "active" and not row.get("link")),
    )


def _own_name(row: dict[str, Any]) -> str:
    """Return a client's name without the address that application_name_add_host has put after it.

    The setting may be switched on and off while clients stay, so each name tells for itself.
    """
    name: str = row.get("application_name") or ""
    return name.removesuffix(f" - {row.get('addr')}:{row.get('port')}")


def _server(row: dict[str, Any]) -> ServerConnection:
    return ServerConnection(
        ptr=row.get("ptr") or "",
        link=row.get("link") or "",
        database=row.get("database") or "",
        user=row.get("user") or "",
        pid=_number(row.get("remote_pid")),
        local_port=_number(row.get("local_port")),
        unix=row.get("addr") == "unix",
    )


def _number(value: Any) -> int:
    """Return a console's number; some are text, and what is missing or no number is 0."""
    try:
        return int(value or 0)
    except (TypeError, ValueError):
        return 0


def _moment(text: Any) -> float:
    """Return `2026-01-01 02:17:00 UTC` as seconds, for differences only; 0 where it is none."""
    try:
        return datetime.strptime(str(text)[:19], _TIME).timestamp()  # noqa: DTZ007 - see above
    except ValueError:
        return 0.0
