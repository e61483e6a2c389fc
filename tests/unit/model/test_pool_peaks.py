"""The most that was ever seen: what earlier looks add to a look's peaks, and what they do not."""

from __future__ import annotations

from typing import Any

from runbook.findings.judge import FindingsJudge
from runbook.model.pool_facts import HostUse, OtherUse, PoolFacts, ServerFacts, ServiceUse
from runbook.model.pool_peaks import with_earlier
from unit.findings.world import fleet, many, snapshot


def facts(at: str, used: int, peak: int, **more: Any) -> PoolFacts:
    """Return a look at which web-01 alone holds something."""
    service = ServiceUse(
        service="shop",
        now=used,
        peak=peak,
        busy_mean=1.0,
        busy_peak=peak // 2,
        hosts=(HostUse(host="web-01", now=used, peak=peak),),
    )
    server = ServerFacts(
        version_num=160000,
        max_connections=100,
        superuser_reserved=3,
        reserved=0,
        superuser_sessions=0,
        in_recovery=False,
        used=used,
        peak=peak,
    )
    given = {"services": (service,), "others": (OtherUse(label="cron", now=0, peak=1),), **more}
    return PoolFacts(database="db", at=at, window_s=3.0, samples=7, server=server, **given)


NOW = facts("2026-02-01T00:00:00Z", 4, 6)


def test_alone_it_is_as_it_was() -> None:
    assert with_earlier(NOW, ()) is NOW


def test_the_largest_counts_and_says_since_when() -> None:
    higher = facts("2026-01-02T00:00:00Z", 1, 20, others=(OtherUse(label="cron", now=3, peak=3),))
    lower = facts("2026-01-01T00:00:00Z", 2, 2)
    found = with_earlier(NOW, (higher, lower))
    (shop,) = found.services
    assert (shop.now, shop.peak, shop.busy_peak, shop.hosts[0].peak) == (4, 20, 10, 20)
    assert (found.server.used, found.server.peak, found.others[0].peak) == (4, 20, 3)
    assert found.peak_since == "2026-01-01T00:00:00Z"


def test_a_diagnosis_is_a_moment_that_counts() -> None:
    judged = FindingsJudge().diagnose(snapshot(many(9)), fleet())
    assert judged.server.server_time < NOW.at
    found = with_earlier(NOW, (judged,))
    assert (found.services[0].peak, found.services[0].hosts[0].peak) == (9, 9)
    assert found.server.peak == 9


def test_what_is_gone_and_what_is_hidden_stay_so() -> None:
    hidden = NOW.services[0].model_copy(update={"busy_mean": None, "busy_peak": None})
    other = facts("2026-01-01T00:00:00Z", 9, 9)
    gone = other.services[0].model_copy(update={"service": "gone"})
    found = with_earlier(
        NOW.model_copy(update={"services": (hidden,)}),
        (other.model_copy(update={"services": (gone, other.services[0])}),),
    )
    assert [(s.service, s.peak, s.busy_peak) for s in found.services] == [("shop", 9, None)]


def test_what_a_service_held_before_its_pgbouncer_says_nothing() -> None:
    behind = NOW.model_copy(update={"behind_bouncer": ("shop",)})
    found = with_earlier(behind, (facts("2026-01-01T00:00:00Z", 9, 50),))
    assert (found.services[0].peak, found.server.peak) == (6, 50)
