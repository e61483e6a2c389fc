"""The server's processes in place of its own words: what a snapshot is made of on the last rung."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runbook.findings.lock_tree import QUESTION as LOCK_WAITS
from runbook.findings.protection import QUESTION as ADVISORY_LOCKS
from runbook.model.processes import SUPERUSER
from runbook.model.sessions import Limits, Session, Snapshot

if TYPE_CHECKING:
    from runbook.model.effects import Answers
    from runbook.model.processes import ServerProcess, ServerProcesses

_UNSEEN = {
    ADVISORY_LOCKS.name: "there is no connection: processes do not tell who holds which lock",
    LOCK_WAITS.name: "there is no connection: processes do not tell who waits for whom",
}


def from_processes(database: str, answers: Answers, processes: ServerProcesses) -> Snapshot:
    """Return the processes as a snapshot; what a process does not tell is None.

    Every session that is in a transaction is taken to have written in it. A login under way holds a
    slot, in the state `starting`.
    """
    sessions = tuple(
        _session(process)
        for process in processes.processes
        if process.kind in {"client", "logging_in", "walsender"}
    )
    failed = {**_UNSEEN, **answers.failed}
    if processes.number("max_connections") is None:
        failed["max_connections"] = (
            f"{processes.host} did not let us read the server's settings: the slots that are held"
            " are taken for all that there are"
        )
    return Snapshot(
        database=database,
        limits=_limits(processes),
        sessions=sessions,
        rung=answers.rung,
        refusals=answers.refusals,
        failed=failed,
        connect_s=answers.connect_s,
        query_s=answers.query_s,
        processes=processes,
    )


def _limits(processes: ServerProcesses) -> Limits:
    return Limits(
        version_num=_version_num(processes.version),
        version=processes.version or "of a version that its host does not tell",
        max_connections=processes.max_connections,
        superuser_reserved=processes.superuser_reserved,
        reserved=processes.number("reserved_connections") or 0,
        max_wal_senders=processes.number("max_wal_senders") or 0,
        in_recovery=any(_recovers(p) for p in processes.processes),
        role="the server's host",
        can_read_all=processes.as_owner,
        can_signal=processes.as_owner,
        is_superuser=False,
        server_time=processes.at,
    )


def _recovers(process: ServerProcess) -> bool:
    """Whether it is the startup process, which lives on only where WAL is replayed."""
    return process.kind == "other" and re.search(r": startup( |$)", process.title) is not None


def _version_num(version: str) -> int:
    """Return server_version_num of `15.18` (150018); 0 when it is not known."""
    match = re.match(r"(\d+)(?:\.(\d+))?", version)
    return int(match[1]) * 10000 + int(match[2] or 0) if match else 0


def _session(process: ServerProcess) -> Session:
    state = "starting" if process.kind == "logging_in" else process.state or None
    idle = state == "idle"
    return Session(
        pid=process.pid,
        backend_type="walsender" if process.kind == "walsender" else "client backend",
        database=process.database,
        role=process.role,
        application_name="",
        client_addr=process.client_addr,
        client_port=process.client_port,
        backend_start=process.backend_start,
        state_change=process.state_change,
        state=state,
        wait_event_type="Lock" if process.waiting else None,
        wait_event=None,
        age_s=process.age_s,
        xact_age_s=None,
        query_age_s=None,
        # A client that is silent says nothing in any state; only an idle one is known to have
        # been in its state for as long.
        state_age_s=process.silent_s if idle or _in_transaction(state) else None,
        # Whether it has written cannot be seen; that of a login nothing is known speaks for it.
        has_xid=not idle,
        leader_pid=None,
        query="",
        superuser=process.role == SUPERUSER,
        replication=process.kind == "walsender",
    )


def _in_transaction(state: str | None) -> bool:
    return state is not None and state.startswith("idle in transaction")
