"""The fleet: what a limit narrows, and what it must not."""

from __future__ import annotations

import pytest

from runbook.model.errors import UsageError
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.steps.rolling_args import RollingArgs, freeze, targets


def _fleet(limit: str | None = None) -> Fleet:
    inventory = Inventory.model_validate(
        {
            "version": 1,
            "hosts": {f"web-{n}": {"groups": ["web", f"rack{n % 2}"]} for n in range(1, 7)}
            | {"db-1": {"groups": ["db"]}},
            "services": {"shop": {"hosts": "web", "rolling": {"min_available": "50%"}}},
        }
    )
    return Fleet(inventory).limited(limit)


def test_every_selection_is_within_the_limit() -> None:
    fleet = _fleet("rack1, db")
    assert fleet.select("web") == ("web-1", "web-3", "web-5")
    assert fleet.select("all") == ("web-1", "web-3", "web-5", "db-1")


def test_a_service_stays_as_large_as_it_is() -> None:
    fleet = _fleet("web-2")
    assert len(fleet.service_hosts("shop")) == len(fleet.whole("web")) == 6
    assert fleet.beyond_limit("web") == ("web-1", "web-3", "web-4", "web-5", "web-6")


def test_a_rolling_restart_keeps_up_half_of_the_whole_service() -> None:
    fleet, args = _fleet("web-2, web-3"), RollingArgs(service="shop")
    assert targets(args, fleet) == ("web-2", "web-3")
    assert freeze(args, fleet)["min_available"] == 3
    assert sum(freeze(args, fleet)["batches"]) == 2


def test_a_limit_that_leaves_nothing_is_an_error() -> None:
    with pytest.raises(UsageError, match="--limit db leaves none of the 6 hosts that 'web'") as e:
        _fleet("db").select("web")
    assert e.value.hint is not None
    assert "web-1, web-2, web-3, web-4 and 2 more" in e.value.hint


def test_a_limit_that_cannot_be_read_is_told_at_once() -> None:
    with pytest.raises(UsageError, match="neither a host nor a group"):
        _fleet("wbe")


def test_no_limit_is_everything() -> None:
    assert len(_fleet().select("all")) == 7
    assert _fleet().beyond_limit("all") == ()
