"""PostgreSQL as its operating system sees it: processes, their titles, and when they began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: What a server process is, by its title.
#:   client      has logged in: role, database, address and state are in the title
#:   logging_in  holds a slot and has not logged in yet: `authentication`, or no title of its own
#:   walsender   replicates; its slot is apart from max_connections
#:   other       the server's own: checkpointer, autovacuum, workers
ProcessKind = Literal["client", "logging_in", "walsender", "other"]

#: The superuser that a server is made with by default; a title does not tell of further ones.
SUPERUSER = "postgres"
#: PostgreSQL's default of superuser_reserved_connections.
_RESERVED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerProcess:
    """One child of the postmaster; ages are in seconds by that host's clock."""

    pid: int
    kind: ProcessKind
    role: str | None
    database: str | None
    #: None on a Unix socket, and before the login.
    client_addr: str | None
    client_port: int | None
    #: As in pg_stat_activity where the title tells: idle, idle in transaction, …; `active` for a
    #: command; "" before the login, and where titles need not be kept up.
    state: str
    #: Whether the title says that it waits for a lock.
    waiting: bool
    age_s: float
    #: Start of the process in clock ticks since boot (/proc/PID/stat, field 22): with the pid, it
    #: names the process for good.
    start_ticks: int
    #: Voluntary context switches (/proc/PID/status): a backend that has read anything since was
    #: woken for it, so an unchanged number means an unchanged session.
    switches: int
    #: The title as it stands, for the check before a signal.
    title: str
    #: Seconds since the client last sent anything (`ss -i`, lastrcv); None where it is not told.
    silent_s: float | None = None
    #: Bytes that the client has sent in all (`ss -i`, bytes_received); None where it is not told.
    received: int | None = None

    @property
    def backend_start(self) -> str:
        """What stands for `SessionId.backend_start`: `ticks N`."""
        return f"ticks {self.start_ticks}"

    @property
    def state_change(self) -> str:
        """What stands for `SessionId.state_change`: `received N`, or `switches N` on a socket.

        A count of switches proves that nothing happened, and a busy server wakes idle sessions
        for reasons of its own (catalogue changes of others: measured at 600 temporary tables a
        second, 50 times a second each). What a client has sent over TCP moves by nothing but the
        client.
        """
        return f"switches {self.switches}" if self.received is None else f"received {self.received}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerProcesses:
    """All that the server's host tells without a connection."""

    #: The inventory's host.
    host: str
    processes: tuple[ServerProcess, ...]
    #: Settings as the server's own binary reads them from its files, where it could be asked; those
    #: that pg_control keeps are as the server was started.
    settings: dict[str, str]
    #: `15.18`; "" where the binary could not be asked.
    version: str
    #: The host's clock, ISO 8601 in UTC.
    at: str
    #: What this host would not tell, and what would mend it.
    unseen: tuple[str, ...] = ()
    #: Whether the host let us be the server's own operating-system user: only then can its settings
    #: be read, and its sessions be signalled.
    as_owner: bool = False

    @property
    def holders(self) -> tuple[ServerProcess, ...]:
        """Those that hold one of max_connections' slots; a login under way holds one too."""
        return tuple(p for p in self.processes if p.kind in {"client", "logging_in"})

    def number(self, setting: str) -> int | None:
        """Return a setting that is a number; None when it is not known."""
        value = self.settings.get(setting, "")
        return int(value) if value.isdigit() else None

    @property
    def max_connections(self) -> int:
        """As it runs; where that is not known, no more than what is held can be vouched for."""
        known = self.number("max_connections")
        return len(self.holders) if known is None else known

    @property
    def superuser_reserved(self) -> int:
        """As configured; nothing is reserved of a number of slots that is not known."""
        if self.number("max_connections") is None:
            return 0
        known = self.number("superuser_reserved_connections")
        return _RESERVED if known is None else known

    @property
    def superusers(self) -> int:
        """Sessions of the superuser that can be told."""
        return sum(p.role == SUPERUSER for p in self.holders)

    @property
    def used(self) -> int:
        """Slots that ordinary roles hold."""
        return len(self.holders) - self.superusers

    @property
    def usable(self) -> int:
        """Slots that ordinary roles can have; see `runbook.model.sessions.Limits.usable`."""
        reserved = self.superuser_reserved + (self.number("reserved_connections") or 0)
        return max(0, self.max_connections - reserved - self.superusers)
