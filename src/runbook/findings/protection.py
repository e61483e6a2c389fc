"""Sessions that are never terminated, and the reason for each."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from runbook.model.effects import Question

if TYPE_CHECKING:
    from collections.abc import Collection

    from runbook.model.inventory import Protect
    from runbook.model.sessions import Session

#: A session-level advisory lock is somebody's mutex (a scheduler's leader, a migration); ending
#: the session hands it to another process while the first believes that it still holds it.
QUESTION = Question(
    name="advisory-locks",
    sql="SELECT DISTINCT pid FROM pg_locks WHERE locktype = 'advisory' AND granted",
)

#: application_name patterns, in lower case, of tools whose idle sessions are at work.
TOOLS = {
    "patroni*": "Patroni",
    "pg_auto_failover*": "pg_auto_failover",
    "repmgr*": "repmgr",
    "pg_dump*": "pg_dump",
    "pg_restore*": "pg_restore",
    "pg_basebackup*": "pg_basebackup",
    "pg_receivewal*": "pg_receivewal",
    "pgbackrest*": "pgBackRest",
    "barman*": "Barman",
    "wal-g*": "WAL-G",
    "*alembic*": "a migration tool",
    "*flyway*": "a migration tool",
    "*liquibase*": "a migration tool",
    "*sqitch*": "a migration tool",
    "*migrat*": "a migration tool",
    "runbook*": "another session of runbook",
}

#: Tables in which migration tools keep their books: whose last statement names one, migrates.
MIGRATION_TABLES = (
    "alembic_version",
    "flyway_schema_history",
    "databasechangelog",
    "django_migrations",
    "schema_migrations",
    "_prisma_migrations",
    "goose_db_version",
)

WRITES = "has written in its transaction, which would be rolled back"


def untouchable(session: Session, protect: Protect) -> str | None:
    """Return why a session is protected even when its client is gone; None if it is not.

    What it holds protects it no more then: nobody is left who could believe in its lock, hear its
    notifications or commit what it has written. A rollback is all that can still come of it.
    """
    return _system(session) or _tool(session) or _by_inventory(session, protect)


def lasting(session: Session, protect: Protect, advisory: Collection[int]) -> str | None:
    """Return why a session is protected for what it is, whatever it does now; None if it is not."""
    return untouchable(session, protect) or _holds(session, advisory)


def protected(session: Session, protect: Protect, advisory: Collection[int]) -> str | None:
    """Return why a session must not be terminated, in words; None when it may be."""
    return lasting(session, protect, advisory) or (WRITES if session.has_xid else None)


def _system(session: Session) -> str | None:
    if session.ours:
        return "our own connection"
    if not session.is_client or session.leader_pid is not None:
        return "not a client's session"
    if session.superuser:
        return "a superuser's session"
    if session.replication:
        return "its role may replicate"
    return None


def _tool(session: Session) -> str | None:
    tool = _tool_named(session.application_name.casefold())
    if tool is not None:
        return f"belongs to {tool}"
    query = session.query.casefold()
    if any(table in query for table in MIGRATION_TABLES):
        return "belongs to a migration tool"
    return None


@lru_cache(maxsize=4096)  # thousands of sessions bear few names
def _tool_named(name: str) -> str | None:
    return next((tool for pattern, tool in TOOLS.items() if fnmatchcase(name, pattern)), None)


def _holds(session: Session, advisory: Collection[int]) -> str | None:
    if session.pid in advisory:
        return "holds an advisory lock"
    if session.query.lstrip().casefold().startswith("listen"):
        return "LISTENs for notifications"
    return None


def _by_inventory(session: Session, protect: Protect) -> str | None:
    named = (
        ("role", session.role, protect.roles),
        ("application", session.application_name, protect.applications),
        ("database", session.database, protect.databases),
    )
    for kind, value, patterns in named:
        if value is not None and any(fnmatchcase(value, pattern) for pattern in patterns):
            return f"its {kind} is protected by the inventory"
    if session.client_addr and any(_within(session.client_addr, net) for net in protect.addresses):
        return "its address is protected by the inventory"
    return None


def _within(address: str, network: str) -> bool:
    """Whether an address lies in a network; what cannot be read as one protects by equality."""
    try:
        return ip_address(address) in ip_network(network, strict=False)
    except ValueError:
        return address == network
