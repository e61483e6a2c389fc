"""What a look at a host's settings comes to, where somebody or a crash was there in between."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.model.effects import CommandOutcome
from runbook.model.host_files import sha256
from runbook.model.plan import Crashed
from runbook.model.setting_text import with_drop_in
from runbook.model.systemd import Unfit
from runbook.steps.rolling_args import RollingArgs, wanted
from runbook.steps.rolling_files import Looked, judged
from runbook.steps.rolling_settings import _still_as_shown, configuration_of, shown_settings
from runbook.steps.rolling_wanted import Wanted
from unit.steps.shop_world import fleet, outcome

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
