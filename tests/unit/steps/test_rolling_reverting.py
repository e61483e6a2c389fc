"""A host that does not come back healthy with its new settings, step by step of its way back."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.model.effects import ChangeCommand, CommandOutcome, HttpReply, PutFile, ReadCommand
from runbook.model.errors import ConnectionLost, Unreachable
from runbook.model.host_files import MOVED_ON, sha256
from runbook.model.plan import Result
from runbook.steps.rolling_args import RollingArgs
from runbook.steps.rolling_host import restart
from runbook.steps.rolling_preflight import preflight
from runbook.steps.rolling_wanted import Put
from unit.steps.shop_world import LISTING, World, answer, fleet, outcome, read_well

ENV = "/etc/shop.env"
BACKUP = f"{ENV}.runbook-"
BEFORE = "POOL_SIZE=10\nDATABASE_URL=postgres://u:s3cret@db/x\n"
AFTER = BEFORE.replace("=10", "=4")
ARGS = RollingArgs(service="shop", put=Put(size=4))
SETTINGS = {"size": {"env_file": ENV, "key": "POOL_SIZE"}}


class Files(World):
    """A world whose hosts keep files; the app is ill with 4 connections."""

    def __init__(self, **more: Any) -> None:
        super().__init__(fleet=fleet(settings=SETTINGS), **more)
        self.files = {ENV: BEFORE}
        self.read = lambda _world, effect: self.look(effect)
        self.restart = lambda _world, effect: self.make(effect)
        self.get = lambda _world, _url: self.health()
        self.running = BEFORE
        self.started = 0

    def look(self, effect: ReadCommand) -> CommandOutcome:
        if effect.argv[0] == "pgrep":
            return outcome(1)
        if effect.argv[0] != "sh":
            return read_well(effect)
        text = self.files.get(effect.argv[4])
        if text is None:
            return outcome(0, "absent\n")
        return outcome(0, f"file 640 root:root 1 {sha256(text)}\n{text}")

    def make(self, effect: Any) -> CommandOutcome:
        if isinstance(effect, PutFile):
            old = self.files[effect.path]
            if sha256(old) != effect.expected:
                return outcome(MOVED_ON, stderr=f"{effect.path} has changed")
            if effect.backup:
                self.files.setdefault(effect.backup, old)
            self.files[effect.path] = effect.content
            return outcome(0)
        assert not isinstance(effect, ChangeCommand)
        self.running = self.files[ENV]
        self.started += 1
        return self.restart_well(effect.host, InvocationID=f"start {self.started}")

    def health(self) -> HttpReply:
        return answer(500 if "=4\n" in self.running else 200)


def go(world: Files, crashed: dict[str, Any] | None = None) -> Result:
    looked = Files()
    looked.stop = world.stop
    prepared = looked.run(preflight(ARGS, looked.context("web-1")))
    assert prepared.status == "ok", prepared
    given = {"prepared": prepared.data} | ({"crashed": crashed} if crashed else {})
    result = world.run(restart(ARGS, world.context("web-1", **given)))
    # What people confirmed is all that may be touched.
    made = {line for change in world.changes for line in change.footprint()}
    assert made <= set(prepared.touches)
    for text in (repr(prepared), repr(result), repr(world.notes), repr(world.said)):
        assert "s3cret" not in text
    return result


def told(world: Files) -> list[str]:
    return [change.sentence().removeprefix("on web-1: sudo ") for change in world.changes]


WRITE, RESTART = f"write {ENV}", "systemctl restart shop.service"


def test_the_old_setting_comes_back_and_the_host_is_healthy_and_it_failed() -> None:
    world = Files()
    result = go(world)
    assert told(world) == [WRITE, RESTART, WRITE, RESTART]
    assert world.files == {ENV: BEFORE, BACKUP: BEFORE}
    assert result.status == "failed"
    assert "the health gate did not pass" in result.summary
    assert "is put back as it was, and the host is healthy again" in result.summary
    assert result.data["settings"]["state"] == "put back"
    assert result.data["settings"]["healthy_again"] is True
    assert [each["stage"] for each in result.data["stages"]][-2:] == ["gating", "reverting"]


def test_a_host_that_is_ill_with_its_old_setting_too_is_told_so() -> None:
    world = Files()
    world.get = lambda _world, _url: answer(500)
    result = go(world)
    assert told(world) == [WRITE, RESTART, WRITE, RESTART]
    assert world.files[ENV] == BEFORE
    assert "is put back as it was, and the host is not healthy" in result.summary
    assert result.data["settings"]["healthy_again"] is False


def test_a_file_that_somebody_edits_meanwhile_is_not_overwritten() -> None:
    world = Files()
    edited = f"{AFTER}# mine\n"

    def health(_world: World, _url: str) -> HttpReply:
        world.files[ENV] = edited
        return answer(500)

    world.get = health
    result = go(world)
    assert told(world) == [WRITE, RESTART]
    assert world.files[ENV] == edited
    assert f"somebody has changed {ENV} meanwhile" in result.summary
    assert any(f"cp -p {BACKUP}" in line for line in result.by_hand)


def test_what_was_edited_since_preflight_is_neither_written_nor_restarted() -> None:
    world = Files()
    world.files[ENV] = f"{BEFORE}# mine\n"
    result = go(world)
    assert (told(world), result.status) == ([], "failed")
    assert f"nothing was restarted: {ENV} has changed since it was shown" in result.summary


def test_a_restart_that_says_no_while_the_old_process_runs_is_not_followed_by_another() -> None:
    world = Files()
    make = world.make

    def refuse(effect: Any) -> CommandOutcome:
        return make(effect) if isinstance(effect, PutFile) else outcome(1, stderr="sudo: no")

    world.restart = lambda _world, effect: refuse(effect)
    result = go(world)
    assert told(world) == [WRITE, RESTART, WRITE]
    assert world.files[ENV] == BEFORE
    assert "sudo refused" in result.summary
    assert "healthy again" in result.summary


def test_a_host_that_cannot_be_seen_is_left_as_it_is() -> None:
    world = Files()
    make = world.make

    def gone(world: Files, effect: Any) -> CommandOutcome:
        if isinstance(effect, PutFile):
            return make(effect)
        world.show = _unreachable
        raise ConnectionLost("web-1: the connection was lost")

    world.restart = lambda _world, effect: gone(world, effect)
    result = go(world)
    assert (told(world), result.status) == ([WRITE, RESTART], "unknown")
    assert world.files[ENV] == AFTER
    assert f"{ENV} may hold the new setting there" in result.summary
    assert any(f"cp -p {BACKUP}" in line for line in result.by_hand)


def _unreachable(_world: World, host: str) -> Any:
    raise Unreachable(f"{host}: no connection")


@pytest.mark.parametrize("arrived", [True, False])
def test_a_write_whose_answer_was_lost_is_looked_for_and_not_repeated(arrived: bool) -> None:
    world = Files()
    world.get = lambda _world, _url: answer(200)
    make = world.make
    lost: list[Any] = []

    def lose(effect: Any) -> CommandOutcome:
        if isinstance(effect, PutFile) and not lost:
            lost.append(effect)
            if arrived:
                make(effect)
            raise ConnectionLost("web-1: the connection was lost")
        return make(effect)

    world.restart = lambda _world, effect: lose(effect)
    result = go(world)
    assert told(world) == ([WRITE, RESTART] if arrived else [WRITE])
    assert result.status == ("ok" if arrived else "failed")
    assert world.files[ENV] == (AFTER if arrived else BEFORE)


def test_who_stops_the_run_before_the_restart_gets_the_file_back() -> None:
    world = Files()
    world.stop = lambda _world: world.files[ENV] == AFTER
    result = go(world)
    assert told(world) == [WRITE, WRITE]
    assert world.files[ENV] == BEFORE
    assert result.data["interrupted"] is True
    assert world.notes["settings"] is None


# ---- after a crash: what the notes say, and what the host says

CONFIGURING: dict[str, Any] = {
    "stage": "configuring",
    "restart_intended": False,
    "settings": {"written": [ENV]},
}
RESTARTING = {
    **CONFIGURING,
    "restart_intended": True,
    "before": "first",
    "fingerprint": {"InvocationID": "first", "ConditionTimestampMonotonic": ""},
    "boot_id": "boot-1",
    "exit_code": None,
}
REVERTING = {
    **RESTARTING,
    "reverting": {"stage": "gating", "before": "first", "asked": True},
    "restart_intended": False,
}
AGAIN = {
    **REVERTING,
    "restart_intended": True,
    "before": "ill",
    "fingerprint": {"InvocationID": "ill", "ConditionTimestampMonotonic": ""},
}


def crash(notes: dict[str, Any]) -> dict[str, Any]:
    return {"intended": ("something",), "changed": (), "notes": notes, "result": None}


@pytest.mark.parametrize(
    ("notes", "now", "runs", "process", "made"),
    [
        # Nothing written yet; written, and not restarted; restarted with the new setting.
        (CONFIGURING, BEFORE, BEFORE, "first", [WRITE, RESTART, WRITE, RESTART]),
        (CONFIGURING, AFTER, BEFORE, "first", [RESTART, WRITE, RESTART]),
        (RESTARTING, AFTER, BEFORE, "first", [RESTART, WRITE, RESTART]),
        (RESTARTING, AFTER, AFTER, "ill", [WRITE, RESTART]),
        # On the way back: nothing yet; the file; the second restart asked for; and made.
        (REVERTING, AFTER, AFTER, "ill", [WRITE, RESTART]),
        (REVERTING, BEFORE, AFTER, "ill", [RESTART]),
        (AGAIN, BEFORE, AFTER, "ill", [RESTART]),
        (AGAIN, BEFORE, BEFORE, "well", []),
    ],
)
def test_a_later_process_does_what_is_left_and_nothing_twice(
    notes: dict[str, Any], now: str, runs: str, process: str, made: list[str]
) -> None:
    world = Files()
    world.files = {ENV: now, BACKUP: BEFORE}
    world.running = runs
    world.unit("web-1")["InvocationID"] = process
    result = go(world, crash(notes))
    assert told(world) == made
    assert world.files == {ENV: BEFORE, BACKUP: BEFORE}
    assert world.running == BEFORE
    assert result.status == "failed"
    assert "healthy" in result.summary
    assert result.data["settings"]["healthy_again"] is True


def test_who_says_that_it_is_to_be_done_again_has_it_begun_anew() -> None:
    world = Files()
    world.files = {ENV: BEFORE, BACKUP: BEFORE}
    world.get = lambda _world, _url: answer(200)
    world.unit("web-1")["InvocationID"] = "well"
    result = go(world, crash(AGAIN) | {"intended": ()})
    assert (told(world), result.status) == ([WRITE, RESTART], "ok")
    assert world.notes["reverting"] is None


def test_a_backup_that_is_not_what_the_file_was_is_not_put_back() -> None:
    world = Files()
    world.files = {ENV: AFTER, BACKUP: "POOL_SIZE=1\n"}
    world.running = AFTER
    world.unit("web-1")["InvocationID"] = "ill"
    result = go(world, crash(RESTARTING))
    assert told(world) == []
    assert f"{BACKUP} is not what {ENV} was before this step" in result.summary


# ---- preflight


def test_preflight_shows_the_value_and_the_way_back_and_no_secret() -> None:
    world = Files()
    result = world.run(preflight(ARGS, world.context("web-1")))
    lines = [line.removeprefix("web-1: ") for line in result.touches]
    assert lines[0].startswith(f"sudo write {ENV} (POOL_SIZE 10 -> 4, sha256 {sha256(AFTER)[:12]}")
    assert lines[1] == f"sudo keep what {ENV} was as {BACKUP}"
    assert lines[2] == "sudo systemctl restart shop.service"
    assert sha256(BEFORE)[:12] in lines[3]
    assert "if web-1 does not come back healthy" in lines[3]
    assert result.data["settings"]["diff"].splitlines()[2:] == ["-POOL_SIZE=10", "+POOL_SIZE=4"]
    assert "s3cret" not in repr(result)


def test_preflight_wants_the_reload_of_a_drop_in_proved() -> None:
    world = Files()
    world.fleet = fleet(settings={"size": {"environment": "POOL_SIZE"}})
    result = world.run(preflight(ARGS, world.context("web-1")))
    assert result.status == "refused"
    assert "/usr/bin/systemctl daemon-reload" in result.hint
    assert "daemon-reload" not in LISTING


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "there is no such file"), ("export POOL_SIZE=5\n", "as shells write it")],
)
def test_preflight_refuses_what_it_cannot_set(text: str | None, says: str) -> None:
    world = Files()
    world.files = {} if text is None else {ENV: text}
    result = world.run(preflight(ARGS, world.context("web-1")))
    assert (result.status, says in result.summary) == ("refused", True), result


def test_preflight_tells_that_sudo_refuses_the_look() -> None:
    world = Files()
    look = world.look

    def refused(effect: ReadCommand) -> CommandOutcome:
        no = outcome(1, stderr="sudo: a password is required")
        return no if effect.argv[0] == "sh" else look(effect)

    world.read = lambda _world, effect: refused(effect)
    result = world.run(preflight(ARGS, world.context("web-1")))
    assert result.status == "refused"
    assert "a password is required" in result.summary
    assert "sudo -n sh" in result.hint
