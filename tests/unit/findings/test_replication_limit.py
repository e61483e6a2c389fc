"""Walsenders and replication slots: limits apart from max_connections."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from unit.findings.world import JUDGE, fleet, look, many, snapshot
from unit.postgres_server import Server, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.model.diagnosis import Diagnosis


@pytest.fixture(scope="module")
def replicated() -> Iterator[Server]:
    with running(max_connections=14, max_replication_slots="2", wal_level="logical") as started:
        yield started


@contextmanager
def walsenders(server: Server, count: int) -> Iterator[None]:
    """Hold real replication connections; they are gone from the server at the end."""
    with ExitStack() as held:
        senders = [
            held.enter_context(
                server.connect("rescue", replication="database", application_name="sb")
            )
            for _ in range(count)
        ]
        pids = [sender.info.backend_pid for sender in senders]
        yield
    server.settle(pids)


def causes(diagnosis: Diagnosis) -> list[str]:
    return [diagnosis.finding.cause, *(finding.cause for finding in diagnosis.also)]


def test_all_walsenders_taken(replicated: Server) -> None:
    with walsenders(replicated, 2):
        with pytest.raises(psycopg.OperationalError, match="max_wal_senders"):
            replicated.connect("rescue", replication="database")
        diagnosis = JUDGE.diagnose(look(replicated), fleet({}))
    finding = diagnosis.finding
    assert (finding.cause, finding.confidence) == ("replication-limit", "certain")
    assert "2 of 2 walsenders (max_wal_senders)" in finding.title
    assert [owner.application_name for owner in finding.owners] == ["sb", "sb"]
    assert diagnosis.slots.used == 0


def test_our_own_walsender_is_not_counted(replicated: Server) -> None:
    with walsenders(replicated, 1):
        seen = look(
            replicated, "rescue", replication="database", cursor_factory=psycopg.ClientCursor
        )
    assert len(seen.extra["walsenders"]) == 2
    assert causes(JUDGE.diagnose(seen, fleet({}))) == ["healthy"]


def test_abandoned_slots_fill_the_limit(replicated: Server) -> None:
    for name in ("gone_1", "gone_2"):
        replicated.admin(f"SELECT pg_create_physical_replication_slot('{name}', true)")
    try:
        diagnosis = JUDGE.diagnose(look(replicated, "blind"), fleet({}))
    finally:
        replicated.admin("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    finding = diagnosis.finding
    assert finding.cause == "replication-limit"
    assert "2 of 2 replication slots (max_replication_slots)" in finding.title
    assert any("slot gone_1: used by nobody for 0." in line for line in finding.evidence)
    assert any("of WAL" in line for line in finding.evidence)
    assert "pg_drop_replication_slot" in finding.advice


def sender(**given: Any) -> dict[str, Any]:
    words = {"application_name": "standby", "role": "rep", "client_addr": "10.0.1.2"}
    return {"pid": 1, **words, "state": "streaming", "ours": False, **given}


def slot(**given: Any) -> dict[str, Any]:
    words = {"name": "s", "kind": "physical", "wal_status": "reserved", "synced": False}
    return {"most": 1, **words, "active": False, "retained": 1e9, "inactive_s": None, **given}


def test_it_stands_beside_a_cause_that_takes_slots() -> None:
    seen = snapshot(many(97), extra={"walsenders": [sender() for _ in range(10)]})
    assert causes(JUDGE.diagnose(seen, fleet())) == ["leaked-sessions", "replication-limit"]
    assert causes(JUDGE.diagnose(seen, fleet({}))) == ["unexplained", "replication-limit"]


def test_its_owners_are_hosts_of_the_inventory() -> None:
    seen = snapshot([], extra={"walsenders": [sender() for _ in range(10)]})
    assert JUDGE.diagnose(seen, fleet()).finding.owners[0].host == "web-02"


@pytest.mark.parametrize(
    "slots",
    [
        [slot(active=True)],
        [slot(most=2)],
        [slot(synced=True)],
    ],
    ids=["in use", "one to spare", "a standby's copy"],
)
def test_slots_that_are_no_fault(slots: list[dict[str, Any]]) -> None:
    seen = snapshot([], extra={"replication-slots": slots})
    assert causes(JUDGE.diagnose(seen, fleet())) == ["healthy"]


def test_a_refusal_tells_it_where_the_count_cannot() -> None:
    text = "number of requested standby connections exceeds max_wal_senders (currently 10)"
    seen = snapshot(many(3), refusals=(("rescue", text),))
    assert causes(JUDGE.diagnose(seen, fleet())) == ["replication-limit"]


def test_no_walsenders_wanted_is_no_limit_reached() -> None:
    seen = snapshot([], limits={"max_wal_senders": 0}, extra={"walsenders": []})
    assert causes(JUDGE.diagnose(seen, fleet())) == ["healthy"]


def test_hidden_senders_are_counted() -> None:
    nothing = {"client_addr": None, "state": None, "application_name": None}
    seen = snapshot([], extra={"walsenders": [sender(**nothing) for _ in range(10)]})
    finding = JUDGE.diagnose(seen, fleet()).finding
    assert finding.cause == "replication-limit"
    assert "hidden" in finding.evidence[0]
