"""The sum of the pools against the server: worked cases, bands, deploys, what hosts really have."""

from __future__ import annotations

import pytest

from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.pool_budget import verdict_of
from runbook.model.pool_facts import BouncerUse, OtherUse
from runbook.model.pool_plan import Verdict
from unit.model.pool_world import configured, facts, fleet, host_use, planned, server, shop, use


def test_four_servers_of_100_are_400_and_too_many_for_200() -> None:
    plan = planned(fleet({"shop": shop(100)}))
    assert (plan.together, plan.slots.usable, plan.verdict) == (400, 200, "over")
    assert plan.title == "over budget by 200: 400 connections may be opened, and 200 are usable"


def test_four_servers_of_40_are_160_and_fit() -> None:
    plan = planned(fleet({"shop": shop(40)}))
    assert (plan.together, plan.verdict, plan.percent) == (160, "tight", 80)
    assert not any(service.changed for service in plan.services)
    assert plan.command is None


def test_what_if_the_100_were_40_says_the_same() -> None:
    plan = planned(fleet({"shop": shop(100)}), None, "size=40")
    assert (plan.together, plan.verdict) == (160, "tight")


def test_the_proposal_for_the_400_is_what_fits_with_a_fifth_free() -> None:
    plan = planned(fleet({"shop": shop(100)}))
    (service,) = plan.services
    assert service.proposed is not None
    assert (service.proposed.size, plan.proposal.together, plan.proposal.free) == (40, 160, 40)
    assert plan.command == "runbook pool apply db --set shop.size=40"


def test_processes_overflow_direct_and_reserves_all_count() -> None:
    pool = {"processes": 3, "overflow": 2}
    inventory = fleet({"shop": shop(5, pool=pool)}, budget={"direct": 7})
    seen = facts(use(), server=server(superuser_reserved=3, reserved=2))
    plan = planned(inventory, seen)
    assert plan.together == 4 * 3 * (5 + 2) + 7
    assert plan.slots.usable == 200 - 3 - 2


def test_overflow_goes_before_size() -> None:
    both = {"env_file": "/etc/shop.env", "key": "SIZE"}
    settings = {"size": both, "overflow": {**both, "key": "OVERFLOW"}}
    plan = planned(fleet({"shop": shop(30, pool={"overflow": 40}, settings=settings)}))
    (service,) = plan.services
    assert service.proposed is not None
    assert (service.proposed.size, service.proposed.overflow) == (30, 10)
    assert plan.command == "runbook pool apply db --set shop.overflow=10"


def test_an_overflow_that_lives_nowhere_stays() -> None:
    plan = planned(fleet({"shop": shop(30, pool={"overflow": 15})}), facts(server=server(100)))
    (service,) = plan.services
    assert service.proposed is not None
    assert (service.proposed.size, service.proposed.overflow) == (5, 15)


@pytest.mark.parametrize(
    ("together", "verdict"),
    [
        (0, "comfortable"),
        (69, "comfortable"),
        (70, "tight"),
        (99, "tight"),
        (100, "full"),
        (101, "over"),
    ],
)
def test_the_bands(together: int, verdict: Verdict) -> None:
    assert verdict_of(together, 100) == verdict


def test_from_90_percent_it_is_one_incident_away() -> None:
    assert planned(fleet({"shop": shop(45)})).title.startswith("tight, one incident away: ")
    assert planned(fleet({"shop": shop(44)})).title.startswith("tight: ")


def test_exactly_full_has_no_reserve() -> None:
    plan = planned(fleet({"shop": shop(50)}))
    assert plan.verdict == "full"
    assert "no reserve" in plan.title


# ---- what is really there ------------------------------------------------------------------


def test_hosts_that_are_configured_differently_count_as_they_are() -> None:
    hosts = (host_use("web-1", 3), host_use("web-2", 3))
    told = (configured("web-2", "40"), configured("web-1", "10"))
    seen = facts(use(hosts=hosts), configured=told)
    plan = planned(fleet({"shop": shop(10)}), seen)
    (service,) = plan.services
    assert [(one.hosts, one.size) for one in service.sums] == [(3, 10), (1, 40)]
    assert (plan.together, plan.declared) == (70, 40)
    assert {host.host: host.budget for host in service.hosts} == {"web-1": 10, "web-2": 40}
    assert "shop: size is 40 on web-2 (/etc/shop.env line 3, POOL_SIZE); declared: 10" in plan.notes


@pytest.mark.parametrize(("value", "declared"), [("40", False), ("forty", True), ("0", True)])
def test_what_may_be_another_pools_or_is_no_size_is_told_and_not_counted(
    value: str, declared: bool
) -> None:
    seen = facts(use(), configured=(configured("web-2", value, declared=declared),))
    plan = planned(fleet({"shop": shop(10)}), seen)
    assert plan.together == 40
    assert any(f"size is {value} on web-2" in note for note in plan.notes)


