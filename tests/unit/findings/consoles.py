"""Builds what a PgBouncer's console says: rows as 1.18 has them, and links that agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runbook.model.sessions import PoolerLook

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runbook.model.sessions import Session

BOUNCER = {"host": "db-01", "database": "db", "admin": {"user": "stats"}}
NOW = "2026-01-01 02:17:00 UTC"


def client(ptr: str, **given: Any) -> dict[str, Any]:
    """Return a row of SHOW CLIENTS: shop on web-01, without a server connection."""
    return {
        "database": "shop",
        "user": "app",
        "state": "active",
        "addr": "10.0.1.1",
        "port": 50000,
        "request_time": NOW,
        "ptr": ptr,
        "link": "",
        "application_name": "shop-web-01",
        **given,
    }


def server(ptr: str, session: Session, **given: Any) -> dict[str, Any]:
    """Return the row of SHOW SERVERS that is a session."""
    return {
        "database": "shop",
        "user": "app",
        "state": "idle",
        "addr": "10.0.0.5",
        "local_port": session.client_port,
        "ptr": ptr,
        "link": "",
        "remote_pid": session.pid,
        **given,
    }


def linked(
    sessions: Iterable[Session], **given: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return servers and clients, one client for each session; `given` are the clients' columns."""
    servers, clients = [], []
    for session in sessions:
        s, c = f"0xs{session.pid}", f"0xc{session.pid}"
        servers.append(server(s, session, link=c, state="active"))
        clients.append(client(c, link=s, **given))
    return servers, clients


def look(
    servers: Iterable[dict[str, Any]] = (),
    clients: Iterable[dict[str, Any]] = (),
    *,
    name: str = "bouncer-01",
    pool: dict[str, Any] | None = None,
    database: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    **more: list[dict[str, Any]],
) -> PoolerLook:
    """Return a console's answers with one pool, shop/app, of five; keywords lay over its rows."""
    servers, clients = list(servers), list(clients)
    waiting = sum(c["state"] == "waiting" for c in clients)
    active = sum(s["state"] == "active" for s in servers)
    own = client("0xown", database="pgbouncer", user="stats", addr="10.9.9.9")
    counts = {"sv_active": active, "sv_idle": len(servers) - active, "sv_used": 0, "sv_login": 0}
    settings = {
        "default_pool_size": "5",
        "max_client_conn": "100",
        "max_user_connections": "0",
        "pool_mode": "transaction",
        "server_idle_timeout": "600",
        **(config or {}),
    }
    return PoolerLook(
        name=name,
        version="1.18.0",
        rows={
            "servers": servers,
            "clients": [own, *clients],
            "pools": [
                {"database": "pgbouncer", "user": "pgbouncer", "cl_active": 1, "cl_waiting": 0},
                {
                    "database": "shop",
                    "user": "app",
                    "cl_active": len(clients) - waiting,
                    "cl_waiting": waiting,
                    **counts,
                    "maxwait": 0,
                    "maxwait_us": 0,
                    "pool_mode": "transaction",
                    **(pool or {}),
                },
            ],
            "databases": [
                {
                    "name": "shop",
                    "pool_size": 5,
                    "reserve_pool": 0,
                    "max_connections": 0,
                    "current_connections": len(servers),
                    "paused": 0,
                    "disabled": 0,
                    **(database or {}),
                }
            ],
            "users": [{"name": "app"}],
            "lists": [{"list": "used_clients", "items": len(clients) + 1}],
            "config": [{"key": key, "value": value} for key, value in settings.items()],
            **more,
        },
    )
