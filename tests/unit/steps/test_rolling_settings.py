"""What a look at a host's settings comes to, where somebody or a crash was there in between."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.model.effects import CommandOutcome, PutFile, ReadCommand
from runbook.model.fleet import Fleet
from runbook.model.host_files import sha256
from runbook.model.inventory import Inventory
from runbook.model.plan import Crashed
from runbook.model.setting_text import with_drop_in
from runbook.model.systemd import Unfit
from runbook.steps.rolling_args import RollingArgs, shared_file, wanted
from runbook.steps.rolling_files import Looked, judged
from runbook.steps.rolling_host import restart
from runbook.steps.rolling_journey import Trouble
from runbook.steps.rolling_settings import _still_as_shown, configuration_of, shown_settings
from runbook.steps.rolling_wanted import Put, Wanted
from unit.steps.shop_world import World, fleet, outcome, read_well

SETTINGS = {
    "size": {"env_file": "/etc/shop.env", "key": "POOL_SIZE"},
    "url": {"env_file": "/etc/shop.env", "key": "DATABASE_URL"},
    "overflow": {"environment": "OVERFLOW"},
}
BEFORE = "POOL_SIZE=10\nDATABASE_URL=postgres://u:old@db/x\nFEATURE=off\n"
PUT = BEFORE.replace("=10", "=4")
DROP_IN = with_drop_in(None, "OVERFLOW", "3", "R1")


def back() -> Wanted:
    world = fleet(settings=SETTINGS)
    args = RollingArgs(service="shop", restore="R1")
    found = wanted(args, world.service("shop"), world.host("web-1"), world)
    assert found is not None
    return found


def looked(*texts: str | None) -> Looked | Unfit:
    """Env file and drop-in as they are; then their backups."""
    return judged(back(), [seen(text) for text in texts], "R2")


def seen(text: str | None) -> CommandOutcome:
    if text is None:
        return outcome(0, "absent\n")
    return outcome(0, f"file 640 root:root 1 {sha256(text)}\n{text}")


@pytest.mark.parametrize("now", [PUT, BEFORE, PUT.replace("@db/", "@bouncer:6432/")])
def test_what_a_run_has_put_is_put_back(now: str) -> None:
    found = looked(now, None, BEFORE, None)
    assert isinstance(found, Looked)
    assert [wish.new for wish in found.wishes] == [BEFORE]


@pytest.mark.parametrize(
    "edited",
    [
        PUT.replace(":old@", ":rotated@"),
        PUT.replace("off", "on"),
        f"{PUT}NEW=1\n",
        PUT.replace("FEATURE=off\n", ""),
        f"# {PUT}",
    ],
)
def test_what_somebody_has_changed_since_that_run_is_not_taken_back_unseen(edited: str) -> None:
    found = looked(edited, None, BEFORE, None)
    assert isinstance(found, Unfit)
    assert "changed since run R1" in found.problem
    assert "/etc/shop.env.runbook-R1" in found.problem


def test_a_drop_in_that_an_earlier_process_has_removed_was_not_removed_by_somebody() -> None:
    shown = looked(BEFORE, DROP_IN, BEFORE, None)
    assert isinstance(shown, Looked)
    path = back().places[1].path
    prepared = {"settings": shown_settings(shown)}
    notes: dict[str, Any] = {"settings": {"written": [path]}}
    crashed = Crashed(intended=("remove it",), changed=(), notes=notes, result=None)
    config = configuration_of(back(), prepared, "R2", crashed)
    assert config is not None
    after = looked(BEFORE, None, BEFORE, None)
    assert _still_as_shown(config, after, ()) == []
    fresh = configuration_of(back(), prepared, "R2", None)
    assert fresh is not None
    assert not isinstance(_still_as_shown(fresh, after, ()), list)


APART: list[tuple[dict[str, Any], str, str | None]] = [
    ({"env_file": "/etc/app.env", "key": "WORKER_POOL"}, "web", "shop and worker keep theirs in"),
    ({"env_file": "/etc/app.env", "key": "SHOP_POOL"}, "web", None),
    ({"env_file": "/etc/worker.env", "key": "WORKER_POOL"}, "web", None),
    ({"env_file": "/etc/app.env", "key": "WORKER_POOL"}, "other", None),
]


@pytest.mark.parametrize(("setting", "hosts", "says"), APART)
def test_two_services_whose_values_share_a_file_are_told_beforehand(
    setting: dict[str, Any], hosts: str, says: str | None
) -> None:
    world = two_services(setting, hosts)
    each = [RollingArgs(service=name, put=Put(size=4)) for name in ("shop", "worker")]
    told = shared_file(each, world)
    assert (told is None) == (says is None)
    assert (told or "").startswith(says or "")


def two_services(setting: dict[str, Any], hosts: str = "web") -> Fleet:
    shop = {"size": {"env_file": "/etc/app.env", "key": "SHOP_POOL"}}
    document = fleet(settings=shop).inventory.model_dump(
        mode="json", exclude_unset=True, by_alias=True
    )
    worker = {"hosts": hosts, "unit": "worker.service", "settings": {"size": setting}}
    document["services"]["worker"] = worker
    return Fleet(Inventory.model_validate(document))


def test_what_an_earlier_step_of_the_run_has_changed_is_not_laid_to_somebody_alone() -> None:
    text = "SHOP_POOL=10\nWORKER_POOL=10\n"
    world = two_services({"env_file": "/etc/app.env", "key": "WORKER_POOL"})
    args = RollingArgs(service="worker", put=Put(size=4))
    worker = wanted(args, world.service("worker"), world.host("web-1"), world)
    assert worker is not None
    shown = judged(worker, [seen(text)], "R")
    assert isinstance(shown, Looked)
    config = configuration_of(worker, {"settings": shown_settings(shown)}, "R", None)
    assert config is not None
    after_shop = judged(worker, [seen(text.replace("SHOP_POOL=10", "SHOP_POOL=4"))], "R")
    trouble = _still_as_shown(config, after_shop, ())
    assert isinstance(trouble, Trouble)
    assert "an earlier step of this run" in trouble.hint


def test_whoever_leaves_a_restart_in_flight_is_told_how_its_settings_go_back() -> None:
    settings = {"size": {"env_file": "/etc/shop.env", "key": "POOL_SIZE"}}
    texts = [BEFORE]

    def read(_world: World, effect: ReadCommand) -> CommandOutcome:
        return seen(texts[0]) if effect.argv[0] == "sh" else read_well(effect)

    world = World(fleet=fleet(settings=settings), read=read)
    kept: list[Any] = []

    def hang(world: World, effect: Any) -> CommandOutcome:
        if isinstance(effect, PutFile):
            texts[0] = effect.content
            return outcome(0)
        kept.extend(world.notes["by_hand"])
        return world.restart_well(effect.host)

    world.restart = hang
    args = RollingArgs(service="shop", put=Put(size=4))
    of_web_1 = wanted(args, world.fleet.service("shop"), world.fleet.host("web-1"), world.fleet)
    assert of_web_1 is not None
    shown = judged(of_web_1, [seen(BEFORE)], "")
    assert isinstance(shown, Looked)
    prepared = {"timeouts": {"restart_s": 115.0}, "settings": shown_settings(shown)}
    result = world.run(restart(args, world.context("web-1", prepared=prepared)))
    assert result.status == "ok", result
    assert "cp -p /etc/shop.env.runbook-" in kept[0]
    assert kept[0].endswith("# the first that this run kept of it")
    assert any("systemctl restart" in line for line in kept[1:])