def test_a_service_of_unknown_size_counts_by_its_peak_and_at_least() -> None:
    plan = planned(fleet({"shop": {}, "jobs": shop(10)}), facts(use("shop", 30)))
    assert plan.together == 30 + 40
    assert "at least 70" in plan.title
    assert plan.services[0].proposed is None


def test_what_is_configured_stands_in_for_a_pool_that_nobody_declared() -> None:
    both = [(f"web-{n}", name) for n in range(1, 5) for name in ("size", "processes")]
    told = tuple(configured(host, "3", name=name) for host, name in both)
    plan = planned(fleet({"shop": {}}), facts(use(), configured=told))
    assert plan.together == 4 * 3 * 3
    part = planned(fleet({"shop": {}}), facts(use(busy=2), configured=told[:-1]))
    assert part.services[0].counted_by == "observed"


def test_behind_a_pgbouncer_its_pools_count() -> None:
    pool = BouncerUse(bouncer="b", pool="shop/app", budget=25, now=3, clients=80, waiting=2)
    seen = facts(use(), bouncers=(pool,), behind_bouncer=("shop",))
    plan = planned(fleet({"shop": shop(100)}), seen)
    assert (plan.together, plan.verdict) == (25, "comfortable")
    assert plan.services[0].proposed is None
    assert any("2 of 80 clients wait for one of 25" in note for note in plan.notes)


def test_people_and_cron_count_as_they_were_seen_when_that_is_more_than_declared() -> None:
    others = (OtherUse(label="cron", now=0, peak=6), OtherUse(label="psql", now=1, peak=3))
    inventory = fleet({"shop": shop(10)}, budget={"direct": 5})
    plan = planned(inventory, facts(use(), others=others))
    assert (plan.direct.declared, plan.direct.counted, plan.together) == (5, 9, 49)
    assert any("9 connections past every pool were seen" in note for note in plan.notes)


def test_superusers_take_ordinary_slots_and_that_is_told() -> None:
    seen = facts(use(), server=server(superuser_reserved=3, superuser_sessions=2))
    plan = planned(fleet({"shop": shop(10)}), seen)
    assert plan.slots.usable == 197
    assert any("so at this moment 195 are usable" in note for note in plan.notes)


# ---- who has too much, who too little ------------------------------------------------------


def test_a_pool_much_larger_than_its_need_is_oversized() -> None:
    (service,) = planned(fleet({"shop": shop(40)}), facts(use(busy=20, peak=90))).services
    assert service.standing == "oversized"
    assert "90 were open at the most, 20 at work at once" in service.because


def test_a_small_pool_is_not_oversized_however_idle() -> None:
    (service,) = planned(fleet({"shop": shop(2)}), facts(use())).services
    assert service.standing == "fits"


def test_all_of_a_pool_at_work_is_starved_and_may_grow() -> None:
    (service,) = planned(fleet({"shop": shop(10)}), facts(use(busy=40))).services
    assert service.standing == "starved"
    assert service.need == 52  # 30% over what its own limit let through
    assert service.proposed is not None
    assert service.proposed.size == 13


def test_need_is_the_mean_and_30_percent_or_the_peak_rounded_up() -> None:
    def need(mean: float, peak: int) -> int | None:
        seen = facts(use(busy_mean=mean, busy_peak=peak))
        return planned(fleet({"shop": shop(10)}), seen).services[0].need

    assert need(10.0, 0) == 13
    assert need(10.1, 0) == 14
    assert need(110.0, 0) == 143
    assert need(1.0, 7) == 7


def test_the_mean_at_work_is_rate_times_hold_time() -> None:
    seen = facts(use(busy=30, busy_mean=12.0, rate_per_s=300.0))
    assert planned(fleet({"shop": shop(10)}), seen).services[0].hold_ms == 40.0


def test_a_load_that_is_hidden_is_unknown_and_not_nothing() -> None:
    plan = planned(fleet({"shop": shop(10)}), facts(use(busy=None, now=3, peak=3)))
    (service,) = plan.services
    assert (service.need, service.standing) == (None, "unknown")
    assert any(line.startswith("the load of shop") for line in plan.unseen)


def test_requests_that_hold_several_connections_have_a_floor() -> None:
    pool = {"threads": 4, "nested": 3}
    plan = planned(fleet({"shop": shop(100, pool=pool)}), facts(use(), server=server(60)))
    (service,) = plan.services
    assert (service.deadlock_floor, service.floor) == (9, 9)
    assert service.proposed is not None
    assert service.proposed.size == 12  # 48 of 60, the floor kept

    (small,) = planned(fleet({"shop": shop(8, pool=pool)})).services
    assert small.standing == "starved"
    assert "can deadlock" in small.because
    assert small.proposed is not None
    assert small.proposed.size == 9


# ---- deploys and autoscaling ---------------------------------------------------------------


