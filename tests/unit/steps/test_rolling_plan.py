"""What a rolling restart freezes before anything is touched."""

from __future__ import annotations

import pytest

from runbook.model.errors import UsageError
from runbook.steps.rolling import ROLLING
from runbook.steps.rolling_args import RollingArgs, batch_sizes, freeze, settings, targets
from unit.steps.shop_world import fleet


@pytest.mark.parametrize(
    ("amounts", "total", "sizes"),
    [
        (("1", "25%"), 4, (1, 1, 1, 1)),
        (("1", "25%"), 12, (1, 3, 3, 3, 2)),
        (("29%",), 100, (29, 29, 29, 13)),
        (("1%",), 3, (1, 1, 1)),
        (("100%",), 7, (7,)),
        (("10",), 4, (4,)),
        (("1", "2", "3"), 9, (1, 2, 3, 3)),
    ],
)
def test_batches_cover_every_host_and_the_last_entry_repeats(
    amounts: tuple[str, ...], total: int, sizes: tuple[int, ...]
) -> None:
    assert batch_sizes(amounts, total) == sizes


def test_the_floor_is_rounded_up() -> None:
    frozen = freeze(RollingArgs(service="shop", min_available="51%"), fleet())
    assert frozen == {"batches": (1, 1, 1, 1), "min_available": 3, "max_failures": 0}


def test_hosts_narrow_the_service() -> None:
    assert targets(RollingArgs(service="shop", hosts="web-2, web-1"), fleet()) == ("web-1", "web-2")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"service": "shpo"}, "no service named 'shpo'"),
        ({"service": "shop", "hosts": "web-1, other"}, "does not run on other"),
        ({"service": "shop", "hosts": "!all"}, "selects no host"),
        ({"service": "shop", "max_hosts": 3}, "4 hosts are selected"),
    ],
)
def test_a_wrong_selection_is_told_before_anything(args: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        targets(RollingArgs.model_validate(args), fleet())


def test_the_smaller_bound_wins() -> None:
    with pytest.raises(UsageError, match="more than 2"):
        targets(RollingArgs(service="shop", max_hosts=10), fleet(max_hosts=2))
    own = fleet(rolling={"max_failures": 1}).service("shop")
    assert settings(RollingArgs(service="shop", max_failures=5), own).max_failures == 1
    assert settings(RollingArgs(service="shop", max_failures=0), own).max_failures == 0


@pytest.mark.parametrize(
    "url", ["ftp://x/", "http://${host.address}:99999/", "localhost:80", "http://"]
)
def test_a_gate_that_is_no_url_is_told_before_anything(url: str) -> None:
    with pytest.raises(UsageError, match="cannot be used"):
        freeze(RollingArgs(service="shop"), fleet(gates=[{"http": {"url": url}}]))


def test_a_gate_that_names_an_unknown_var_is_told_before_anything() -> None:
    gates = [{"http": {"url": "http://${host.vars.nope}/"}}]
    with pytest.raises(UsageError, match="not known"):
        freeze(RollingArgs(service="shop"), fleet(gates=gates))


def test_arguments_win_over_the_inventory_and_round_trip() -> None:
    args = RollingArgs.model_validate(
        {"service": "shop", "settle": "0s", "gate": {"successes": 1}, "batches": 2}
    )
    args = RollingArgs.model_validate(args.model_dump(mode="json"))
    chosen = settings(args, fleet().service("shop"))
    assert (chosen.settle, chosen.gate.successes, chosen.gate.interval) == (0, 1, 1)
    assert chosen.batches == ("2",)


def test_the_lock_is_the_services() -> None:
    assert ROLLING.lock(RollingArgs(service="shop")) == "service shop"
