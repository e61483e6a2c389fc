"""The TCP connections of an app host, as `ss` lists them: who still holds which socket."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Socket:
    """One established TCP connection from a host to a database's port."""

    local_addr: str
    local_port: int
    peer_addr: str
    peer_port: int
    #: The process that holds it; None where we may not see other users' processes.
    process: str | None = None
    pid: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class HostSockets:
    """What one host told of its connections to a database."""

    #: The inventory's host.
    host: str
    #: The host's own addresses: a session that comes from none of them was translated on its way.
    addresses: tuple[str, ...]
    sockets: tuple[Socket, ...]
    #: Whether the processes were shown to us (root, or `sudo -n ss`).
    sees_processes: bool
    #: systemd units of the processes, by pid, where they are known.
    units: dict[int, str]
    #: Why there is nothing here, with what would mend it; "" when the host answered.
    error: str = ""
