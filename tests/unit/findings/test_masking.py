"""No value of a statement gets into a session, a journal or a report; what classifies it does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.findings.masking import masked
from runbook.findings.sessions import session_from


@pytest.mark.parametrize(
    ("statement", "kept"),
    [
        ("ALTER ROLE app PASSWORD 'hunter2'", "ALTER ROLE app PASSWORD …"),
        ("alter role app password hunter2 valid until now", "alter role app password …"),
        ("SELECT * FROM users WHERE mail = 'it''s hunter2' AND n = 5", None),
        ("SELECT E'it\\'s hunter2' FROM t", "SELECT '…' FROM t"),
        ("SELECT 'it\\'s hunter2' FROM t", "SELECT '…"),
        ("SELECT 'C:\\dir' FROM t", "SELECT '…' FROM t"),
        ("SELECT $$hunter2$$, $a$ hunter2 $$ $a$, $1", "SELECT '…', '…', $1"),
        ("SELECT U&'hunter2', N'hunter2', x'hunter2'", "SELECT U&'…', N'…', x'…'"),
        ("SELECT 'a' /* hunter2 'b */, 'c' -- hunter2", "SELECT '…'  , '…' "),
        ("UPDATE t SET a = 'hunter2", "UPDATE t SET a = '…"),
        ("UPDATE t SET a = E'hun\\", "UPDATE t SET a = E'…"),
        ("DO $body$ hunter2", "DO '…'"),
        ("SELECT /* hunter2", "SELECT  "),
        ('SELECT "hunter2', 'SELECT "…'),
        ("SELECT 4111, 1.5e3, col1, $2, t.x4", "SELECT ?, ?, col1, $2, t.x4"),
    ],
)
def test_values_are_masked(statement: str, kept: str | None) -> None:
    assert "hunter2" not in masked(statement)
    assert masked(statement) == (kept or "SELECT * FROM users WHERE mail = '…' AND n = ?")


@pytest.mark.parametrize(
    "statement",
    [
        "",
        "COMMIT",
        "ROLLBACK",
        "LISTEN jobs",
        "DISCARD ALL",
        "<insufficient privilege>",
        "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;",
        'INSERT INTO "schema_migrations" (version) VALUES ($1)',
        "UPDATE café SET ünï$1 = $1 WHERE a <> b",
    ],
)
def test_what_a_session_is_recognised_by_stays(statement: str) -> None:
    assert masked(statement) == statement


@given(st.text(alphabet="ab'\"$-/*\\E1 \n", max_size=30), st.text("Z", min_size=1, max_size=3))
def test_a_literal_is_masked_whatever_surrounds_and_cuts_it(around: str, secret: str) -> None:
    for whole in (f"SELECT '{secret}'{around}", f"SELECT '{secret}"):
        assert secret not in masked(whole)
    masked(around)  # ends, and raises nothing


def test_sessions_are_masked_as_they_are_read() -> None:
    row = {
        "pid": 1,
        "database": b"shop".hex(),
        "role": b"app".hex(),
        "query": b"ALTER ROLE app PASSWORD 'hunter2'".hex(),
        "application_name": None,
    }
    rest = dict.fromkeys(
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
            "has_xid",
            "leader_pid",
            "superuser",
            "replication",
        )
    )
    assert session_from({**rest, **row}).query == "ALTER ROLE app PASSWORD …"
