"""From the server's processes to a snapshot: what is told, what is not, and what that counts as."""

from __future__ import annotations

from typing import Any

from runbook.findings.snapshot import assemble
from runbook.model.effects import Answers
from runbook.model.processes import ServerProcess, ServerProcesses
from runbook.model.sessions import SessionId, Snapshot

SETTINGS = {"max_connections": "40", "superuser_reserved_connections": "3"}


def process(pid: int, **given: Any) -> ServerProcess:
    values: dict[str, Any] = {
        "pid": pid,
        "kind": "client",
        "role": "app",
        "database": "shop",
        "client_addr": "10.0.0.5",
        "client_port": 1,
        "state": "idle",
        "waiting": False,
        "age_s": 100.0,
        "start_ticks": 5,
        "switches": 7,
        "title": "",
        "silent_s": 60.0,
        "received": 230,
    }
    return ServerProcess(**{**values, **given})


def snapshot(*processes: ServerProcess, **given: Any) -> Snapshot:
    values: dict[str, Any] = {
        "host": "db-01",
        "settings": SETTINGS,
        "version": "15.18",
        "at": "2026-01-01T00:00:00Z",
        "as_owner": True,
    }
    told = ServerProcesses(processes=processes, **{**values, **given})
    return assemble("db", Answers(rows={}, rung="os", processes=told))


def test_sessions_as_far_as_processes_tell() -> None:
    seen = snapshot(
        process(1),
        process(2, state="idle in transaction"),
        process(3, state="active", waiting=True),
        process(4, kind="logging_in", role=None, database=None, state="", received=None),
        process(5, kind="walsender"),
        process(6, kind="other"),
        process(7, role="postgres", state=""),
    )
    sessions = {session.pid: session for session in seen.sessions}
    assert sorted(sessions) == [1, 2, 3, 4, 5, 7]
    assert sessions[1].id == SessionId(
        pid=1, backend_start="ticks 5", state_change="received 230", state="idle"
    )
    assert [sessions[pid].has_xid for pid in (1, 2, 3, 4, 7)] == [False, True, True, True, True]
    assert [sessions[pid].state_age_s for pid in (1, 2, 3)] == [60.0, 60.0, None]
    assert sessions[3].wait_event_type == "Lock"
    assert (sessions[4].state, sessions[4].id.state_change) == ("starting", "switches 7")
    assert sessions[7].state is None
    assert (seen.used, seen.superusers, seen.usable) == (4, 1, 36)
    assert (seen.limits.version_num, seen.limits.max_connections) == (150018, 40)
    assert {"advisory-locks", "lock-waits"} <= seen.failed.keys()


def test_what_the_step_counts_is_what_the_snapshot_counts() -> None:
    seen = snapshot(process(1), process(2, role="postgres"), process(3, kind="logging_in"))
    assert seen.processes is not None
    assert (seen.processes.used, seen.processes.usable) == (seen.used, seen.usable)


def test_without_settings_no_slot_is_made_up() -> None:
    seen = snapshot(process(1), process(2), settings={}, version="", as_owner=False)
    assert (seen.used, seen.usable, seen.limits.max_connections) == (2, 2, 2)
    assert "max_connections" in seen.failed
    assert not seen.limits.can_signal
    assert seen.limits.version_num == 0


def test_a_standby_is_told_by_its_startup_process() -> None:
    recovering = process(9, kind="other", title="postgres: startup recovering 00000001")
    assert snapshot(process(1), recovering).limits.in_recovery
    named = process(1, title="postgres: startup shop 10.0.0.5(1) idle")
    assert not snapshot(named).limits.in_recovery
