"""The verb `check`: gates that a playbook asks, once or for a while."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from runbook.model.errors import UsageError
from runbook.model.plan import Result
from runbook.steps import STEPS
from runbook.steps.check import CHECK, CheckArgs
from unit.steps.shop_world import World, answer, fleet

HTTP = {"url": "http://${host.address}:8000/healthz"}


def args(**given: Any) -> CheckArgs:
    return CheckArgs.model_validate(given)


def run(world: World, target: str, **given: Any) -> Result:
    chosen = args(**given)
    assert target in CHECK.targets(chosen, world.fleet)
    result = world.run(CHECK.phases["act"](chosen, world.context(target)))
    assert not world.changes
    return result


def test_it_is_a_verb_that_changes_nothing() -> None:
    assert STEPS["check"] is CHECK
    assert not CHECK.changes(args(service="shop"))


def test_where_it_asks() -> None:
    world = World()
    web = ("web-1", "web-2", "web-3", "web-4")
    assert CHECK.targets(args(http=HTTP, hosts="web"), world.fleet) == web
    assert CHECK.targets(args(service="shop"), world.fleet) == web
    assert CHECK.targets(args(service="shop", hosts="web-2"), world.fleet) == ("web-2",)
    assert CHECK.targets(args(http={"url": "http://lb/"}), world.fleet) == ("here",)
    assert CHECK.targets(args(pg_released={"database": "db"}), world.fleet) == ("db",)


def test_a_good_answer_is_kept() -> None:
    result = run(World(), "web-2", http=HTTP, hosts="web")
    assert (result.status, result.data["passed"], result.data["attempts"]) == ("ok", True, 1)
    (said,) = result.data["answers"]
    assert (said["kind"], said["asked"]) == ("http", "GET http://10.0.1.2:8000/healthz")


def test_without_a_deadline_a_bad_answer_is_the_result() -> None:
    world = World(get=lambda _world, _url: answer(503))
    result = run(world, "web-1", http=HTTP, hosts="web")
    assert (result.status, result.data["attempts"], world.now) == ("failed", 1, 1000.0)
    assert "answered 503" in result.summary
    assert result.by_hand == ("curl -i 'http://10.0.1.1:8000/healthz'",)


def test_with_a_deadline_it_waits() -> None:
    def get(world: World, _url: str) -> Any:
        return answer(200 if world.now > 1004 else 503)

    result = run(
        World(get=get), "web-1", http=HTTP, hosts="web", deadline="30s", successes=3, interval="1s"
    )
    assert (result.status, result.data["good_in_a_row"]) == ("ok", 3)
    assert result.data["attempts"] > 5
    late = run(World(get=get), "web-1", http=HTTP, hosts="web", deadline="3s", interval="1s")
    assert late.status == "failed"
    assert "not well within 3.0s: answered 503" in late.summary


def test_what_cannot_be_asked_is_not_waited_for() -> None:
    world = World(get=lambda _world, _url: answer(0, "no such name", asked=False))
    result = run(world, "web-1", http=HTTP, hosts="web", deadline="1h")
    assert (result.status, world.now) == ("failed", 1000.0)
    assert "cannot be asked: no such name" in result.summary
    assert result.hint


def test_a_name_server_that_fails_later_on_is_waited_for() -> None:
    def get(world: World, _url: str) -> Any:
        if world.now == 1000.0:
            return answer(503)
        return answer(0, "no such name", asked=False) if world.now < 1004 else answer(200)

    assert run(World(get=get), "web-1", http=HTTP, hosts="web", deadline="1m").status == "ok"


def test_a_service_brings_its_gates_its_unit_and_its_database() -> None:
    result = run(World(), "web-1", service="shop")
    assert [each["kind"] for each in result.data["answers"]] == ["http"]
    several = run(World(), "web-1", service="shop", systemd={}, pg_released={})
    assert [each["kind"] for each in several.data["answers"]] == ["systemd", "pg_released"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"http": HTTP}, "not known"),
        ({"command": {"argv": ["true"]}}, "hosts: SELECTOR"),
        ({"http": HTTP, "hosts": "nobody"}, "nobody"),
        ({"service": "shpo"}, "shop"),
        ({"sql": {"sql": "DELETE FROM t", "database": "db"}}, "read"),
        ({"systemd": {"unit": "a*"}, "hosts": "web"}, "one unit"),
        ({"http": {"url": "http://${host.vars.nope}/"}, "hosts": "web"}, "not known"),
    ],
)
def test_what_does_not_fit_is_told_before_anything(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as error:
        CHECK.targets(args(**given), fleet())
    assert says in f"{error.value.message} {error.value.hint}"


def test_a_check_asks_something() -> None:
    with pytest.raises(ValidationError, match="asks something"):
        args(hosts="web")
    bare = fleet(gates=[])
    with pytest.raises(UsageError, match="declares no gates"):
        CHECK.targets(args(service="shop"), bare)
