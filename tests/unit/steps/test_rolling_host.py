"""One host's way through the state machine, and every way off it."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.model.effects import CommandOutcome, HttpReply, ReadCommand, UnitState
from runbook.model.errors import (
    CommandFailed,
    ConnectionLost,
    DoorError,
    NotStarted,
    Unreachable,
)
from runbook.model.plan import Result
from runbook.model.systemd import GRACE_S, UNLIMITED_S
from runbook.steps.rolling import ROLLING
from runbook.steps.rolling_args import RollingArgs
from runbook.steps.rolling_host import restart
from unit.steps.shop_world import ROW, World, answer, fleet, outcome, read_well

ARGS = RollingArgs(service="shop")
PREPARED = {"timeouts": {"restart_s": 115.0}}


def go(world: World, args: RollingArgs = ARGS) -> Result:
    result = world.run(restart(args, world.context("web-1", prepared=PREPARED)))
    assert len(world.changes) <= 1  # never asked for twice
    return result


def test_a_good_restart_passes_every_stage_once() -> None:
    world = World()
    result = go(world)
    assert result.status == "ok"
    assert [each["stage"] for each in result.data["stages"]] == [
        "restarting",
        "stabilising",
        "gating",
        "db_gating",
    ]
    assert (result.data["invocation_before"], result.data["invocation_after"]) == (
        "first",
        "second",
    )
    assert result.data["old_backends"] == 0
    # settle 2s, then 2 good answers 1s apart from each gate
    assert world.now == pytest.approx(1004)


def test_settle_zero_is_one_look() -> None:
    world = World()
    args = RollingArgs.model_validate({"service": "shop", "settle": 0, "gate": {"successes": 1}})
    assert go(world, args).status == "ok"
    assert world.now == 1000


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"ActiveState": "failed", "SubState": "failed", "ExecMainStatus": "203"}, "missing"),
        ({"ActiveState": "activating", "SubState": "auto-restart"}, "crash loop"),
        ({"ActiveState": "inactive", "SubState": "dead", "ConditionResult": "no"}, "Condition"),
    ],
)
def test_systemctl_says_zero_and_the_service_is_dead(changed: dict[str, str], says: str) -> None:
    world = World(restart=lambda world, effect: world.restart_well(effect.host, **changed))
    result = go(world)
    assert result.status == "failed"
    assert says in result.summary
    assert any("journalctl" in line for line in result.by_hand)


def test_a_restart_that_restarted_nothing() -> None:
    result = go(World(restart=lambda _world, _effect: outcome(0)))
    assert result.status == "failed"
    assert "nothing was restarted" in result.summary


def test_a_crash_in_the_settle_window() -> None:
    def show(world: World, host: str) -> UnitState:
        if world.now > 1001:
            world.unit(host).update({"InvocationID": "third", "NRestarts": "1"})
        return UnitState(properties=dict(world.unit(host)))

    result = go(World(show=show))
    assert result.status == "failed"
    assert "crash loop" in result.summary


def test_somebody_else_restarts_it_meanwhile() -> None:
    def show(world: World, host: str) -> UnitState:
        if world.now > 1001:
            world.unit(host)["InvocationID"] = "theirs"
        return UnitState(properties=dict(world.unit(host)))

    assert "somebody else" in go(World(show=show)).summary


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (outcome(1, "", "sudo: a password is required\n"), "sudo refused"),
        (outcome(1, "", "Job for shop.service canceled.\n"), "canceled"),
        (outcome(5, "", "Unit shop.service not found.\n"), "exited with 5"),
    ],
)
def test_a_restart_that_says_no(said: CommandOutcome, says: str) -> None:
    result = go(World(restart=lambda _world, _effect: said))
    assert result.status == "failed"
    assert says in result.summary
    assert "nothing was restarted" in result.summary


def test_start_limit_hit_names_reset_failed() -> None:
    def hit(world: World, effect: Any) -> CommandOutcome:
        world.restart_well(effect.host, ActiveState="failed", Result="start-limit-hit")
        return outcome(1, "", "Start request repeated too quickly.")

    assert any("reset-failed" in line for line in go(World(restart=hit)).by_hand)


def test_escapes_in_stderr_stay_data() -> None:
    result = go(World(restart=lambda _world, _effect: outcome(1, "", "\x1b[31mred\n")))
    assert "\x1b" not in result.summary


@pytest.mark.parametrize("lost", [ConnectionLost("cut"), CommandFailed("did not end in time")])
def test_a_lost_answer_is_found_out_by_looking(lost: DoorError) -> None:
    def restart_and_lose(world: World, effect: Any) -> CommandOutcome:
        world.restart_well(effect.host)
        raise lost

    world = World(restart=restart_and_lose)
    assert go(world).status == "ok"
    assert any(line.startswith("unknown: ") for line in world.said)


def test_a_lost_answer_and_nothing_happened() -> None:
    def lose(_world: World, _effect: Any) -> CommandOutcome:
        raise ConnectionLost("cut")

    result = go(World(restart=lose))
    assert result.status == "failed"
    assert "never reached systemd" in result.summary


def test_a_lost_answer_and_a_lost_host_is_unknown() -> None:
    gone: list[bool] = []

    def lose(_world: World, _effect: Any) -> CommandOutcome:
        gone.append(True)
        raise ConnectionLost("cut")

    def show(world: World, host: str) -> UnitState:
        if gone:
            raise Unreachable("no route")
        return UnitState(properties=dict(world.unit(host)))

    world = World(restart=lose, show=show)
    result = go(world)
    assert result.status == "unknown"
    assert "no route" in result.summary
    assert result.by_hand
    assert world.now == pytest.approx(1020)


def test_unreachable_before_the_restart_means_untouched() -> None:
    def away(_world: World, _effect: Any) -> CommandOutcome:
        raise Unreachable("refused")

    result = go(World(restart=away))
    assert result.status == "unreachable"
    assert "nothing was restarted" in result.summary


def test_a_slow_start_is_waited_for() -> None:
    def show(world: World, host: str) -> UnitState:
        slow = {"ActiveState": "activating", "SubState": "start"}
        starting = world.changes and world.now < 1005
        return UnitState(properties={**world.unit(host), **(slow if starting else {})})

    assert go(World(show=show)).status == "ok"


def gate_at(*statuses: int) -> Any:
    left = list(statuses)

    def get(_world: World, _url: str) -> HttpReply:
        return answer(left.pop(0) if len(left) > 1 else left[0])

    return get


def test_one_bad_answer_starts_the_count_anew() -> None:
    world = World(get=gate_at(200, 503, 200, 200))
    assert go(world).status == "ok"
    texts = [line for line in world.said if line.startswith("gating")]
    assert [("good" in text) for text in texts] == [True, False, True, True]


def test_a_gate_that_never_answers_ends_at_its_deadline() -> None:
    world = World(get=lambda _world, _url: answer(0, "no answer within 5s"))
    result = go(world)
    assert result.status == "failed"
    assert "health gate did not pass within 20s: no answer" in result.summary
    assert world.now <= 1023


def test_a_success_after_the_deadline_comes_too_late() -> None:
    def slow(world: World, _url: str) -> HttpReply:
        world.now += 30
        return answer(200)

    assert go(World(get=slow)).status == "failed"


def test_a_crash_while_gating_is_seen_at_the_next_sample() -> None:
    def show(world: World, host: str) -> UnitState:
        crashed = {"InvocationID": "third", "NRestarts": "1"} if world.now > 1002 else {}
        return UnitState(properties={**world.unit(host), **crashed})

    result = go(World(show=show))
    assert result.data["stage"] == "gating"


@pytest.mark.parametrize(
    ("row", "says"),
    [({"old": 3}, "3 sessions from before"), ({"used": 37}, "slots are in use")],
)
def test_the_database_gate_holds(row: dict[str, int], says: str) -> None:
    args = RollingArgs(service="shop", headroom=1)

    def sql(_world: World, parameters: dict[str, Any]) -> dict[str, Any]:
        return {**ROW, **(row if parameters["since"] else {})}

    result = go(World(sql=sql), args)
    assert result.status == "failed"
    assert result.data["stage"] == "db_gating"
    assert says in result.summary


def test_the_clock_is_the_servers() -> None:
    asked: list[Any] = []

    def sql(_world: World, parameters: dict[str, Any]) -> dict[str, Any]:
        asked.append(parameters["since"])
        return ROW

    go(World(sql=sql))
    assert asked == [None, ROW["now"], ROW["now"]]


def own_commands() -> World:
    manager = {"command": {"restart": ["ctl", "restart", "${host.name}"], "status": ["ctl", "st"]}}
    return World(fleet=fleet(manager=manager))


def test_own_commands_prove_a_restart_by_what_they_print() -> None:
    world = own_commands()
    world.read = lambda world, effect: (
        outcome(0, "pid 2\n" if world.changes else "pid 1\n")
        if effect.argv[0] == "ctl"
        else read_well(effect)
    )
    world.restart = lambda _world, _effect: outcome(0)
    result = go(world)
    assert result.status == "ok"
    assert result.touches == ("web-1: sudo ctl restart web-1",)
    assert world.changes[0].sudo  # type: ignore[attr-defined]


def test_own_commands_that_change_nothing_fail() -> None:
    world = own_commands()

    def read(_world: World, _effect: ReadCommand) -> CommandOutcome:
        return outcome(0, "pid 1\n")

    world.read, world.restart = read, lambda _world, _effect: outcome(0)
    result = go(world)
    assert result.status == "failed"
    assert "not up within" in result.summary


def stages(result: Result) -> list[str]:
    return [each["stage"] for each in result.data["stages"]]


def test_the_time_limit_while_settling_keeps_what_was_done() -> None:
    result = go(World(limit=1001))
    assert result.status == "failed"
    assert "time limit, in the stage stabilising; now active/running" in result.summary
    assert stages(result) == ["restarting", "stabilising"]
    assert result.data["invocation_after"] == "second"
    assert result.data["seconds"] >= 1
    assert result.touches
    assert any("journalctl" in line for line in result.by_hand)


def test_the_time_limit_while_gating_is_a_failed_gate() -> None:
    result = go(World(limit=1010, get=lambda _world, _url: answer(503)))
    assert (result.status, result.data["stage"]) == ("failed", "gating")
    assert result.by_hand


def test_the_time_limit_before_the_restart_says_so() -> None:
    def slow(world: World, host: str) -> UnitState:
        world.now += 60
        return UnitState(properties=dict(world.unit(host)))

    world = World(limit=1030, show=slow)
    result = go(world)
    assert not world.changes
    assert result.status == "failed"
    assert "nothing was restarted" in result.summary


@pytest.mark.parametrize("error", [None, ConnectionLost("cut")])
def test_the_time_limit_before_any_look_at_the_outcome_is_unknown(error: DoorError | None) -> None:
    def slow(world: World, effect: Any) -> CommandOutcome:
        world.now += 60
        if error is not None:
            raise error
        return world.restart_well(effect.host)

    result = go(World(limit=1030, restart=slow))
    assert result.status == "unknown"
    assert "what came of it was not seen" in result.summary
    assert stages(result)[-1] == ("restarting" if error else "stabilising")
    assert result.by_hand


@pytest.mark.parametrize("error", [ConnectionLost("cut"), CommandFailed("did not end in time")])
def test_the_time_limit_while_finding_out_is_unknown(error: DoorError) -> None:
    def lose(_world: World, _effect: Any) -> CommandOutcome:
        raise error

    def show(world: World, host: str) -> UnitState:
        stopping = {"ActiveState": "deactivating"} if world.changes else {}
        return UnitState(properties={**world.unit(host), **stopping})

    result = go(World(limit=1005, restart=lose, show=show))
    assert result.status == "unknown"


def test_the_time_limit_after_a_restart_that_said_no_keeps_why() -> None:
    def refuse(world: World, _effect: Any) -> CommandOutcome:
        world.now += 60
        return outcome(1, "", "sudo: a password is required")

    result = go(World(limit=1030, restart=refuse))
    assert result.status == "failed"
    assert "a password is required" in result.summary


def test_the_time_limit_between_two_stages_takes_nothing_back() -> None:
    def show(world: World, host: str) -> UnitState:
        if world.changes:
            world.limit = world.now - 1
        down = {"ActiveState": "failed", "SubState": "failed"} if world.changes else {}
        return UnitState(properties={**world.unit(host), **down})

    result = go(World(show=show))
    assert result.status == "failed"
    assert "it did not come back" in result.summary


def test_a_program_that_is_not_there_restarted_nothing() -> None:
    def missing(_world: World, _effect: Any) -> CommandOutcome:
        raise NotStarted("ctl cannot be run: No such file or directory", hint="is it installed?")

    world = World(restart=missing)
    result = go(world)
    assert (result.status, result.hint) == ("failed", "is it installed?")
    assert "nothing was restarted: ctl cannot be run" in result.summary
    assert world.now == 1000


def test_a_restart_that_was_not_asked_for_yet_is_not_asked_for_after_an_interrupt() -> None:
    world = World(stop=lambda _world: True)
    result = go(world)
    assert (result.status, result.data["interrupted"]) == ("failed", True)
    assert "nothing was restarted: somebody wants the run to stop" in result.summary
    assert not world.changes
    assert not world.notes, "nothing that a resume could take for a restart"


@pytest.mark.parametrize(("sessions", "told"), [(0, False), (5, True)])
def test_no_sessions_before_and_now_prove_nothing(sessions: int, told: bool) -> None:
    result = go(World(sql=lambda _world, _parameters: {**ROW, "sessions": sessions}))
    assert result.status == "ok"
    assert ("old backends gone" in result.summary) == told


def test_the_playbooks_longest_settings_fit_into_the_default_time_limit() -> None:
    longest = 30 * 60 + 5 * 3600 + 2 * UNLIMITED_S + GRACE_S
    assert ROLLING.default_timeout_s >= longest
