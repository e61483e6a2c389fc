"""The `command` verb: an argv on hosts."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.model.effects import ChangeCommand, CommandOutcome
from runbook.model.errors import ConnectionLost, UsageError
from runbook.steps.command import COMMAND, CommandArgs
from unit.steps.shop_world import World, outcome


def args(**given: Any) -> CommandArgs:
    return CommandArgs.model_validate({"hosts": "web", "argv": ["echo", "${host.name}"], **given})


def test_it_is_a_change_unless_it_says_otherwise() -> None:
    assert COMMAND.changes(args())
    assert not COMMAND.changes(args(read_only=True))


def test_what_is_prepared_is_what_is_run() -> None:
    world = World(restart=lambda _world, _effect: outcome(0, "hello\n"))
    context = world.context("web-2")
    prepared = world.run(COMMAND.phases["prepare"](args(), context))
    result = world.run(COMMAND.phases["act"](args(), context))
    (change,) = world.changes
    assert isinstance(change, ChangeCommand)
    assert change.footprint() == frozenset(prepared.touches) == {"web-2: echo web-2"}
    assert (result.status, result.data["stdout"]) == ("ok", "hello\n")


def test_reading_makes_no_change() -> None:
    world = World(read=lambda _world, _effect: outcome(3, "", "\x1b[1mbad"))
    result = world.run(COMMAND.phases["act"](args(read_only=True), world.context("web-1")))
    assert (result.status, world.changes) == ("failed", [])
    assert "\x1b" not in result.summary


def test_exit_codes_of_ones_own() -> None:
    world = World(read=lambda _world, _effect: outcome(3))
    chosen = args(read_only=True, ok_exit_codes=[0, 3])
    assert world.run(COMMAND.phases["act"](chosen, world.context("web-1"))).status == "ok"


def test_a_lost_answer_is_unknown_and_not_tried_again() -> None:
    def lose(_world: World, _effect: Any) -> CommandOutcome:
        raise ConnectionLost("cut", hint="look")

    world = World(restart=lose)
    result = world.run(COMMAND.phases["act"](args(), world.context("web-1")))
    assert (result.status, len(world.changes)) == ("unknown", 1)
    assert result.by_hand == ("ssh oncall@10.0.1.1 echo web-1",)


def test_an_argv_that_names_an_unknown_var_is_told_before_anything() -> None:
    with pytest.raises(UsageError):
        COMMAND.targets(args(argv=["echo", "${host.vars.nope}"]), World().fleet)


@pytest.mark.parametrize(("sudo", "told"), [(True, "sudo touch x"), (False, "touch x")])
def test_what_runs_as_root_looks_like_it(sudo: bool, told: str) -> None:
    world, given = World(), args(argv=["touch", "x"], sudo=sudo)
    prepared = world.run(COMMAND.phases["prepare"](given, world.context("web-1")))
    assert prepared.touches == (f"web-1: {told}",)
    world.run(COMMAND.phases["act"](given, world.context("web-1")))
    assert [change.sentence() for change in world.changes] == [f"on web-1: {told}"]
