"""Sizes that add up: never past the target, never below a floor, never fewer in a larger server."""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runbook.model.pool_proposal import Claim, Shares, share_out

#: How long a machine under load takes to draw or to play a case says nothing about the cases.
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def claim(name: str = "shop", processes: int = 4, **given: int) -> Claim:
    values = {"floor": 1, "cap": 100, "need": 0, "declared": 0, **given}
    return Claim(name=name, processes=processes, **values)


@st.composite
def claims(draw: st.DrawFn, *, growing: bool = True) -> list[Claim]:
    most = 20 if growing else 0
    found = []
    for number in range(draw(st.integers(0, 5))):
        floor = draw(st.integers(1, 6))
        found.append(
            Claim(
                name=f"s{number}",
                processes=draw(st.integers(1, 20)),
                floor=floor,
                cap=floor + draw(st.integers(0, 30)),
                need=draw(st.integers(0, 60)),
                declared=draw(st.integers(1, 200)),
                surge=draw(st.integers(0, most)),
                further=draw(st.integers(0, most)),
            )
        )
    return found


def together(asked: list[Claim], shares: Shares) -> int:
    return sum(one.processes * shares.each[one.name] for one in asked)


@CALM
@given(claims(), st.integers(0, 600), st.integers(0, 200))
def test_what_fits_is_within_the_target_with_growth_within_usable(
    asked: list[Claim], target: int, reserve: int
) -> None:
    usable = target + reserve
    shares = share_out(asked, target=target, usable=usable)
    least = sum(one.processes * one.floor for one in asked)
    assert shares.fits == (least <= target)
    assert all(one.floor <= shares.each[one.name] <= one.cap for one in asked)
    if not shares.fits:
        assert together(asked, shares) == least
        return
    total = together(asked, shares)
    assert total <= target
    if shares.holds_growth:
        deploys = [one.surge * shares.each[one.name] for one in asked]
        further = sum(one.further * shares.each[one.name] for one in asked)
        assert total + max([further, *deploys]) <= usable


@CALM
@given(claims(), st.integers(0, 600), st.integers(0, 200))
def test_nothing_more_would_fit(asked: list[Claim], target: int, reserve: int) -> None:
    shares = share_out(asked, target=target, usable=target + reserve)
    if not shares.fits or any(one.surge or one.further for one in asked):
        return
    spare = target - together(asked, shares)
    assert all(one.processes > spare for one in asked if shares.each[one.name] < one.cap)


@CALM
@given(claims(growing=False), st.integers(0, 600), st.integers(1, 50))
def test_a_larger_server_never_has_fewer_in_all(asked: list[Claim], target: int, more: int) -> None:
    before = share_out(asked, target=target, usable=target)
    after = share_out(asked, target=target + more, usable=target + more)
    assert together(asked, after) >= together(asked, before)


@CALM
@given(claims(), st.integers(0, 600), st.randoms(use_true_random=False))
def test_the_order_of_the_inventory_decides_nothing(
    asked: list[Claim], target: int, random: Random
) -> None:
    mixed = list(asked)
    random.shuffle(mixed)
    one = share_out(asked, target=target, usable=target)
    assert one == share_out(mixed, target=target, usable=target)


def test_the_next_one_goes_to_the_largest_need_per_connection() -> None:
    asked = [claim("a", 1, need=30), claim("b", 1, need=10)]
    # D'Hondt's seats for 30 and 10 votes, 8 in all.
    assert share_out(asked, target=8, usable=8).each == {"a": 6, "b": 2}


def test_without_any_need_what_is_declared_decides() -> None:
    asked = [claim("a", 1, declared=30), claim("b", 1, declared=10)]
    assert share_out(asked, target=8, usable=8).each == {"a": 6, "b": 2}


def test_where_the_neediest_does_not_fit_any_more_others_go_on() -> None:
    asked = [claim("big", 10, need=100), claim("small", 1, need=1)]
    assert share_out(asked, target=25, usable=25).each == {"big": 2, "small": 5}


def test_a_growth_too_large_even_for_the_floors_is_told_and_left_out() -> None:
    shares = share_out([claim(surge=100)], target=40, usable=50)
    assert (shares.fits, shares.holds_growth, shares.each) == (True, False, {"shop": 10})
