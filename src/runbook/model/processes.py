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
    #: command; "" before the login.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerProcesses:
    """All that the server's host tells without a connection."""

    #: The inventory's host.
    host: str
    processes: tuple[ServerProcess, ...]
    #: Settings as the server's own binary reads them from its files, where it could be asked.
    settings: dict[str, str]
    #: `15.18`; "" where the binary could not be asked.
    version: str
    #: The host's clock, ISO 8601 in UTC.
    at: str
    #: What this host would not tell, and what would mend it.
    unseen: tuple[str, ...] = ()
