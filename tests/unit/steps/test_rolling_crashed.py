"""A host that an earlier process left half-way: looked at first, and never restarted twice."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.model.effects import CommandOutcome, ReadCommand
from runbook.model.errors import Refused, Unreachable
from runbook.model.plan import Result
from runbook.steps.rolling_args import RollingArgs
from runbook.steps.rolling_host import restart
from unit.steps.balanced_world import Balanced
from unit.steps.shop_world import ROW, World, answer, fleet, outcome, read_well

ARGS = RollingArgs(service="shop")
RESTART = "on web-1: sudo systemctl restart shop.service"
DRAIN = "on lb-1: sudo set server shop/web-1 state drain (/run/haproxy/admin.sock)"
UNDRAIN = DRAIN.replace("drain", "ready")
NOTES: dict[str, Any] = {
    "stage": "restarting",
    "restart_intended": True,
    "before": "first",
    "fingerprint": {"InvocationID": "first", "ConditionTimestampMonotonic": ""},
    "since": "2026-01-01 02:00:00+00",
    "boot_id": "boot-1",
    "first_row": {"sessions": 7, "used": 30, "usable": 37},
    "exit_code": None,
}


def crashed(*intended: str, changed: tuple[str, ...] = (), **notes: Any) -> dict[str, Any]:
    return {"intended": intended, "changed": changed, "notes": notes, "result": None}


def go(world: World, left: dict[str, Any] | None = None) -> Result:
    left = left or crashed(RESTART, **NOTES)
    prepared = {"timeouts": {"restart_s": 30.0}}
    return world.run(restart(ARGS, world.context("web-1", prepared=prepared, crashed=left)))


def restarts(world: World) -> int:
    return sum(change.sentence() == RESTART for change in world.changes)


def booted(boot: str, pgrep: CommandOutcome | None = None) -> Any:
    def read(_world: World, effect: ReadCommand) -> CommandOutcome:
        if effect.argv[0] == "pgrep":
            return pgrep or outcome(1)
        return outcome(0, f"{boot}\n50.0 90.0\n") if effect.argv[0] == "cat" else read_well(effect)

    return read


def world_at(**unit: str) -> World:
    world = World(read=booted("boot-1"))
    world.unit("web-1").update(unit)
    return world


# ---- the restart was made


def test_a_new_process_is_never_restarted() -> None:
    world = world_at(InvocationID="second")
    result = go(world)
    assert (result.status, restarts(world)) == ("ok", 0)
    assert [each["stage"] for each in result.data["stages"]] == [
        "observing",
        "stabilising",
        "gating",
        "db_gating",
    ]
    assert result.data["invocation_before"] == "first"
    assert "a restart that an earlier process asked for" in result.summary
    assert result.data["sessions_before"] == 7


def test_old_sessions_are_those_from_before_the_first_restart() -> None:
    asked: list[Any] = []
    world = world_at(InvocationID="second")

    def sql(_world: World, parameters: dict[str, Any]) -> dict[str, Any]:
        asked.append(parameters["since"])
        return ROW

    world.sql = sql
    go(world)
    assert set(asked) == {NOTES["since"]}


def test_a_job_is_waited_for() -> None:
    world = world_at(Job="12", ActiveState="deactivating", SubState="stop-sigterm")
    show = world.show

    def later(inner: World, host: str) -> Any:
        if inner.now > 1005:
            unit = {"Job": "", "ActiveState": "active", "SubState": "running"}
            inner.unit(host).update(unit, InvocationID="second")
        return show(inner, host)

    world.show = later
    assert go(world).status == "ok"
    assert restarts(world) == 0


def test_a_job_that_never_ends_is_unknown() -> None:
    world = world_at(Job="12", ActiveState="deactivating", SubState="stop-sigterm")
    result = go(world)
    assert (result.status, restarts(world)) == ("unknown", 0)
    assert result.by_hand
    # As long as the unit may take to stop and start, which is longer than its gate's deadline.
    assert world.now == pytest.approx(1030)


def test_a_host_that_failed_in_an_earlier_life_is_gated_again_and_not_restarted() -> None:
    left = crashed(RESTART, changed=(RESTART,), **{**NOTES, "exit_code": 0})
    left["result"] = {"status": "failed", "summary": "the health gate did not pass"}
    world = world_at(InvocationID="second")
    assert go(world, left).status == "ok"
    world = world_at(InvocationID="second")
    world.get = lambda _world, _url: answer(503)
    result = go(world, left)
    assert (result.status, result.data["stage"], restarts(world)) == ("failed", "gating", 0)


@pytest.mark.parametrize(
    "unit",
    [
        {"InvocationID": "second", "ActiveState": "failed", "SubState": "failed"},
        # Stopped, and the start was skipped by its Condition: the InvocationID is the old one.
        {"ActiveState": "inactive", "SubState": "dead", "ConditionTimestampMonotonic": "99"},
    ],
)
def test_a_restart_that_came_to_nothing_is_not_tried_again(unit: dict[str, str]) -> None:
    world = world_at(**unit)
    result = go(world)
    assert (result.status, restarts(world)) == ("failed", 0)
    assert "asked for by an earlier process" in result.summary


# ---- the restart was not made


def test_the_one_restart_that_was_meant_is_made_when_the_host_proves_it_was_not() -> None:
    world = world_at()
    asked_at: list[float] = []

    def restart_at(inner: World, effect: Any) -> CommandOutcome:
        asked_at.append(inner.now)
        assert inner.notes["exit_code"] is None  # that of an earlier life says nothing of this one
        return inner.restart_well(effect.host)

    world.restart = restart_at
    result = go(world, crashed(RESTART, **{**NOTES, "exit_code": 1}))
    assert (result.status, restarts(world)) == ("ok", 1)
    # Looked at three times, a second apart, before it is asked for.
    assert asked_at == [pytest.approx(1002)]
    assert any("the same process, the same boot, no job" in line for line in world.said)
    assert world.notes["since"] != NOTES["since"]


def test_a_host_that_was_down_before_and_is_as_it_was_is_restarted() -> None:
    world = world_at(ActiveState="failed", SubState="failed")
    made = world.restart_well
    world.restart = lambda _world, effect: made(
        effect.host, ActiveState="active", SubState="running"
    )
    assert go(world).status == "ok"
    assert restarts(world) == 1


@pytest.mark.parametrize("boot", ["boot-2", ""])
def test_the_same_process_in_a_boot_that_is_not_proved_is_not_restarted(boot: str) -> None:
    world = world_at(ActiveState="failed", SubState="failed")
    world.read = booted(boot)
    result = go(world)
    assert result.status in {"failed", "unknown"}
    assert restarts(world) == 0


def test_a_command_that_is_still_on_its_way_is_waited_for() -> None:
    world = world_at()
    world.read = booted("boot-1", outcome(0, "4711\n"))
    result = go(world)
    assert (result.status, restarts(world)) == ("unknown", 0)
    assert "a restart command is still at work" in result.summary


def test_a_restart_that_said_it_was_done_and_changed_nothing_is_not_made_again() -> None:
    world = world_at()
    left = crashed(RESTART, changed=(RESTART,), **{**NOTES, "exit_code": 0})
    result = go(world, left)
    assert (result.status, restarts(world)) == ("failed", 0)
    assert "said it was done" in result.summary


def test_a_host_that_cannot_be_seen_is_unknown() -> None:
    def away(_world: World, _host: str) -> Any:
        raise Unreachable("no route")

    world = World(show=away)
    result = go(world)
    assert (result.status, restarts(world)) == ("unknown", 0)
    assert "no route" in result.summary


def test_a_restart_without_its_note_is_unknown() -> None:
    world = world_at()
    assert go(world, crashed(RESTART)).status == "unknown"
    assert restarts(world) == 0


def test_nothing_was_meant_yet() -> None:
    world = world_at()
    assert go(world, crashed(DRAIN, stage="draining", ours=["lb-1"])).status == "ok"
    assert restarts(world) == 1


def test_a_restart_whose_sentence_was_masked_is_known_by_its_note() -> None:
    masked = RESTART.replace("shop.service", "***")
    world = world_at(InvocationID="second")
    result = go(world, crashed(masked, **NOTES))
    assert (result.status, restarts(world)) == ("ok", 0)
    assert "a restart that an earlier process asked for" in result.summary


def test_a_note_of_the_restart_is_kept_before_it_is_asked_for() -> None:
    world = world_at()

    def restart_at(inner: World, effect: Any) -> CommandOutcome:
        assert inner.notes["restart_intended"] is True
        return inner.restart_well(effect.host)

    world.restart = restart_at
    assert go(world, crashed()).status == "ok"
    assert restarts(world) == 1


@pytest.mark.parametrize("error", [Refused("the lock is not ours"), Unreachable("no route")])
def test_a_restart_that_was_never_sent_is_not_looked_for(error: Exception) -> None:
    """Where the boot was not known either, its traces would be waited for until the deadline."""
    world = world_at()

    def unsent(_world: World, _effect: Any) -> CommandOutcome:
        raise error

    world.restart = unsent
    left = crashed(DRAIN, changed=(DRAIN,), ours=[])
    assert go(world, left).status in {"refused", "unreachable"}
    left["notes"] = {**left["notes"], **world.notes, "boot_id": ""}
    world = world_at()
    world.restart = lambda inner, effect: inner.restart_well(effect.host)
    assert go(world, left).status == "ok"
    assert restarts(world) == 1


def test_without_a_look_at_the_boot_no_restart_is_asked_for() -> None:
    def read(_world: World, effect: ReadCommand) -> CommandOutcome:
        if effect.argv[0] == "cat":
            raise Unreachable("no route")
        return read_well(effect)

    world = World(read=read)
    result = go(world, crashed())
    assert (result.status, restarts(world)) == ("unreachable", 0)


def test_what_a_person_wants_done_again_is_begun_anew_whatever_was_noted() -> None:
    world = world_at(InvocationID="second")
    world.restart = lambda inner, effect: inner.restart_well(effect.host, InvocationID="third")
    assert go(world, crashed(**NOTES)).status == "ok"
    assert restarts(world) == 1


def test_a_drain_after_a_persons_word_makes_the_old_note_void() -> None:
    world = balanced(admin=0, InvocationID="second")
    world.restart = lambda _world, _effect: (_ for _ in ()).throw(Unreachable("cut off"))
    go(world, crashed(**NOTES))
    assert world.notes["restart_intended"] is False
    world = balanced(InvocationID="second")
    made = world.restart
    world.restart = lambda inner, effect: (
        inner.restart_well(effect.host, InvocationID="third")
        if "systemctl" in effect.sentence()
        else made(inner, effect)
    )
    noted = {**NOTES, "ours": ["lb-1"], "restart_intended": False}
    assert go(world, crashed(DRAIN, **noted)).status == "ok"
    assert world.sentences() == [DRAIN, RESTART, UNDRAIN]


# ---- a reboot


def test_after_a_reboot_the_process_is_newer_and_is_not_restarted() -> None:
    world = world_at(InvocationID="of-this-boot")
    world.read = booted("boot-2")
    result = go(world)
    assert (result.status, restarts(world)) == ("ok", 0)
    assert "the host has rebooted since" in result.summary


def test_after_a_reboot_a_service_that_did_not_start_is_told() -> None:
    world = world_at(InvocationID="", ActiveState="inactive", SubState="dead")
    world.read = booted("boot-2")
    result = go(world)
    assert (result.status, restarts(world)) == ("failed", 0)
    assert "the host has rebooted since; inactive/dead" in result.summary


# ---- commands of the user's own


def test_an_unchanged_identity_of_ones_own_command_is_not_final() -> None:
    manager = {"command": {"restart": ["ctl", "restart"], "status": ["ctl", "status"]}}
    world = World(fleet=fleet(manager=manager))
    world.read = lambda _world, effect: (
        outcome(0, "pid 1\n") if effect.argv[0] == "ctl" else read_well(effect)
    )
    notes = {**NOTES, "before": "pid 1", "fingerprint": {"identity": "pid 1"}}
    result = go(world, crashed("on web-1: sudo ctl restart", **notes))
    assert (result.status, world.changes) == ("unknown", [])
    assert any("ctl restart" in line for line in result.by_hand)


# ---- behind a balancer


def balanced(admin: int = 8, **unit: str) -> Balanced:
    world = Balanced()
    world.server().admin = admin
    world.owed["undrain web-1 (shop)"] = None  # type: ignore[assignment]
    world.unit("web-1").update(unit)
    return world


def test_what_an_earlier_process_drained_is_put_back() -> None:
    world = balanced(InvocationID="second")
    result = go(world, crashed(DRAIN, RESTART, **NOTES, ours=["lb-1"]))
    assert result.status == "ok"
    assert world.sentences() == [UNDRAIN]
    assert world.paid


def test_what_was_put_back_meanwhile_is_drained_again_before_the_restart() -> None:
    world = balanced(admin=0)
    assert go(world, crashed(DRAIN, RESTART, **NOTES, ours=["lb-1"])).status == "ok"
    assert world.sentences() == [DRAIN, RESTART, UNDRAIN]


def test_a_crash_while_draining_leaves_it_ours() -> None:
    world = balanced()
    assert go(world, crashed(DRAIN, stage="draining", ours=["lb-1"])).status == "ok"
    assert world.sentences() == [DRAIN, RESTART, UNDRAIN]
    assert not world.owed


def test_what_was_paid_meanwhile_is_not_said_to_be_drained() -> None:
    world = balanced(admin=0, InvocationID="second")
    world.get = lambda _world, _url: answer(503)
    result = go(world, crashed(DRAIN, RESTART, **NOTES, ours=["lb-1"]))
    assert (result.status, result.data["drained"]) == ("failed", [])
    assert "drained" not in result.summary