def test_a_declared_surge_that_breaks_the_budget_makes_it_tight() -> None:
    plan = planned(fleet({"shop": shop(30, pool={"surge": "100%"})}))
    assert (plan.percent, plan.verdict) == (60, "tight")
    deploy = plan.growth[0]
    assert (deploy.connections, deploy.over) == (240, 40)
    assert "40 too many with deploy of shop (+4 hosts)" in plan.title


def test_the_proposal_leaves_room_for_the_deploy() -> None:
    plan = planned(fleet({"shop": shop(30, pool={"surge": "100%"})}))
    assert plan.proposal.holds_growth
    assert plan.growth[0].proposed == 200
    assert plan.proposal.together == 100


def test_autoscaling_counts_all_hosts_it_may_reach() -> None:
    plan = planned(fleet({"shop": shop(10, pool={"scales_to": 30})}))
    assert (plan.growth[0].connections, plan.growth[0].over) == (300, 100)
    assert plan.services[0].proposed is not None
    assert plan.services[0].proposed.size == 6


def test_doubling_is_shown_and_judged_by_nobody() -> None:
    plan = planned(fleet({"shop": shop(30)}))
    (doubled,) = plan.growth
    assert (doubled.kind, doubled.connections, doubled.worst_case) == ("doubling", 240, True)
    assert plan.verdict == "comfortable"


# ---- where nothing fits --------------------------------------------------------------------


def test_floors_that_do_not_fit_come_with_the_ways_out_in_numbers() -> None:
    plan = planned(fleet({"shop": shop(1, pool={"processes": 50})}), facts(server=server(100)))
    assert not plan.proposal.fits
    assert plan.command is None
    ways = " ".join(plan.proposal.ways)
    assert "200 of them keep at least 200 connections, and there is room for 80" in ways
    assert "at most 80 server connections" in ways
    assert "max_connections = 250 instead of 100" in ways
    enough = facts(server=server(250))
    assert planned(fleet({"shop": shop(1, pool={"processes": 50})}), enough).proposal.fits


@pytest.mark.parametrize("reserve", ["0", "13", "20%", "33%", "99%"])
def test_the_max_connections_that_is_named_is_the_smallest_that_fits(reserve: str) -> None:
    def fits(max_connections: int) -> tuple[bool, tuple[str, ...]]:
        seen = facts(use(), server=server(max_connections, superuser_reserved=3))
        inventory = fleet({"shop": shop(1, pool={"processes": 17})})
        proposal = planned(inventory, seen, reserve=reserve).proposal
        return proposal.fits, proposal.ways

    _, ways = fits(20)
    named = next(int(way.split()[2]) for way in ways if way.startswith("max_connections = "))
    assert fits(named)[0]
    assert not fits(named - 1)[0]


def test_a_smaller_reserve_is_named_where_it_is_enough() -> None:
    plan = planned(fleet({"shop": shop(45)}), facts(use(busy=150)), reserve="50%")
    assert any(way.startswith("a smaller reserve") for way in plan.proposal.ways)


def test_a_reserve_of_everything_has_no_max_connections() -> None:
    plan = planned(fleet({"shop": shop(1)}), reserve="100%")
    assert not plan.proposal.fits
    assert not any("max_connections" in way for way in plan.proposal.ways)


def test_nobody_uses_it() -> None:
    plan = planned(fleet({}))
    assert (plan.together, plan.verdict, plan.command) == (0, "comfortable", None)


def test_two_databases_of_one_server_are_one_budget() -> None:
    inventory = fleet({"shop": shop(10), "crm": {**shop(20), "database": "other"}})
    connect = {"host": "DB", "user": "else"}
    budget = {"direct": 3}
    both = inventory.inventory.model_dump() | {
        "databases": {
            **inventory.inventory.model_dump()["databases"],
            "other": {"connect": connect, "budget": budget},
        }
    }
    plan = planned(Fleet(Inventory.model_validate(both)))
    assert plan.together == 4 * 10 + 4 * 20 + 3
    assert "other: on the same server, so it is one budget" in plan.notes


def test_hosts_with_more_processes_get_the_same_size_for_each() -> None:
    told = (configured("web-1", "3", name="processes"),)
    plan = planned(fleet({"shop": shop(100)}), facts(use(), configured=told))
    (service,) = plan.services
    assert plan.together == 100 * (3 + 1 + 1 + 1)
    assert service.proposed is not None
    assert service.proposed.size == 26
    assert [(one.hosts, one.processes) for one in service.proposed.sums] == [(3, 1), (1, 3)]
    assert service.proposed.connections == plan.proposal.together == 6 * 26


def test_what_was_made_smaller_by_hand_is_not_made_larger() -> None:
    told = tuple(configured(f"web-{n}", "4") for n in range(1, 5))
    (service,) = planned(fleet({"shop": shop(10)}), facts(use(), configured=told)).services
    assert not service.changed


def test_what_drifted_above_the_inventory_comes_back() -> None:
    plan = planned(fleet({"shop": shop(10)}), facts(use(), configured=(configured("web-1", "20"),)))
    assert plan.command == "runbook pool apply db --set shop.size=10"
