"""`pool apply`: an over-budget lab is tuned under load, proved, and put back."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from .command import QUICK, Command, Ran, starts
from .lab import DB, SHOP_SUDO, UNIT, Host, Lab, env_text, in_parallel, shop_environment
from .test_drain import Traffic, behind, failed

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@contextmanager
def users(lab: Lab, count: int = 1) -> Iterator[list[Traffic]]:
    """Users who ask the balancer without a pause for a page that needs the database."""
    threads = [Traffic(lab.db.balancer_port, "/ready") for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for thread in threads:
            thread.stop()


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


def run_of(ran: Ran) -> str:
    """The run that its last words name."""
    return ran.said.partition("--undo ")[2].split("`")[0]


def test_an_over_budget_lab_is_tuned_under_load_proved_and_put_back(
    shop: Lab, runbook: Command
) -> None:
    shop.start_haproxy(shop.db, checked=False)
    declare(runbook, drain=behind(shop.db))
    before = runbook("pool", "plan", DB, "--window", "0", "--format", "json").json()
    assert before["verdict"] == "over"
    proposed = before["services"][0]["proposed"]["size"]

    rehearsed = runbook(*APPLY, "--dry-run")
    assert f"POOL_SIZE {TOO_LARGE} -> {proposed}" in rehearsed.said
    assert sizes(shop) == [TOO_LARGE] * 3

    with users(shop) as asking:
        ran = runbook(*APPLY, "--yes")
    answers = [code for user in asking for code in user.answers]
    print(f"{len(answers)} requests, {len(failed(asking))} failed")
    assert answers
    assert failed(asking) == []
    assert sizes(shop) == [proposed] * 3
    assert f"and may hold {2 * proposed}" in ran.said
    assert f"services.shop.pool.size: {TOO_LARGE} -> {proposed}" in ran.said

    declare(runbook, pool={"processes": 2, "size": proposed}, drain=behind(shop.db))
    after = runbook("pool", "plan", DB, "--window", "0", "--format", "json").json()
    assert after["verdict"] in {"tight", "comfortable"}
    assert after["together"] <= after["slots"]["target"]
    assert "Nothing to apply" in runbook(*APPLY, "--yes").said

    runbook("pool", "apply", DB, "--undo", run_of(ran), "--yes")
    assert sizes(shop) == [TOO_LARGE] * 3


def test_killed_between_two_services_it_is_gone_on_with(shop: Lab, runbook: Command) -> None:
    """Two services on the lab's hosts: the one that shrinks comes first, whoever is named first."""
    shop_keys = json.loads(shop.inventory_yaml())["services"]["shop"]
    pool = {"pool": {"processes": 2, "size": TOO_LARGE}, "settings": SETTINGS, "gates": [READY]}
    back = {
        **shop_keys,
        **pool,
        "hosts": "app-3",
        "unit": UNIT,
        "rolling": QUICK,
    }
    runbook.declare(services={"shop": {**pool, "hosts": "app-1, app-2"}, "back": back})
    before = [starts(shop, host) for host in shop.apps]

    words: tuple[str, ...] = ("--set", "back.size=9", "--set", "shop.size=3", "--yes")
    alone = runbook(*APPLY, *words, code=3)
    assert "back: a batch of 1 of 1 hosts can never leave 1 healthy" in alone.said
    words = (*words, "-p", "min_available=0")
    running = runbook.start(*APPLY, *words)
    running.wait_for("app-3: configuring")
    running.process.kill()
    running.process.wait()
    run_id = runbook("runs", "show", "last", "--format", "json").json()["run"]["run_id"]
    assert sizes(shop)[:2] == [3, 3]

    runbook("runs", "resume", run_id, "--yes")
    assert sizes(shop) == [3, 3, 9]
    assert [starts(shop, host) - n for host, n in zip(shop.apps, before, strict=True)] == [1, 1, 1]
    runbook("pool", "apply", DB, "--undo", run_id, "--yes", "-p", "min_available=0")
    assert sizes(shop) == [TOO_LARGE] * 3


def test_what_is_refused_and_what_does_not_keep_to_it(shop: Lab, runbook: Command) -> None:
    beyond = runbook(*APPLY, "--set", "shop.size=9", "--yes", code=3)
    assert "54 connections may be opened, and 37 are usable" in beyond.said
    declare(runbook, settings={**SETTINGS, "overflow": None})
    nowhere = runbook(*APPLY, "--set", "shop.overflow=0", "--yes", code=2)
    assert "services.shop.settings has no overflow" in nowhere.said
    # A setting that the app does not read: restarted, well, and its peak is what it was.
    unread = {"size": {"env_file": ENV, "key": "POOL_SIZES"}}
    declare(runbook, hosts="app-1", rolling={**QUICK, "min_available": 0}, settings=unread)
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


def test_an_undo_takes_back_nothing_that_somebody_has_put_there_since(
    shop: Lab, runbook: Command
) -> None:
    ran = runbook(*APPLY, "--set", "shop.size=3", "--yes")
    edited = shop.apps[1]
    shop.exec(edited, ["sh", "-c", f"echo FEATURE_X=on >> {ENV}"])
    undo = ("pool", "apply", DB, "--undo", run_of(ran), "--yes")
    refused = runbook(*undo, code=3)
    assert "app-2" in refused.said
    assert "FEATURE_X=on" in shop.exec(edited, ["cat", ENV]).stdout
    assert sizes(shop) == [3, 3, 3]
    shop.exec(edited, ["sed", "-i", "/FEATURE_X/d", ENV])
    runbook(*undo)
    assert sizes(shop) == [TOO_LARGE] * 3


def test_what_the_hosts_have_unlike_the_inventory_is_in_the_sum(
    shop: Lab, runbook: Command
) -> None:
    drifted = shop.apps[2]
    shop.exec(drifted, ["sed", "-i", "s/MAX_OVERFLOW=.*/MAX_OVERFLOW=20/", ENV])
    # 2 hosts x 2 x 9, and 1 x 2 x (9 + 20): more than now.
    refused = runbook(*APPLY, "--set", "shop.size=9", "--yes", code=3)
    assert "94 connections may be opened, and 37 are usable" in refused.said


def test_a_size_is_not_written_over_what_is_no_number(shop: Lab, runbook: Command) -> None:
    declare(runbook, settings={"size": {"env_file": ENV, "key": "DATABASE_URL"}})
    refused = runbook(*APPLY, "--set", "shop.size=4", "--dry-run", code=3)
    assert "DATABASE_URL holds no whole number" in refused.said


def test_interrupted_in_its_look_it_changes_nothing(shop: Lab, runbook: Command) -> None:
    words = ("pool", "apply", DB, "--window", "20s", "--set", "shop.size=4", "--yes")
    running = runbook.start(*words)
    time.sleep(4)
    running.interrupt()
    running.finish(130)
    assert sizes(shop) == [TOO_LARGE] * 3
