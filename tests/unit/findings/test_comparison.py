"""What changed since the last diagnosis: what grew is named, and what is no change is not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runbook.findings.comparison import compare, owner_changes
from unit.findings.world import JUDGE, SHOP, fleet, many, session, snapshot

if TYPE_CHECKING:
    from runbook.model.diagnosis import Diagnosis
    from runbook.model.sessions import Session

EARLIER = "2026-01-01T02:11:00Z"


def seen(sessions: list[Session], services: Any = None, **limits: Any) -> Diagnosis:
    return JUDGE.diagnose(snapshot(sessions, limits=limits), fleet(services))


def shop(host: int, count: int) -> list[Session]:
    return many(
        count, application_name=f"shop-web-0{host}", client_addr=f"10.0.1.{host}", state_age_s=400
    )


def grown(before: Diagnosis, after: Diagnosis) -> dict[str, int]:
    return {change.owner: change.grown for change in compare(before, after).owners}


def test_slots_cause_and_time_of_then() -> None:
    before = seen([*shop(1, 5), *shop(3, 5)], server_time=EARLIER)
    since = compare(before, seen([*shop(1, 5), *shop(3, 68)]), "run-1")
    assert (since.used, since.usable, since.cause) == (10, 97, "healthy")
    assert (since.server_time, since.seconds, since.run_id) == (EARLIER, 360.0, "run-1")
    assert since.title == before.finding.title


def test_who_grew_and_who_shrank_the_largest_change_first() -> None:
    before = seen([*shop(1, 9), *shop(2, 4), *shop(3, 5), *many(3, application_name="cron")])
    after = seen([*shop(1, 2), *shop(2, 4), *shop(3, 41), *many(5, application_name="cron")])
    assert list(grown(before, after).items()) == [
        ("shop on web-03", 36),
        ("shop on web-01", -7),
        ("everyone else", 2),
    ]


def test_an_owner_that_is_gone_has_shrunk_to_nothing() -> None:
    assert grown(seen(shop(2, 4)), seen([])) == {"shop on web-02": -4}


def test_without_declared_pools_applications_are_compared() -> None:
    before = seen(many(3, application_name="cron"), services={})
    after = seen([*many(9, application_name="cron"), *many(2, application_name="etl")], services={})
    assert grown(before, after) == {"cron": 6, "etl": 2}


def test_a_pool_that_was_declared_in_between_has_not_grown() -> None:
    """Its sessions were among everyone else before: nothing is different on the server."""
    api = {**SHOP, "application_name": "api"}
    sessions = [*shop(1, 4), *many(30, application_name="api")]
    assert grown(seen(sessions), seen(sessions, services={"shop": SHOP, "api": api})) == {}


def test_sessions_in_doubt_are_counted_with_the_others_of_their_host() -> None:
    """They stand in a pool of their own: the second must not stand for the first."""
    strangers = many(6, application_name="shop-web-01", client_addr="10.9.9.9")
    before, after = seen([*shop(1, 4), *strangers]), seen([*shop(1, 9), *strangers])
    assert grown(before, after) == {"shop on web-01": 5}


def test_what_changed_of_the_server_is_said() -> None:
    before = seen([], started_at="2026-01-01T00:00:00Z", server_time=EARLIER, version="15.4")
    after = seen([], started_at="2026-01-01T02:15:00Z", in_recovery=True, max_connections=200)
    notes = compare(before, after).notes
    assert len(notes) == 4
    assert notes[0].startswith("the server was started at 2026-01-01T02:15:00Z")
    assert notes[1:] == (
        "a primary answered then, a standby now",
        "version 15.4 -> 16.4",
        "max_connections 100 -> 200",
    )


def test_nothing_is_guessed_where_a_start_was_not_told() -> None:
    before, after = seen([]), seen([], started_at="2026-01-01T02:15:00Z")
    assert compare(before, after).notes == ()


def test_a_clock_that_went_backwards_gives_no_age() -> None:
    before = seen([session()], server_time="2026-01-01T09:00:00Z")
    assert compare(before, seen([session()])).seconds is None


def test_owners_are_not_compared_between_the_server_and_its_processes() -> None:
    sql = JUDGE.diagnose(snapshot(many(20)), fleet())
    bare = [replace(s, application_name="", query="") for s in many(5)]
    host = JUDGE.diagnose(replace(snapshot(bare), rung="os"), fleet())
    assert owner_changes(sql, host) == ()
    assert owner_changes(host, sql) == ()
    assert owner_changes(sql, JUDGE.diagnose(snapshot(many(5)), fleet()))
