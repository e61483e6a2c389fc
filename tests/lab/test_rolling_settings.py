"""A rolling restart that carries a new setting to each host, and takes it back where it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .command import Command, starts
from .lab import SHOP_SUDO, Host, Lab, in_parallel

if TYPE_CHECKING:
    from pathlib import Path

SH = "oncall ALL=(root) NOPASSWD: /usr/bin/sh"
RELOAD = "oncall ALL=(root) NOPASSWD: /usr/bin/systemctl daemon-reload"
ENV = "/etc/shop.env"
SETTINGS = {
    "size": {"env_file": ENV, "key": "POOL_SIZE"},
    "overflow": {"env_file": ENV, "key": "MAX_OVERFLOW"},
    "url": {"env_file": ENV, "key": "DATABASE_URL"},
}
READY = {"http": {"url": "http://${host.address}:${host.vars.health_port}/ready"}}


@pytest.fixture
def shop(lab: Lab) -> Lab:
    """The lab, with sudo rules for what settings need."""
    in_parallel(lambda host: lab.sudoers(host, SHOP_SUDO, SH, RELOAD), lab.apps)
    return lab


def declare(runbook: Command, **settings: Any) -> None:
    runbook.declare_shop(settings={**SETTINGS, **settings}, gates=[READY])


def playbook(folder: Path, **more: str) -> str:
    """A playbook of one's own that leads the connection string elsewhere."""
    text = "version: 1\nname: lead\ntarget: {kind: service}\nsteps:\n  - name: lead\n    rolling:\n"
    text += "      service: ${target}\n" + "".join(f"      {k}: {v}\n" for k, v in more.items())
    path = folder / "lead.yaml"
    path.write_text(text)
    return str(path)


def test_a_new_size_reaches_every_host_and_restore_takes_it_back(
    shop: Lab, runbook: Command
) -> None:
    declare(runbook)
    before = {host.name: starts(shop, host) for host in shop.apps}
    shown = runbook("run", "rolling-restart", "shop", "-p", "size=7", "--dry-run", code=0)
    assert "POOL_SIZE 5 -> 7" in shown.said
    assert {host.name: starts(shop, host) for host in shop.apps} == before
    ran = runbook("run", "rolling-restart", "shop", "-p", "size=7", "--yes")
    print(ran)
    assert [pool_size(shop, host) for host in shop.apps] == [7, 7, 7]


def pool_size(lab: Lab, host: Host) -> int:
    """What the app's own pool says of itself."""
    said = lab.http(host, "/pool").json()["status"]
    return int(said.partition("Pool size: ")[2].split()[0])
