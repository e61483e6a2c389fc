"""The step `pool_check`: who keeps to a size, who does not, and what is not judged."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from runbook.model.effects import Together
from runbook.model.errors import Unreachable, UsageError
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.plan import Result
from runbook.model.pool_facts import Configured, HostUse, PoolFacts, ServerFacts, ServiceUse
from runbook.model.step import StepContext
from runbook.steps.pool_check import POOL_CHECK, PoolSize, budgets_of

FLEET = Fleet(
    Inventory.model_validate(
        {
            "version": 1,
            "hosts": {"web-1": {}, "web-2": {}},
            "databases": {"db": {"connect": {"host": "db", "user": "oncall"}}, "db-2": {
                "connect": {"host": "other", "user": "oncall"}}},
            "services": {
                "shop": {"hosts": "all", "database": "db", "pool": {"processes": 2, "size": 9}},
                "bare": {"hosts": "all", "database": "db"},
            },
        }
    )
)  # fmt: skip


class Counts:
    """A judge that has counted."""

    def __init__(self, hosts: dict[str, int], *, peak: int = 0, behind: bool = False) -> None:
        self._use = ServiceUse(
            service="shop",
            now=0,
            peak=peak or sum(hosts.values()),
            busy_mean=0.0,
            busy_peak=0,
            hosts=tuple(HostUse(host=name, now=0, peak=n) for name, n in hosts.items()),
        )
        self._behind = behind

    def pool_use(self, *_args: object, **_more: object) -> Any:
        yield from ()
        server = ServerFacts(
            version_num=160000, max_connections=40, superuser_reserved=3, reserved=0,
            superuser_sessions=0, in_recovery=False, used=7, peak=9,
        )  # fmt: skip
        return PoolFacts(
            database="db", at="", window_s=1, samples=2, server=server, services=(self._use,),
            behind_bouncer=("shop",) if self._behind else (),
        )  # fmt: skip


def check(counts: Counts, **more: Any) -> Result:
    given = {"database": "db", "watch": "1s", "pools": [{"service": "shop", "size": 4}], **more}
    args = POOL_CHECK.args.model_validate(given)
    assert POOL_CHECK.targets(args, FLEET) == ("db",)
    judge: Any = counts
    drive = POOL_CHECK.phases["act"](args, StepContext(fleet=FLEET, judge=judge, target="db"))
    answer: Any = None
    try:
        while True:  # hosts that do not answer: the inventory's word counts
            effect = drive.send(answer)
            assert isinstance(effect, Together)
            answer = tuple(Unreachable("no route") for _ in effect.effects)
    except StopIteration as stop:
        result: Result = stop.value
        return result


def test_who_keeps_to_its_size_and_who_does_not() -> None:
    kept = check(Counts({"web-1": 8, "web-2": 5}))
    assert kept.status == "ok"
    assert "shop held at most 8 on a host and may hold 8" in kept.summary
    assert "7 of 37 slots are in use" in kept.summary
    over = check(Counts({"web-1": 8, "web-2": 9}))
    assert over.status == "failed"
    assert "shop on web-2 held 9 and may hold 8" in over.summary
    assert "web-1" not in over.summary
    assert check(Counts({"web-2": 9}), only_count=True).status == "ok"


def test_hosts_that_are_not_told_apart_are_judged_together() -> None:
    assert check(Counts({}, peak=16)).status == "ok"
    assert "shop held 17 and may hold 16 on all hosts" in check(Counts({}, peak=17)).summary


def test_a_host_is_held_to_what_it_has_where_nothing_else_is_given() -> None:
    there = [
        Configured(
            service="shop", host=host, name=name, value=value, source="", declared=declared
        )
        for host, name, value, declared in (
            ("web-2", "processes", "6", True),
            ("web-2", "size", "9", True),  # the new size is given
            ("web-1", "overflow", "50", False),  # found, and may be something else
        )
    ]  # fmt: skip
    pool = PoolSize(service="shop", size=4)
    assert budgets_of(pool, FLEET, there) == {"web-1": 8, "web-2": 24}


def test_what_comes_through_a_bouncer_is_not_judged() -> None:
    assert "not judged" in check(Counts({"web-1": 99}, behind=True)).summary


def test_what_does_not_fit_the_inventory_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing says what overflow the pool of bare has"):
        check(Counts({}), pools=[{"service": "bare", "size": 4}])
    with pytest.raises(UsageError, match="uses database 'db', not 'db-2'"):
        check(Counts({}), database="db-2")
    with pytest.raises(ValidationError):
        check(Counts({}), pools=[])
