"""The verb `service`: looked at first, done once, and seen done."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from runbook.model.effects import CommandOutcome, UnitState
from runbook.model.errors import ConnectionLost, NotStarted, Unreachable, UsageError
from runbook.model.plan import Result
from runbook.steps.service import SERVICE, ServiceArgs
from unit.steps.shop_world import LISTING, World, fleet, outcome, read_well

STOPPED = {"ActiveState": "inactive", "SubState": "dead"}
ALLOWED = LISTING + "".join(
    f"    (root) NOPASSWD: /usr/bin/systemctl {action} shop.service\n"
    for action in ("start", "stop", "reload")
)
DONE = {
    "start": {"ActiveState": "active", "SubState": "running", "InvocationID": "second"},
    "stop": STOPPED,
    "reload": {},
    "restart": {"InvocationID": "second"},
}


def args(action: str, **more: Any) -> ServiceArgs:
    given = {"service": "shop", "hosts": "web-1", "settle": "2s", "action": action}
    return ServiceArgs.model_validate(given | more)


def world_at(**unit: str) -> World:
    world = World()
    world.unit("web-1").update({"CanReload": "yes", **unit})
    world.read = lambda _world, effect: (
        outcome(0, ALLOWED) if "sudo" in effect.argv else read_well(effect)
    )
    world.restart = obey
    return world


def obey(world: World, effect: Any) -> CommandOutcome:
    action = effect.sentence().split()[-2]
    world.unit("web-1").update(DONE[action])
    return outcome(0)


def prepare(world: World, given: ServiceArgs) -> Result:
    result = world.run(SERVICE.phases["prepare"](given, world.context("web-1")))
    assert not world.changes
    return result


def act(world: World, given: ServiceArgs, **context: Any) -> Result:
    prepared = prepare(world, given)
    assert prepared.status == "ok", prepared.summary
    shown = set(prepared.touches)
    ctx = world.context("web-1", prepared=prepared.data, **context)
    result = world.run(SERVICE.phases["act"](given, ctx))
    assert {line for change in world.changes for line in change.footprint()} <= shown
    assert len(world.changes) <= 1
    return result


@pytest.mark.parametrize(
    ("action", "unit", "says"),
    [
        ("start", STOPPED, "it runs as a new process, stable for 2.0s"),
        ("stop", {}, "it is stopped"),
        ("reload", {}, "it has reloaded, and runs as the same process"),
        ("restart", {}, "a new process, stable for 2.0s"),
    ],
)
def test_each_action_is_done_once_and_proved(action: str, unit: dict[str, str], says: str) -> None:
    world = world_at(**unit)
    result = act(world, args(action))
    assert result.status == "ok"
    assert says in result.summary
    assert [change.sentence().endswith(f"{action} shop.service") for change in world.changes] == [
        True
    ]
    assert world.notes["before"] == "first"


@pytest.mark.parametrize(
    ("action", "unit", "says"),
    [("start", {}, "it runs already (first)"), ("stop", STOPPED, "it is stopped already")],
)
def test_what_is_so_already_is_left_alone(action: str, unit: dict[str, str], says: str) -> None:
    world = world_at(**unit)
    prepared = prepare(world, args(action))
    assert (prepared.status, prepared.touches) == ("ok", ())
    assert says in prepared.summary
    assert act(world, args(action)).status == "ok"
    assert not world.changes


def test_what_was_so_and_is_no_more_was_never_shown() -> None:
    world = world_at()
    prepared = prepare(world, args("start"))
    world.unit("web-1").update(STOPPED)
    ctx = world.context("web-1", prepared=prepared.data)
    result = world.run(SERVICE.phases["act"](args("start"), ctx))
    assert (result.status, world.changes) == ("failed", [])
    assert "it was running when this was shown" in result.summary


@pytest.mark.parametrize(
    ("action", "unit", "says"),
    [
        ("start", {"LoadState": "masked", **STOPPED}, "unmask"),
        ("restart", {"LoadState": "not-found"}, "no unit shop.service"),
        ("stop", {"RefuseManualStop": "yes"}, "must not be stopped by hand"),
        ("reload", {"CanReload": "no"}, "has no ExecReload"),
        ("reload", STOPPED, "start it instead"),
        ("start", {"Job": "3", **STOPPED}, "at work on shop.service already"),
        ("restart", {"NeedDaemonReload": "yes"}, "daemon-reload"),
    ],
)
def test_what_must_not_be_done_is_refused_first(
    action: str, unit: dict[str, str], says: str
) -> None:
    result = prepare(world_at(**unit), args(action))
    assert result.status == "refused"
    assert says in f"{result.summary} {result.hint}"
    assert not result.touches


def test_a_masked_unit_that_runs_may_be_stopped() -> None:
    assert act(world_at(LoadState="masked"), args("stop")).status == "ok"


@pytest.mark.parametrize("action", ["start", "stop", "reload"])
def test_sudo_is_proved_for_the_very_command(action: str) -> None:
    world = world_at(**(STOPPED if action == "start" else {}))
    world.read = lambda _world, effect: read_well(effect)
    result = prepare(world, args(action))
    assert result.status == "refused"
    assert f"NOPASSWD: /usr/bin/systemctl {action} shop.service" in result.hint


@pytest.mark.parametrize("action", ["restart", "stop"])
def test_many_hosts_at_once_must_be_asked_for(action: str) -> None:
    many = args(action, hosts="web")
    with pytest.raises(UsageError, match="on 4 hosts at once, and 1 may be"):
        SERVICE.targets(many, fleet())
    assert len(SERVICE.targets(args(action, hosts="web", at_once=4), fleet())) == 4
    assert len(SERVICE.targets(args("start", hosts="web"), fleet())) == 4


@pytest.mark.parametrize(
    "given", [{}, {"service": "shop", "unit": "shop.service"}, {"unit": "shop.service"}]
)
def test_it_is_one_service_or_one_unit_on_hosts(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ServiceArgs.model_validate({"action": "start", **given})


def test_hosts_that_the_service_does_not_run_on() -> None:
    with pytest.raises(UsageError, match="does not run on other"):
        SERVICE.targets(args("start", hosts="other"), fleet())


def test_a_start_that_systemctl_calls_a_success_and_is_dead() -> None:
    world = world_at(**STOPPED)
    dead = {"ActiveState": "failed", "SubState": "failed", "ExecMainStatus": "203"}
    world.restart = lambda inner, _effect: (inner.unit("web-1").update(dead), outcome(0))[1]
    result = act(world, args("start"))
    assert result.status == "failed"
    assert "missing or cannot be executed" in result.summary
    assert world.now == 1000  # no waiting would mend it
    assert any("journalctl" in line for line in result.by_hand)
    assert result.by_hand[-1].endswith("sudo /usr/bin/systemctl start shop.service")


def test_a_start_that_crashes_in_its_settle_window() -> None:
    world = world_at(**STOPPED)
    show = world.show

    def crash(inner: World, host: str) -> UnitState:
        if inner.changes and inner.now > 1001:
            inner.unit(host)["InvocationID"] = "third"
        return show(inner, host)

    world.show = crash
    result = act(world, args("start"))
    assert result.status == "failed"
    assert "another process" in result.summary


@pytest.mark.parametrize("action", ["start", "stop", "reload"])
def test_a_lost_answer_is_looked_into(action: str) -> None:
    world = world_at(**(STOPPED if action == "start" else {}))

    def lose(inner: World, effect: Any) -> CommandOutcome:
        obey(inner, effect)
        raise ConnectionLost("cut")

    world.restart = lose
    result = act(world, args(action))
    # Whether a reload was made, nothing on the host tells.
    assert result.status == ("unknown" if action == "reload" else "ok")


@pytest.mark.parametrize("error", [Unreachable("no route"), NotStarted("no such program")])
def test_a_command_that_never_ran_changed_nothing(error: Exception) -> None:
    world = world_at()

    def never(_world: World, _effect: Any) -> CommandOutcome:
        raise error

    world.restart = never
    result = act(world, args("stop"))
    assert result.summary.startswith("nothing was done")


def test_a_stop_that_leaves_it_running_is_told() -> None:
    world = world_at()
    world.restart = lambda _world, _effect: outcome(1, "", "Job canceled.")
    result = act(world, args("stop"))
    assert result.status == "failed"
    assert "it exited with 1: Job canceled.; it still runs" in result.summary


@pytest.mark.parametrize("made", [True, False])
def test_after_a_crash_a_restart_is_looked_at_first(made: bool) -> None:
    world = world_at()
    notes = {
        "before": "zero" if made else "first",
        "fingerprint": {"InvocationID": "first", "ConditionTimestampMonotonic": ""},
        "boot_id": "boot-1",
    }
    intended = ("on web-1: sudo systemctl restart shop.service",)
    left = {"intended": intended, "changed": (), "notes": notes, "result": None}
    world.read = lambda _world, effect: (
        outcome(1)
        if effect.argv[0] == "pgrep"
        else outcome(0, ALLOWED)
        if "sudo" in effect.argv
        else read_well(effect)
    )
    assert act(world, args("restart"), crashed=left).status == "ok"
    assert len(world.changes) == (0 if made else 1)


def test_own_commands_have_actions_of_their_own() -> None:
    command = {"restart": ["ctl", "r"], "status": ["ctl", "status"], "stop": ["ctl", "stop"]}
    world = World(fleet=fleet(manager={"command": command}))
    world.read = lambda inner, effect: (
        outcome(1 if inner.changes else 0, "pid 1\n")
        if effect.argv[0] == "ctl"
        else outcome(0, LISTING + "    (root) NOPASSWD: /bin/ctl\n    (ALL) NOPASSWD: ALL\n")
    )
    world.restart = lambda _world, _effect: outcome(0)
    assert act(world, args("stop")).status == "ok"
    assert world.changes[0].sentence() == "on web-1: sudo ctl stop"
    world.changes.clear()
    refused = prepare(world, args("reload"))
    assert "services.NAME.manager.command.reload" in refused.hint
