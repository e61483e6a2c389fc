"""Preflight: who may be restarted, and whose restart could be proved."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.model.effects import CommandOutcome, ReadCommand
from runbook.model.errors import DatabaseError, LoginRejected, Unreachable
from runbook.model.plan import Result
from runbook.steps.rolling_args import RollingArgs
from runbook.steps.rolling_preflight import preflight
from unit.steps.shop_world import ROW, World, answer, fleet, outcome, read_well

ARGS = RollingArgs(service="shop")


def whole(result: Result) -> str:
    """What a result says, and what it says to do."""
    return f"{result.summary} {result.hint}"


def look(world: World, host: str = "web-1") -> Result:
    result = world.run(preflight(ARGS, world.context(host)))
    assert not world.changes
    return result


def test_a_fit_host_brings_all_that_its_restart_needs() -> None:
    result = look(World())
    assert (result.status, result.data["healthy"]) == ("ok", True)
    assert result.touches == ("web-1: sudo systemctl restart shop.service",)
    assert result.data["baseline"]["InvocationID"] == "first"
    assert result.data["timeouts"] == {"restart_s": 115.0}
    assert result.data["boot_id"] == "boot-1"
    assert result.not_exercised


def test_a_host_that_is_down_is_why_we_came() -> None:
    result = look(World(get=lambda _world, _url: answer(0, "connection refused")))
    assert (result.status, result.data["healthy"]) == ("ok", False)
    assert "connection refused" in whole(result)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"LoadState": "masked"}, "unmask"),
        ({"LoadState": "not-found"}, "list-units"),
        ({"Job": "5"}, "at work"),
        ({"NeedDaemonReload": "yes"}, "daemon-reload"),
    ],
)
def test_a_unit_that_must_not_be_restarted(changed: dict[str, str], says: str) -> None:
    world = World()
    world.unit("web-1").update(changed)
    result = look(world)
    assert result.status == "refused"
    assert says in whole(result)
    assert not result.touches


@pytest.mark.parametrize("error", [Unreachable("gone"), LoginRejected("wrong key", hint="ssh-add")])
def test_an_unreachable_host_is_not_a_failed_one(error: Unreachable) -> None:
    def show(_world: World, _host: str) -> Any:
        raise error

    result = look(World(show=show))
    assert result.status == "unreachable"
    assert error.message in whole(result)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (
            outcome(0, "User oncall may run the following commands on web-1:\n    (ALL) ALL\n"),
            "password",
        ),
        (outcome(1, "", "sudo: a password is required\n"), "a password is required"),
        (outcome(127, "", "sh: sudo: not found"), "not found"),
    ],
)
def test_sudo_must_be_proved(said: CommandOutcome, says: str) -> None:
    def read(_world: World, effect: ReadCommand) -> CommandOutcome:
        return said if "sudo" in effect.argv else read_well(effect)

    result = look(World(read=read))
    assert result.status == "refused"
    assert says in whole(result)
    line = "oncall ALL=(root) NOPASSWD: /usr/bin/systemctl restart shop.service"
    assert line in whole(result)


def test_a_gate_that_cannot_be_asked_stops() -> None:
    world = World(get=lambda _world, _url: answer(0, "no such name", asked=False))
    assert look(world).status == "refused"


@pytest.mark.parametrize(
    ("row", "says"),
    [({"sees_all": False}, "GRANT pg_monitor"), ({}, None)],
)
def test_the_database_gate_must_see_everything(row: dict[str, Any], says: str | None) -> None:
    result = look(World(sql=lambda _world, _parameters: {**ROW, **row}))
    assert result.status == ("refused" if says else "ok")
    assert (says or "") in whole(result)


def test_a_database_that_does_not_answer_stops() -> None:
    def sql(_world: World, _parameters: dict[str, Any]) -> dict[str, Any]:
        raise DatabaseError("server down")

    result = look(World(sql=sql))
    assert result.status == "refused"
    assert "server down" in whole(result)


def test_addresses_that_a_pooler_hides_need_application_name() -> None:
    hidden = World(
        fleet=fleet(application_name=None),
        sql=lambda _world, _parameters: {**ROW, "sessions": 0},
    )
    assert "pooler" in whole(look(hidden))
    shared = fleet(application_name="shop", hosts="all")
    hosts = shared.inventory.hosts | {
        "other": shared.inventory.hosts["other"].model_copy(update={"address": "10.0.1.1"})
    }
    twins = type(shared)(shared.inventory.model_copy(update={"hosts": hosts}))
    assert "cannot be told apart" in whole(look(World(fleet=twins)))


def test_sessions_are_asked_for_by_the_hosts_own_name() -> None:
    asked: list[dict[str, Any]] = []

    def sql(_world: World, parameters: dict[str, Any]) -> dict[str, Any]:
        asked.append(parameters)
        return ROW

    look(World(sql=sql))
    (parameters,) = asked
    assert {key: value for key, value in parameters.items() if value is not None} == {
        "application": "shop-web-1",
        "application_before_16": "shop-web-1",
    }


def test_own_commands_need_an_identity() -> None:
    manager = {"command": {"restart": ["ctl", "restart"], "status": ["ctl", "status"]}}
    world = World(fleet=fleet(manager=manager), read=lambda _world, _effect: outcome(0, ""))
    assert "prints nothing" in whole(look(world))


def named(*names: str) -> World:
    """A shop whose first hosts' sessions bear these names; the first two share an address."""
    whole = fleet(application_name="${host.vars.session}")
    hosts = dict(whole.inventory.hosts)
    for number, name in enumerate(names, 1):
        address = f"10.0.1.{max(number, 2)}"
        changed = {"vars": {"session": name}, "address": address}
        hosts[f"web-{number}"] = hosts[f"web-{number}"].model_copy(update=changed)
    return World(fleet=type(whole)(whole.inventory.model_copy(update={"hosts": hosts})))


