"""PostgreSQL sessions as pg_stat_activity tells them, and who may be who."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from runbook.model.processes import ServerProcesses
from runbook.model.sockets import HostSockets

#: The ladder into a server, in the order in which its rungs are tried.
#:   connect  the ordinary role; with pg_use_reserved_connections (16+) it has slots of its own
#:   admin    the inventory's superuser, for the reserved slots
#:   local    psql on the server's host over SSH, as the operating-system user, by its socket
#:   rescue   a role with REPLICATION: a walsender's slot is apart from max_connections
#:   os       no connection at all: the processes of the server's host, over SSH
Rung = Literal["connect", "admin", "local", "rescue", "os"]
RUNGS: tuple[Rung, ...] = ("connect", "admin", "local", "rescue", "os")


#: How a refusal ends when a server took the connection and never answered the login. The door says
#: it, and the diagnosis knows it again by these words.
NO_ANSWER = "says nothing to the login"


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionId:
    """What must still be true of a session when it is signalled.

    A pid alone is not enough: pids are reused, and a session wakes up. The two timestamps are the
    server's own text (UTC, microseconds), compared there and never parsed here. Seen by the
    operating system alone (rung "os"), they are `ticks N` and `received N` or `switches N` (see
    `ServerProcess`), and are compared on the host.
    """

    pid: int
    backend_start: str
    state_change: str
    state: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One row of pg_stat_activity. Ages are in seconds, by the server's clock; None is hidden."""

    pid: int
    backend_type: str | None
    database: str | None
    role: str | None
    application_name: str
    #: None on a Unix socket, and when the row is hidden from our role.
    client_addr: str | None
    client_port: int | None
    backend_start: str | None
    state_change: str | None
    #: active, idle, idle in transaction, idle in transaction (aborted), …; None when hidden.
    state: str | None
    wait_event_type: str | None
    wait_event: str | None
    #: Seconds since the session, its transaction, its statement, its last change of state began.
    age_s: float | None
    xact_age_s: float | None
    query_age_s: float | None
    state_age_s: float | None
    #: True when a transaction id is assigned: it has written something that would be rolled back.
    has_xid: bool
    leader_pid: int | None
    #: The first characters of the last statement; text from clients, to be treated as data.
    query: str
    superuser: bool
    replication: bool
    #: True when our role may not see this session's details.
    hidden: bool = False
    #: True for the connection that asked.
    ours: bool = False

    @property
    def id(self) -> SessionId:
        """Return what a termination re-checks."""
        return SessionId(
            pid=self.pid,
            backend_start=self.backend_start or "",
            state_change=self.state_change or "",
            state=self.state or "",
        )

    @property
    def is_client(self) -> bool:
        """Whether it holds one of max_connections' slots (walsenders and workers do not).

        A hidden session's type is hidden as well: with a role and a database it is taken for a
        client's, so that what cannot be seen is not counted as nothing.
        """
        if self.hidden:
            return self.role is not None and self.database is not None
        return self.backend_type == "client backend"

    @property
    def idle(self) -> bool:
        """Idle outside a transaction."""
        return self.state == "idle"

    @property
    def idle_in_transaction(self) -> bool:
        """Idle inside a transaction, aborted or not."""
        return self.state is not None and self.state.startswith("idle in transaction")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The server's connection limits, and what they leave for an ordinary role."""

    version_num: int
    version: str
    max_connections: int
    superuser_reserved: int
    #: reserved_connections, PostgreSQL 16 and later; 0 before.
    reserved: int
    max_wal_senders: int
    in_recovery: bool
    #: The role that asked, and what it may do.
    role: str
    can_read_all: bool
    can_signal: bool
    is_superuser: bool
    #: The server's clock when it answered, ISO 8601 in UTC.
    server_time: str
    #: When the server was started, in the same form; "" where it was not told.
    started_at: str = ""

    def usable(self, superuser_sessions: int) -> int:
        """Return how many slots an ordinary role can have.

        max_connections - superuser_reserved_connections - reserved_connections (16+)
        - superuser sessions already open. A superuser's session takes an ordinary slot while
        the reserve stays reserved, so each one open lowers what is left (measured on 12 to 18:
        max 14, reserve 2 gives 12, or 9 with three superusers in).
        """
        ceiling = self.max_connections - self.superuser_reserved - self.reserved
        return max(0, ceiling - superuser_sessions)


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolerLook:
    """What one PgBouncer's console told; see `runbook.model.effects.ConsoleAnswers`."""

    name: str
    version: str
    rows: dict[str, list[dict[str, Any]]]
    #: Why nothing, or not all, was told; "" when it was.
    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class LaterLook:
    """A second, smaller look some seconds after the first: what has come, gone and stayed."""

    #: Seconds between the two looks at the server, by our clock.
    after_s: float
    #: (pid, backend_start, state_change) of every client session at that time.
    sessions: frozenset[tuple[int, str, str]] | None = None
    hosts: tuple[HostSockets, ...] = ()
    #: Why there are no sessions here; "" when there are.
    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """All that one diagnosis saw of a server; plain data, so that it can be judged again."""

    database: str
    limits: Limits
    sessions: tuple[Session, ...]
    #: Rows of the questions that single findings ask, by question name.
    extra: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    #: Which rung of the ladder let us in, and what the others said: (rung, server's text).
    rung: Rung = "connect"
    refusals: tuple[tuple[str, str], ...] = ()
    #: Questions without an answer: name -> why.
    failed: dict[str, str] = field(default_factory=dict)
    connect_s: float = 0.0
    query_s: float = 0.0
    #: The server's host, where it was looked at.
    processes: ServerProcesses | None = None
    #: App hosts, where they were looked at: who still holds which connection.
    hosts: tuple[HostSockets, ...] = ()
    poolers: tuple[PoolerLook, ...] = ()
    later: LaterLook | None = None

    @property
    def clients(self) -> tuple[Session, ...]:
        """Client backends other than our own: those that hold slots."""
        return tuple(s for s in self.sessions if s.is_client and not s.ours)

    @property
    def superusers(self) -> int:
        """Client backends of superusers, our own aside."""
        return sum(s.superuser for s in self.clients)

    @property
    def usable(self) -> int:
        """Slots that ordinary roles can have at this moment."""
        return self.limits.usable(self.superusers)

    @property
    def used(self) -> int:
        """Slots that ordinary roles hold at this moment."""
        return sum(not s.superuser for s in self.clients)
