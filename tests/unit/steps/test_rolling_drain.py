"""Draining before a restart and undraining after: what is taken out is put back, if it is well."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from runbook.model.effects import ChangeCommand, CommandOutcome, ReadCommand
from runbook.model.errors import ConnectionLost, Refused, Unreachable, UsageError
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.plan import Result
from runbook.steps.draining import rotation_of
from runbook.steps.rolling_args import RollingArgs
from runbook.steps.rolling_host import restart
from runbook.steps.rolling_preflight import preflight
from runbook.steps.rolling_settle import settle
from runbook.steps.rolling_subject import health_of, subject_of
from unit.steps.balanced_world import Balanced, Server, fleet
from unit.steps.shop_world import LISTING, World, answer, outcome, read_well

ARGS = RollingArgs(service="shop")
DEBT = "undrain web-1 (shop)"
DRAIN, UNDRAIN = (
    f"on lb-1: sudo set server shop/web-1 state {state} (/run/haproxy/admin.sock)"
    for state in ("drain", "ready")
)
RESTART = "on web-1: sudo systemctl restart shop.service"


def go(world: World, **given: Any) -> Result:
    prepared = {"timeouts": {"restart_s": 115.0}}
    return world.run(restart(ARGS, world.context("web-1", prepared=prepared, **given)))


def look(world: World) -> Result:
    return world.run(preflight(ARGS, world.context("web-1")))


def whole(result: Result) -> str:
    return f"{result.summary} {result.hint} {' '.join(result.data.get('warnings', ()))}"


# ---- the way of one host


def test_a_host_is_drained_restarted_and_put_back_in_this_order() -> None:
    world = Balanced()
    result = go(world)
    assert (result.status, result.hint) == ("ok", "")
    assert world.sentences() == [DRAIN, RESTART, UNDRAIN]
    assert [each["stage"] for each in result.data["stages"]] == [
        "draining",
        "restarting",
        "stabilising",
        "gating",
        "db_gating",
        "undraining",
    ]
    assert (world.owed, world.paid) == ({}, [DEBT])
    assert "back in rotation" in result.summary


def test_two_balancers_are_both_told_and_both_seen() -> None:
    world = Balanced(fleet=fleet(["lb-1", "lb-2"]))
    assert go(world).status == "ok"
    drained = [s for s in world.sentences() if "drain" in s]
    assert [s.partition(":")[0] for s in drained] == ["on lb-1", "on lb-2"]
    assert world.server(balancer="lb-2").admin == 0
    ready = [s for s in world.sentences() if "ready" in s]
    assert len(ready) == 2


def test_every_change_was_in_the_footprint_of_preflight() -> None:
    world = Balanced(fleet=fleet(["lb-1", "lb-2"]))
    shown = look(world).touches
    assert not world.changes
    go(world)
    made = [line for change in world.changes for line in change.footprint()]
    assert tuple(made) == shown
    assert len(set(made)) == 5


def test_the_debt_is_written_down_before_the_balancer_is_told() -> None:
    world = Balanced()
    seen: list[tuple[str, bool]] = []
    made = world.restart

    def watched(world: World, effect: Any) -> CommandOutcome:
        seen.append((effect.sentence(), DEBT in world.owed))
        return made(world, effect)

    world.restart = watched
    go(world)
    assert seen == [(DRAIN, True), (RESTART, True), (UNDRAIN, True)]


def test_a_debt_that_cannot_be_written_down_is_never_made() -> None:
    class Full(Balanced):
        def perform(self, effect: Any) -> Any:
            if type(effect).__name__ == "Owe":
                raise Unreachable("the journal's disk is full")
            return super().perform(effect)

    world = Full()
    with pytest.raises(Unreachable):
        go(world)
    assert not world.changes


def test_connections_are_waited_for() -> None:
    world = Balanced(fleet=fleet(at_most=1))
    world.server().sessions = 3
    order: list[float] = []

    def read(effect: ReadCommand) -> CommandOutcome:
        if world.changes:
            world.server().sessions = 3 if world.now < 1004 else 1
        return Balanced._read(world, effect)

    world.read = lambda _world, effect: read(effect)
    made = world.restart

    def watched(inner: World, effect: Any) -> CommandOutcome:
        order.append(inner.now)
        return made(inner, effect)

    world.restart = watched
    assert go(world).status == "ok"
    assert order[0] == 1000
    assert order[1] == pytest.approx(1004)
    assert any("3 connections are left, 1 may be" in line for line in world.said)


def test_a_drain_that_never_empties_is_undone_and_nothing_is_restarted() -> None:
    world = Balanced()
    world.server().sessions = 2
    result = go(world)
    assert result.status == "failed"
    assert "not drained within 10s: 2 connections are left" in result.summary
    assert "back in rotation" in result.summary
    assert world.sentences() == [DRAIN, UNDRAIN]
    assert (world.owed, world.paid) == ({}, [DEBT])


def test_a_host_that_fell_ill_while_draining_stays_drained() -> None:
    world = Balanced()
    world.server().sessions = 2
    world.get = lambda world, _url: answer(503 if world.changes else 200)
    result = go(world)
    assert result.status == "failed"
    assert world.sentences() == [DRAIN]
    assert DEBT in world.owed
    assert "stays drained in lb-1" in result.summary
    line = "echo 'set server shop/web-1 state ready' | ssh oncall@10.0.2.1 sudo /usr/bin/socat"
    assert any(each.startswith(line) for each in result.by_hand)


@pytest.mark.parametrize(
    "no",
    [
        lambda: outcome(0, "No such server.\n\n"),
        lambda: outcome(1, "", "sudo: a password is required"),
    ],
)
def test_a_balancer_that_says_no_is_believed(no: Any) -> None:
    world = Balanced()
    made = world.restart
    world.restart = lambda inner, effect: (
        no() if "drain" in effect.sentence() else made(inner, effect)
    )
    result = go(world)
    assert result.status == "failed"
    assert "nothing was restarted: lb-1 said" in result.summary
    assert world.restarts() == 0


def test_a_lost_answer_to_the_drain_is_undone() -> None:
    world = Balanced()
    made = world.restart

    def lose(inner: World, effect: Any) -> CommandOutcome:
        done = made(inner, effect)
        if "drain" in effect.sentence():
            raise ConnectionLost("cut")
        return done

    world.restart = lose
    result = go(world)
    assert result.status == "failed"
    assert world.sentences() == [DRAIN, UNDRAIN]
    assert world.server().admin == 0


@pytest.mark.parametrize("stage", ["gating", "stabilising"])
def test_a_host_that_is_not_well_after_its_restart_is_never_put_back(stage: str) -> None:
    world = Balanced()
    if stage == "gating":
        world.get = lambda world, _url: answer(503 if len(world.changes) > 1 else 200)
    else:
        made = world.restart
        world.restart = lambda inner, effect: (
            inner.restart_well(effect.host, ActiveState="failed", SubState="failed")
            if "systemctl" in effect.sentence()
            else made(inner, effect)
        )
    result = go(world)
    assert (result.status, result.data["stage"]) == ("failed", stage)
    assert world.sentences() == [DRAIN, RESTART]
    assert DEBT in world.owed
    assert result.data["drained"] == ["lb-1"]
    assert result.by_hand[-1].startswith("echo 'set server shop/web-1 state ready' | ssh")


def test_a_balancer_that_does_not_take_it_back_is_told() -> None:
    world = Balanced()
    made = world.restart

    def dead(inner: World, effect: Any) -> CommandOutcome:
        if "ready" in effect.sentence():
            world.server().op = 0
        return made(inner, effect)

    world.restart = dead
    result = go(world)
    assert (result.status, result.data["stage"]) == ("failed", "undraining")
    assert "not in rotation within 10s: lb-1 holds shop/web-1 down by its own check" in (
        result.summary
    )
    assert DEBT in world.owed


@pytest.mark.parametrize("server", [Server(admin=8), Server(admin=1, op=0), Server(weight=0)])
def test_what_was_out_before_stays_out_and_is_told(server: Server) -> None:
    world = Balanced()
    world.servers["lb-1", "web-1"] = server
    looked = look(world)
    assert (looked.status, looked.data["healthy"]) == ("ok", False)
    assert "it is left so, and not put back" in whole(looked)
    result = go(world)
    assert result.status == "ok"
    assert world.sentences() == [RESTART]
    assert "out of rotation in lb-1 as before this run" in result.summary
    assert not world.owed


def test_one_of_two_balancers_had_it_out_before() -> None:
    world = Balanced(fleet=fleet(["lb-1", "lb-2"]))
    world.server(balancer="lb-2").admin = 8
    assert go(world).status == "ok"
    assert world.sentences() == [DRAIN, RESTART, UNDRAIN]
    assert world.server(balancer="lb-2").admin == 8


# ---- Ctrl-C


@pytest.mark.parametrize("sessions", [0, 2])
def test_an_interrupt_while_draining_puts_it_back_and_restarts_nothing(sessions: int) -> None:
    world = Balanced(stop=lambda world: bool(world.changes))
    world.server().sessions = sessions
    result = go(world)
    assert (result.status, result.data["interrupted"], result.data["stage"]) == (
        "failed",
        True,
        "draining",
    )
    assert world.sentences() == [DRAIN, UNDRAIN]
    assert not world.owed


def test_an_interrupt_right_before_the_restart_puts_it_back_as_well() -> None:
    asked = []

    def stop(world: World) -> bool:
        asked.append(world.notes.get("stage"))
        return asked.count("drained") > 0

    world = Balanced(stop=stop)
    result = go(world)
    assert asked[-1] == "drained", "it was asked once more, after the last word of draining"
    assert (result.status, result.data["interrupted"]) == ("failed", True)
    assert world.sentences() == [DRAIN, UNDRAIN]
    assert not world.owed


def test_an_interrupt_after_the_restart_sees_the_host_through() -> None:
    world = Balanced(stop=lambda world: len(world.changes) > 1)
    assert go(world).status == "ok"
    assert world.sentences() == [DRAIN, RESTART, UNDRAIN]


# ---- preflight and admission


def refusing(says: CommandOutcome) -> Balanced:
    world = Balanced()
    world.says["lb-1"] = says
    return world


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (outcome(0, "Can't find backend.\n\nNo such proxy.\n\n"), "drain.haproxy.backend"),
        (outcome(1, "", "sudo: /usr/bin/socat: command not found"), "socat must be installed"),
        (outcome(1, "", "socat[1] E connect(): No such file or directory"), "admin.sock"),
        (outcome(0, "1\n# be_id be_name srv_id srv_name srv_addr\n"), "knows no server web-1"),
    ],
)
def test_preflight_wants_an_answer_of_every_balancer(says: CommandOutcome, told: str) -> None:
    result = look(refusing(says))
    assert result.status == "refused"
    assert told in whole(result)
    assert not result.touches


def test_preflight_wants_sudo_proved_on_the_balancer() -> None:
    world = Balanced()
    world.read = lambda _world, effect: (
        outcome(0, LISTING) if "sudo" in effect.argv else Balanced._read(world, effect)
    )
    result = look(world)
    assert result.status == "refused"
    line = "NOPASSWD: /usr/bin/socat -t5 - UNIX-CONNECT\\:/run/haproxy/admin.sock"
    assert line in whole(result)
    assert "on lb-1" in result.summary


def test_a_drained_host_is_not_available() -> None:
    world = Balanced()
    world.server("web-2").admin = 8
    hosts = ("web-1", "web-2", "web-3")

    def health() -> Any:
        found = yield from health_of(tuple(subject_of(ARGS, world.fleet, h) for h in hosts))
        return Result(status="ok", data=found)

    asked: list[Any] = []
    real = world.read

    def read(inner: World, effect: ReadCommand) -> CommandOutcome:
        asked.append(effect)
        return real(inner, effect)

    world.read = read
    data = world.run(health()).data
    assert [host for host, ill in data.items() if ill] == ["web-2"]
    assert data["web-2"] == "lb-1 has shop/web-2 drained"
    # One look at the balancer serves all of its hosts.
    assert sum("socat" in effect.argv[0] for effect in asked) == 1


# ---- commands of one's own


def hooks(**more: Any) -> Balanced:
    command = {"on": "lb-1", "drain": ["lb", "out", "${host.name}"], "undrain": ["lb", "in", "x"]}
    return Balanced(fleet=fleet(haproxy=None, command={**command, **more}))


def test_hooks_run_where_they_belong_and_the_exit_code_counts() -> None:
    world = hooks()
    world.restart = lambda inner, effect: (
        outcome(0) if isinstance(effect, ChangeCommand) else inner.restart_well(effect.host)
    )
    assert "does not tell where it has a host" in whole(look(world))
    assert go(world).status == "ok"
    assert world.sentences() == ["on lb-1: lb out web-1", RESTART, "on lb-1: lb in x"]


def test_a_hook_that_fails_restarts_nothing() -> None:
    world = hooks()
    world.restart = lambda _world, effect: outcome(3 if "out" in effect.argv else 0, "", "no")
    result = go(world)
    assert "it exited with 3 on lb-1: no" in result.summary
    assert world.sentences() == ["on lb-1: lb out web-1", "on lb-1: lb in x"]


def test_a_status_command_is_believed_over_an_exit_code() -> None:
    world = hooks(status=["lb", "status", "${host.name}"])
    world.read = lambda _world, effect: (
        outcome(0, "in\n") if effect.argv[0] == "lb" else read_well(effect)
    )
    world.restart = lambda _world, _effect: outcome(0)
    result = go(world)
    assert "not drained within 10s: lb-1 has it in rotation" in result.summary


@pytest.mark.parametrize("says", [outcome(0, "many\n"), outcome(2, "", "no such port")])
def test_a_count_that_is_none_is_never_taken_for_zero(says: CommandOutcome) -> None:
    world = Balanced(fleet=fleet(connections=["count"]))
    real = world.read
    world.read = lambda inner, effect: says if effect.argv == ("count",) else real(inner, effect)
    assert look(world).status == "refused"
    result = go(world)
    assert (result.status, world.restarts()) == ("failed", 0)


# ---- paying what is owed


def owed(*ours: str) -> dict[str, Any]:
    return {"key": DEBT, "data": {"ours": list(ours or ("lb-1",))}, "by_hand": ["put it back"]}


def pay(world: World, **data: Any) -> Result:
    debt = owed()
    debt["data"] |= data
    return world.run(settle(ARGS, world.context("web-1", owed=debt)))


def drained() -> Balanced:
    world = Balanced()
    world.server().admin = 8
    world.owed[DEBT] = None  # type: ignore[assignment]
    return world


def test_a_healthy_host_is_put_back() -> None:
    world = drained()
    result = pay(world)
    assert (result.status, world.sentences(), world.paid) == ("ok", [UNDRAIN], [DEBT])
    assert world.server().admin == 0


def test_what_is_in_rotation_already_is_paid_without_a_change() -> None:
    world = drained()
    world.server().admin = 0
    assert pay(world).status == "ok"
    assert (world.changes, world.paid) == ([], [DEBT])


@pytest.mark.parametrize("ill", ["gate", "unit", "job", "flapping", "balancer"])
def test_an_unhealthy_host_is_never_put_back(ill: str) -> None:
    world = drained()
    if ill == "gate":
        world.get = lambda _world, _url: answer(503)
    elif ill == "unit":
        world.unit("web-1").update(ActiveState="failed", SubState="failed")
    elif ill == "job":
        world.unit("web-1").update(Job="7")
    elif ill == "flapping":
        show = world.show
        world.show = lambda inner, host: (
            inner.unit(host).update(InvocationID=str(inner.now)),
            show(inner, host),
        )[1]
    else:
        world.says["lb-1"] = outcome(1, "", "connection refused")
    result = pay(world)
    assert result.status == "failed"
    assert "web-1 stays out of rotation" in result.summary
    assert result.by_hand == ("put it back",)
    assert not world.changes
    assert DEBT in world.owed


def test_a_host_that_crashed_before_is_watched_for_the_settle_window() -> None:
    world = drained()
    world.unit("web-1")["NRestarts"] = "3"
    assert pay(world).status == "ok"
    assert world.now >= 1002


def test_a_host_whose_restart_is_at_work_is_not_put_back() -> None:
    """A restart that comes after the host is back hits it while it serves."""
    world = drained()
    read = world.read

    def at_work(inner: World, effect: Any) -> CommandOutcome:
        return outcome(0, "4711\n") if effect.argv[0] == "pgrep" else read(inner, effect)

    world.read = at_work
    result = pay(world)
    assert (result.status, world.changes) == ("failed", [])
    assert "a restart command is still at work there" in result.summary


def own(identity: str) -> Balanced:
    """Return a drained world whose service is restarted by a command of its own."""
    manager = {"command": {"restart": ["ctl", "restart"], "status": ["ctl", "status"]}}
    world = Balanced(fleet=fleet(shop={"manager": manager}))
    world.server().admin = 8
    world.owed[DEBT] = None  # type: ignore[assignment]
    read = world.read
    world.read = lambda inner, effect: (
        outcome(0, f"{identity}\n") if effect.argv[0] == "ctl" else read(inner, effect)
    )
    return world


def test_an_own_restart_that_may_still_come_keeps_the_host_out() -> None:
    world = own("pid 1")
    result = pay(world, under_way=True, before="pid 1")
    assert (result.status, world.changes) == ("failed", [])
    assert "may still come" in result.summary
    assert DEBT in world.owed


def test_an_own_restart_that_has_come_or_was_never_asked_for_does_not() -> None:
    world = own("pid 2")
    assert pay(world, under_way=True, before="pid 1").status == "ok"
    world = own("pid 1")
    assert pay(world).status == "ok"


def test_a_restart_of_systemds_that_never_came_is_looked_for_as_long_as_it_may_take() -> None:
    world = drained()
    assert pay(world, under_way=True, before="first").status == "ok"
    assert world.now >= 1002


def test_the_debt_says_that_a_restart_is_under_way_until_its_command_says_no() -> None:
    seen: list[Any] = []
    world = Balanced()
    made = world.restart

    def refuse(inner: World, effect: Any) -> CommandOutcome:
        if "systemctl" not in effect.sentence():
            return made(inner, effect)
        seen.append(dict(inner.owed[DEBT].data))
        return outcome(1, "", "no")

    world.restart = refuse
    go(world)
    assert (seen[0]["under_way"], seen[0]["before"]) == (True, "first")
    assert "under_way" not in world.owed[DEBT].data
    assert world.owed[DEBT].data["ours"] == ["lb-1"]


def test_a_lock_that_was_lost_stops_at_the_next_change() -> None:
    world = Balanced()
    made = world.restart

    def lost(inner: World, effect: Any) -> CommandOutcome:
        if inner.changes and len(inner.changes) > 1:
            raise Refused("the lock is no longer ours")
        return made(inner, effect)

    world.restart = lost
    result = go(world)
    assert "nothing was restarted: the lock is no longer ours" in result.summary
    assert "stays drained" in result.summary


@pytest.mark.parametrize(
    "name", ["web;disable server shop/web-2", "web\nshow info", "web 1", "", "a/b"]
)
@pytest.mark.parametrize("key", ["backend", "server"])
def test_a_name_that_would_be_a_second_command_is_refused(key: str, name: str) -> None:
    placed = {"backend": "shop", key: "${host.vars.lb}"}
    made = fleet(haproxy={"on": "lb-1", **placed})
    document = made.inventory.model_dump(exclude_none=True)
    document["hosts"]["web-1"]["vars"] = {"lb": name}
    changed = Fleet(Inventory.model_validate(document))
    with pytest.raises(UsageError, match=f"haproxy.{key} comes to .* for web-1: no name"):
        rotation_of(changed.service("shop"), changed.host("web-1"), changed)


@pytest.mark.parametrize("key", ["backend", "server"])
def test_nor_may_one_stand_in_the_inventory(key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        fleet(haproxy={"on": "lb-1", "backend": "shop", key: "web;show info"})
