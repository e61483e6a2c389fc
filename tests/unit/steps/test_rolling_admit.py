"""Admission: how many hosts must stay healthy while a batch is away."""

from __future__ import annotations

from typing import Any

from runbook.model.effects import HttpReply
from runbook.model.plan import Result
from runbook.steps.rolling_admit import admit
from runbook.steps.rolling_args import RollingArgs
from unit.steps.shop_world import World, answer

HOSTS = [f"web-{n}" for n in range(1, 5)]


def ask(world: World, batch: list[str], floor: int) -> Result:
    args = RollingArgs.model_validate({"service": "shop", "admit_deadline": "10s"})
    context = world.context("shop", batch=batch, hosts=HOSTS, min_available=floor)
    return world.run(admit(args, context))


def down(*numbers: int, until: float = 1e9) -> World:
    def get(world: World, url: str) -> HttpReply:
        ill = any(f"10.0.1.{n}:" in url for n in numbers) and world.now < until
        return answer(503 if ill else 200)

    return World(get=get)


def test_enough_stay() -> None:
    result = ask(World(), ["web-1"], 3)
    assert result.status == "ok"
    assert result.data["healthy"] == HOSTS


def test_it_waits_until_enough_are_healthy() -> None:
    world = down(4, until=1005)
    assert ask(world, ["web-1"], 3).status == "ok"
    assert world.now == 1006
    assert world.said


def test_it_gives_up_at_the_deadline_and_says_who_is_ill() -> None:
    world = down(4)
    result = ask(world, ["web-1"], 3)
    assert result.status == "failed"
    assert "web-4: answered 503" in result.summary
    assert world.now == 1010


def test_a_batch_without_a_healthy_host_costs_nothing() -> None:
    """A saturated database fails every health check; a naive budget would wait forever."""
    result = ask(down(1, 2, 3, 4), ["web-1", "web-2"], 4)
    assert result.status == "ok"


def test_a_floor_that_can_never_be_kept_is_told_at_once() -> None:
    world: Any = World()
    result = ask(world, ["web-1", "web-2"], 3)
    assert result.status == "failed"
    assert "can never leave 3" in result.summary
    assert world.now == 1000


def test_it_waits_no_longer_once_somebody_wants_to_stop() -> None:
    world = down(4)
    world.stop = lambda world: world.now >= 1004
    result = ask(world, ["web-1"], 3)
    assert (result.status, result.data["interrupted"]) == ("failed", True)
    assert "3 of 4 healthy" in result.summary
    assert world.now == 1004


def test_a_batch_that_may_go_is_told_so_even_then() -> None:
    """Whether it goes is not for the admission to say."""
    world = World(stop=lambda _world: True)
    assert ask(world, ["web-1"], 3).status == "ok"


def test_hosts_beyond_a_limit_count_as_those_that_stay() -> None:
    """The plan has one host of four: the other three are looked at, and one may be away."""
    args = RollingArgs.model_validate({"service": "shop", "admit_deadline": "10s"})
    given: dict[str, Any] = {"batch": ["web-1"], "hosts": ["web-1"], "min_available": 3}
    context = World().context("shop", **given, targets=["web-1"])
    assert World().run(admit(args, context)).data["healthy"] == HOSTS
