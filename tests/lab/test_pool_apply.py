"""`pool apply`: an over-budget lab is tuned under load, proved, and put back."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from .lab import DB, SHOP_SUDO, Host, Lab, env_text, in_parallel, shop_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .command import Command

SH = "oncall ALL=(root) NOPASSWD: /usr/bin/sh"
ENV = "/etc/shop.env"
SETTINGS = {
    "size": {"env_file": ENV, "key": "POOL_SIZE"},
    "overflow": {"env_file": ENV, "key": "MAX_OVERFLOW"},
}
READY = {"http": {"url": "http://${host.address}:${host.vars.health_port}/ready"}}
APPLY = ("pool", "apply", DB, "--window", "0", "--watch", "1s")
#: 3 hosts x 2 processes x 8 = 48, of 37 usable.
TOO_LARGE = 8


@dataclass
class Clients:
    """Keep asking every app server, one after the other; note what failed, and where."""

    asked: int = 0
    failed: dict[str, list[float]] = field(default_factory=dict)


@contextmanager
def load(lab: Lab) -> Iterator[Clients]:
    """A client for each app server that asks for a page that needs the database."""
    clients, stop, lock = Clients(), threading.Event(), threading.Lock()

    def ask(host: Host) -> None:
        while not stop.is_set():
            status = lab.http(host, "/ready", timeout=5).status
            with lock:
                clients.asked += 1
                if status != 200:
                    clients.failed.setdefault(host.name, []).append(time.monotonic())
            time.sleep(0.02)

    threads = [threading.Thread(target=ask, args=(host,)) for host in lab.apps]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.fixture
def shop(lab: Lab, runbook: Command) -> Lab:
    """The lab with pools that are too large, and sudo rules for what settings need."""

    def enlarge(host: Host) -> None:
        lab.sudoers(host, SHOP_SUDO, SH)
        lab.put(host, ENV, env_text({**shop_environment(host), "POOL_SIZE": str(TOO_LARGE)}))
        lab.exec(host, ["systemctl", "restart", "shop.service"])

    in_parallel(enlarge, lab.apps)
    lab.wait_ready()
    declare(runbook)
    return lab


def declare(runbook: Command, **keys: Any) -> None:
    pool = {"processes": 2, "size": TOO_LARGE}
    runbook.declare_shop(**{"settings": SETTINGS, "gates": [READY], "pool": pool, **keys})


def size(lab: Lab, host: Host) -> int:
    """What the app's own pool says of itself."""
    said = lab.http(host, "/pool").json()["status"]
    return int(said.partition("Pool size: ")[2].split()[0])


def sizes(lab: Lab) -> list[int]:
    return [size(lab, host) for host in lab.apps]


def longest_gap(times: list[float]) -> float:
    """Seconds from a host's first failed request to its last."""
    return max(times) - min(times)


def test_an_over_budget_lab_is_tuned_under_load_proved_and_put_back(
    shop: Lab, runbook: Command
) -> None:
    before = runbook("pool", "plan", DB, "--window", "0", "--format", "json").json()
    assert before["verdict"] == "over"
    proposed = before["services"][0]["proposed"]["size"]

    rehearsed = runbook(*APPLY, "--dry-run")
    assert f"POOL_SIZE {TOO_LARGE} -> {proposed}" in rehearsed.said
    assert sizes(shop) == [TOO_LARGE] * 3

    with load(shop) as clients:
        ran = runbook(*APPLY, "--yes")
    print(ran, clients.asked, {name: len(times) for name, times in clients.failed.items()})
    assert sizes(shop) == [proposed] * 3
    assert f"and may hold {2 * proposed}" in ran.said
    assert f"services.shop.pool.size: {TOO_LARGE} -> {proposed}" in ran.said
    run_id = ran.said.partition("--undo ")[2].split("`")[0]

    declare(runbook, pool={"processes": 2, "size": proposed})
    after = runbook("pool", "plan", DB, "--window", "0", "--format", "json").json()
    assert after["verdict"] in {"tight", "comfortable"}
    assert after["together"] <= after["slots"]["target"]
    again = runbook(*APPLY, "--yes")
    assert "Nothing to apply" in again.said

    runbook("pool", "apply", DB, "--undo", run_id, "--yes")
    assert sizes(shop) == [TOO_LARGE] * 3


def test_what_is_refused_and_what_does_not_keep_to_it(shop: Lab, runbook: Command) -> None:
    beyond = runbook(*APPLY, "--set", "shop.size=9", "--yes", code=3)
    assert "54 connections may be opened, and 37 are usable" in beyond.said
    declare(runbook, settings={**SETTINGS, "overflow": None})
    nowhere = runbook(*APPLY, "--set", "shop.overflow=0", "--yes", code=2)
    assert "services.shop.settings has no overflow" in nowhere.said
    # A setting that the app does not read: restarted, well, and its peak is what it was.
    declare(runbook, settings={"size": {"env_file": ENV, "key": "POOL_SIZES"}})
    app = shop.apps[0]
    with holding(shop, app, 2 * TOO_LARGE):
        over = runbook(*APPLY, "--set", "shop.size=2", "--yes", code=1)
    assert "over the new size: shop on app-1 held" in over.said
    assert "--undo" in over.said


@contextmanager
def holding(lab: Lab, host: Host, count: int) -> Iterator[None]:
    """Fill a host's pools again and again: after a restart as well."""
    stop = threading.Event()

    def fill() -> None:
        while not stop.is_set():
            lab.http(host, f"/warm?n={count // 2}", "POST")

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
