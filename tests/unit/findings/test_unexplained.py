"""Saturated, and nothing tells why; and a server that takes connections and answers no login."""

from __future__ import annotations

from typing import Literal

import pytest

from runbook.model.sessions import NO_ANSWER
from unit.findings.world import JUDGE, fleet, many, snapshot

SILENT = f"db cannot be reached: no answer within 5s: it took the connection, and {NO_ANSWER}"


@pytest.mark.parametrize(
    ("rung", "confidence"), [("os", "strong"), ("local", "strong"), ("admin", "likely")]
)
def test_a_server_that_answers_no_login_is_never_healthy(
    rung: Literal["os", "local", "admin"], confidence: str
) -> None:
    seen = snapshot(many(3), rung=rung, refusals=(("connect", SILENT),))
    told = JUDGE.diagnose(seen, fleet()).finding
    assert told.cause == "unexplained"
    assert "answers no login (connect)" in told.title
    # Where another login over the network went through, the postmaster itself is not stuck.
    assert told.confidence == confidence
    assert f"connect: {SILENT}" in told.evidence


def test_other_refusals_are_no_stuck_postmaster() -> None:
    shut = (("connect", "FATAL: sorry, too many clients already"),)
    told = JUDGE.diagnose(snapshot(many(3), rung="admin", refusals=shut), fleet())
    assert "answers no login" not in told.finding.title
