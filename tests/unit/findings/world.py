"""Builds what findings judge: sessions by hand, inventories, and snapshots of a real server."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psycopg.rows import dict_row

from runbook.findings.examination import questions
from runbook.findings.judge import FindingsJudge
from runbook.findings.snapshot import assemble
from runbook.findings.witness import Told
from runbook.model.effects import Answers, ReadCommand
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.sessions import Limits, Session, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from unit.postgres_server import Server

JUDGE = FindingsJudge()
_PIDS = itertools.count(1000)

HOSTS = {
    "web-01": {"address": "10.0.1.1", "groups": ["web"]},
    "web-02": {"address": "10.0.1.2", "groups": ["web"]},
    "web-03": {"address": "10.0.1.3", "groups": ["web"]},
    "db-01": {"address": "10.0.0.5"},
}
SHOP = {
    "hosts": "web",
    "database": "db",
    "application_name": "shop-${host.name}",
    "pool": {"processes": 2, "size": 5, "overflow": 0},
}


def fleet(
    services: dict[str, Any] | None = None,
    *,
    hosts: dict[str, Any] | None = None,
    protect: dict[str, Any] | None = None,
    **more: Any,
) -> Fleet:
    """Return an inventory with one database `db`, three web hosts, and `shop` unless told else."""
    connect = {"host": "10.0.0.5", "user": "oncall"}
    return Fleet(
        Inventory.model_validate(
            {
                "version": 1,
                "hosts": HOSTS if hosts is None else hosts,
                "databases": {
                    "db": {"host": "db-01", "connect": connect, "protect": protect or {}}
                    if hosts is None
                    else {"connect": connect, "protect": protect or {}}
                },
                "services": {"shop": SHOP} if services is None else services,
                **more,
            }
        )
    )


def session(**given: Any) -> Session:
    """Return an idle session of shop on web-01 that has been idle for a minute."""
    values: dict[str, Any] = {
        "pid": next(_PIDS),
        "backend_type": "client backend",
        "database": "shop",
        "role": "app",
        "application_name": "shop-web-01",
        "client_addr": "10.0.1.1",
        "client_port": 40000,
        "backend_start": "2026-01-01 02:00:00+00",
        "state_change": "2026-01-01 02:16:00+00",
        "state": "idle",
        "wait_event_type": "Client",
        "wait_event": "ClientRead",
        "age_s": 900.0,
        "xact_age_s": None,
        "query_age_s": 60.0,
        "state_age_s": 60.0,
        "has_xid": False,
        "leader_pid": None,
        "query": "SELECT * FROM cart WHERE id = 1",
        "superuser": False,
        "replication": False,
    }
    return Session(**{**values, **given})


def many(count: int, **given: Any) -> list[Session]:
    """Return `count` sessions alike, each idle a second longer than the one before."""
    base = given.pop("state_age_s", 60.0)
    return [session(state_age_s=base + n, **given) for n in range(count)]


def hidden(count: int, **given: Any) -> list[Session]:
    """Return sessions as a role without pg_read_all_stats sees them."""
    nothing = dict.fromkeys(
        (
            "backend_type",
            "client_addr",
            "client_port",
            "backend_start",
            "state_change",
            "state",
            "wait_event_type",
            "wait_event",
            "age_s",
            "xact_age_s",
            "query_age_s",
            "state_age_s",
        )
    )
    return [
        session(**nothing, query="<insufficient privilege>", hidden=True, **given)
        for _ in range(count)
    ]


def snapshot(sessions: Iterable[Session], **given: Any) -> Snapshot:
    """Return a snapshot of a PostgreSQL 16 with 100 slots, 97 of them usable."""
    limits: dict[str, Any] = {
        "version_num": 160004,
        "version": "16.4",
        "max_connections": 100,
        "superuser_reserved": 3,
        "reserved": 0,
        "max_wal_senders": 10,
        "in_recovery": False,
        "role": "oncall",
        "can_read_all": True,
        "can_signal": True,
        "is_superuser": False,
        "server_time": "2026-01-01T02:17:00Z",
    }
    extra: dict[str, Any] = {
        "advisory-locks": [],
        "lock-waits": [],
        "role-limits": [],
        "database-limits": [],
        **given.pop("extra", {}),
    }
    for name in [name for name, rows in extra.items() if rows is None]:
        del extra[name]
    return Snapshot(
        database="db",
        limits=Limits(**{**limits, **given.pop("limits", {})}),
        sessions=tuple(sessions),
        extra=extra,
        **given,
    )


def look(server: Server, user: str = "oncall", **settings: Any) -> Snapshot:
    """Put the judge's questions to a real server and return its snapshot."""
    settings = {
        "application_name": "runbook",
        "client_encoding": "UTF8",
        "options": "-c TimeZone=UTC",
        **settings,
    }
    rows: dict[str, list[dict[str, Any]]] = {}
    failed: dict[str, str] = {}
    with server.connect(user, **settings) as connection:
        cursor = connection.cursor(row_factory=dict_row)
        for question in questions():
            if connection.info.server_version >= question.min_version:
                rows[question.name] = cursor.execute(question.sql.encode()).fetchall()
    return assemble("db", Answers(rows=rows, rung="connect", failed=failed))


def older(seen: Snapshot, seconds: float, which: Callable[[Session], bool]) -> Snapshot:
    """Return a snapshot as it would be, had the chosen sessions stayed as they are for longer."""

    def aged(value: float | None) -> float | None:
        return None if value is None else value + seconds

    return replace(
        seen,
        sessions=tuple(
            replace(
                s,
                age_s=aged(s.age_s),
                xact_age_s=aged(s.xact_age_s),
                query_age_s=aged(s.query_age_s),
                state_age_s=aged(s.state_age_s),
            )
            if which(s)
            else s
            for s in seen.sessions
        ),
    )


def heard(*outcomes: Any, host: str = "web-01") -> tuple[Told, ...]:
    """Return outcomes as a witness is given them, each of a look at this host."""
    look = ReadCommand(host=host, argv=("true",))
    return tuple(Told(look, outcome) for outcome in outcomes)
