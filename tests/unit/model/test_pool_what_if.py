"""`--what-if`: which words there are, what wins, and what is said of a slip of the pen."""

from __future__ import annotations

import pytest

from runbook.model.errors import UsageError
from runbook.model.pool_planning import plan_pools
from runbook.model.pool_what_if import check_fit, parse
from unit.model.pool_world import configured, facts, fleet, planned, shop, use

INVENTORY = fleet({"shop": shop(10), "jobs": shop(5), "v1.api": shop(5)})


@pytest.mark.parametrize(
    ("words", "together", "usable"),
    [
        (["hosts=8"], 8 * 10 + 8 * 5 + 8 * 5, 200),
        (["shop.hosts=8"], 8 * 10 + 4 * 5 + 4 * 5, 200),
        (["v1.api.hosts=8"], 4 * 10 + 4 * 5 + 8 * 5, 200),
        (["max_connections=300"], 80, 300),
        (["size=20"], 3 * 4 * 20, 200),
        (["shop.size=20", "size=1"], 4 * 20 + 2 * 4, 200),
        (["size=1,shop.size=20"], 4 * 20 + 2 * 4, 200),
        (["processes=4"], 4 * 80, 200),
        (["overflow=5"], 80 + 3 * 4 * 5, 200),
        (["direct=9", "shop.hosts=1", "shop.processes=2", "shop.overflow=3"], 26 + 40 + 9, 200),
    ],
)
def test_the_sum_were_it_so(words: list[str], together: int, usable: int) -> None:
    plan = planned(INVENTORY, None, *words)
    assert (plan.together, plan.slots.usable) == (together, usable)


def test_nothing_of_it_is_applied() -> None:
    plan = planned(INVENTORY, None, "size=90")
    assert plan.what_if == ("size=90",)
    assert plan.command is None
    assert "nothing of it is applied" in plan.advice


def test_hosts_that_differ_become_alike() -> None:
    seen = facts(use(), configured=(configured("web-1", "50"),))
    plan = planned(INVENTORY, seen, "shop.hosts=5")
    assert plan.together == 5 * 10 + 40


def test_the_load_stays_when_the_hosts_change() -> None:
    before, after = (
        planned(INVENTORY, facts(use(busy=16)), *words).services[0]
        for words in ([], ["shop.hosts=2"])
    )
    assert (before.need, before.floor) == (16, 4)
    assert (after.need, after.floor) == (16, 8)


def test_a_service_of_unknown_size_is_supposed_whole_or_not_at_all() -> None:
    inventory = fleet({"shop": {}, "jobs": shop(5)})
    assert planned(inventory, None, "shop.size=5,shop.processes=2").together == 40 + 20
    assert planned(inventory, None, "size=10").together == 40
    with pytest.raises(UsageError) as caught:
        planned(inventory, None, "shop.size=5")
    assert "how large the pool of 'shop' is" in caught.value.message


@pytest.mark.parametrize(
    ("word", "message", "hint"),
    [
        ("hosts", "'hosts' is not NAME=NUMBER", "as in hosts=8"),
        ("host=8", "there is no 'host'", "did you mean 'hosts'?"),
        ("max_conections=8", "there is no 'max_conections'", "did you mean 'max_connections'?"),
        ("shop.max_connections=8", "there is no 'max_connections' of a service", "there is: hosts"),
        ("shpo.size=8", "no service named 'shpo'", "did you mean 'shop'?"),
        ("zzz.size=8", "no service named 'zzz'", "it has: shop, jobs, v1.api"),
        ("size=0", "size is a whole number from 1", "as in size=8"),
        ("size=-1", "size is a whole number from 1", "as in size=8"),
        ("size=1e3", "size is a whole number from 1", "as in size=8"),
        ("size=9999999999", "size is a whole number from 1", "as in size=8"),
        ("size=٣", "size is a whole number from 1", "as in size=8"),
        ("", "'' is not NAME=NUMBER", "as in hosts=8"),
    ],
)
def test_a_slip_of_the_pen(word: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse([word], INVENTORY.inventory.services)
    assert message in caught.value.message
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(hint)


def test_the_same_number_twice_is_a_contradiction() -> None:
    with pytest.raises(UsageError, match=r"shop\.size is given twice"):
        parse(["shop.size=1", "shop.size=2"], INVENTORY.inventory.services)


def test_a_service_of_another_database_would_change_nothing() -> None:
    inventory = fleet({"shop": shop(1), "other": {"database": "else"}, "none": {"database": None}})
    services = inventory.inventory.services
    with pytest.raises(UsageError, match="service 'other' uses 'else', not 'db'"):
        check_fit(parse(["other.hosts=1"], services), inventory, ["db"])
    with pytest.raises(UsageError, match="service 'none' names no database"):
        check_fit(parse(["none.hosts=1"], services), inventory, ["db"])
    check_fit(parse(["shop.hosts=1", "size=1"], services), inventory, ["db"])


def test_hosts_that_differ_stay_so_when_values_are_put_on_each() -> None:
    other = (configured("web-1", "8", name="overflow"), configured("web-2", "6", name="processes"))
    seen = facts(use(), configured=other)
    supposed = parse(["shop.size=5"], INVENTORY.inventory.services)
    plan = plan_pools(INVENTORY, seen, what_if=supposed, alike=False)
    shop_now = plan.services[0]
    assert shop_now.counted == 1 * (5 + 8) + 6 * 5 + 2 * 5
    assert plan.together == shop_now.counted + 20 + 20