@pytest.mark.parametrize(
    ("one", "other", "fit"),
    [
        ("shop-a", "shop-b", True),
        ("x" * 63 + "a", "x" * 63 + "b", False),
        # Up to PostgreSQL 15 each byte of them becomes a question mark.
        ("shop-\u00e9", "shop-\u00e8", False),
        # From 16 on each becomes four characters, and the cut comes earlier.
        ("\u00e9" * 7 + "a", "\u00e9" * 7 + "b", True),
        ("\u00e9" * 7 + "a" * 10 + "1", "\u00e9" * 7 + "a" * 10 + "2", False),
    ],
)
def test_names_must_differ_as_the_server_keeps_them(one: str, other: str, fit: bool) -> None:
    result = look(named(one, other))
    assert (result.status == "ok") == fit
    assert ("same application_name for web-2" in whole(result)) != fit


def test_an_address_tells_apart_what_shares_a_name() -> None:
    asked: list[dict[str, Any]] = []

    def sql(_world: World, parameters: dict[str, Any]) -> dict[str, Any]:
        asked.append(parameters)
        return ROW

    world = named("a", "b", "x" * 70, "x" * 71)
    world.sql = sql
    assert look(world, "web-3").status == "ok"
    assert (asked[0]["application"], asked[0]["address"]) == ("x" * 63, "10.0.1.3")


def test_the_name_is_asked_for_as_each_server_keeps_it() -> None:
    asked: list[dict[str, Any]] = []

    def sql(_world: World, parameters: dict[str, Any]) -> dict[str, Any]:
        asked.append(parameters)
        return ROW

    look(World(fleet=fleet(application_name="caf\u00e9-${host.name}"), sql=sql))
    assert asked[0]["application"] == r"caf\xc3\xa9-web-1"
    assert asked[0]["application_before_16"] == "caf??-web-1"


@pytest.mark.parametrize(
    ("sessions", "status", "warned"), [(0, 200, True), (1, 200, False), (0, 503, False)]
)
def test_a_name_that_no_session_bears_is_told(sessions: int, status: int, warned: bool) -> None:
    world = World(
        sql=lambda _world, _parameters: {**ROW, "sessions": sessions},
        get=lambda _world, _url: answer(status),
    )
    warnings = "\n".join(look(world).data["warnings"])
    assert ("no session with application_name shop-web-1" in warnings) == warned


def test_sudo_is_asked_in_english() -> None:
    asked: list[tuple[str, ...]] = []

    def read(_world: World, effect: ReadCommand) -> CommandOutcome:
        asked.append(effect.argv)
        return read_well(effect)

    look(World(read=read))
    assert ("env", "LC_ALL=C", "sudo", "-n", "-l") in asked
