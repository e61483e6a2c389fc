"""systemd's answers, row by row: what a restart really did."""

from __future__ import annotations

import pytest

from runbook.model.effects import UnitState
from runbook.model.systemd import (
    parse_show,
    parse_span,
    restart_argv,
    restart_problem,
    restart_timeout,
    running,
    standing,
    start_limit_hit,
    start_limit_warning,
    start_seconds,
    unit_name_problem,
)

UP = {
    "Id": "shop.service",
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "InvocationID": "new",
    "NRestarts": "0",
    "Type": "notify",
    "CanStart": "yes",
    "CanStop": "yes",
    "RefuseManualStart": "no",
    "RefuseManualStop": "no",
    "NeedDaemonReload": "no",
    "Result": "success",
}


def unit(**changed: str) -> UnitState:
    return UnitState(properties={**UP, **changed})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1min 30s", 90.0),
        ("100ms", 0.1),
        ("0", 0.0),
        ("1month 2d", 2802600.0),
        ("2h 5min", 7500.0),
        ("500us", 0.0005),
        ("infinity", None),
        ("", None),
        ("soon", None),
    ],
)
def test_spans_are_read_as_systemd_prints_them(text: str, seconds: float | None) -> None:
    assert parse_span(text) == pytest.approx(seconds)


def test_show_is_parsed_in_any_order_and_absent_properties_are_empty() -> None:
    state = parse_show("SubState=running\nLoadError=a=b\nnonsense\n")
    assert (state["SubState"], state["LoadError"], state["Job"]) == ("running", "a=b", "")


def test_a_restart_waits_for_stop_and_start_and_grace() -> None:
    assert restart_timeout(unit(TimeoutStopUSec="10s", TimeoutStartUSec="1min 30s")) == 115
    assert restart_timeout(unit(TimeoutStopUSec="10s", TimeoutStartUSec="infinity")) == 625


def test_the_restart_is_one_argv_without_further_flags() -> None:
    assert restart_argv("shop.service") == ("/usr/bin/systemctl", "restart", "shop.service")


@pytest.mark.parametrize("name", ["shop*", "--all", "-H", "a b", "", "shop.service;id", "a/b"])
def test_a_name_that_is_not_one_unit_is_refused(name: str) -> None:
    assert unit_name_problem(name) is not None


@pytest.mark.parametrize("name", ["shop", "shop.service", "app@1.service", "a\\x2db.service"])
def test_a_units_name_is_accepted(name: str) -> None:
    assert unit_name_problem(name) is None


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"LoadState": "masked"}, "is masked"),
        ({"LoadState": "not-found"}, "has no unit"),
        ({"LoadState": "bad-setting", "LoadError": '"bad line"'}, "bad line"),
        ({"Type": "", "Id": "shop.timer"}, "is no service"),
        ({"RefuseManualStop": "yes"}, "RefuseManualStop"),
        ({"RefuseManualStart": "yes"}, "RefuseManualStart"),
        ({"CanStart": "no"}, "CanStart"),
        ({"CanStop": "no"}, "CanStop"),
        ({"Job": "1234"}, "job 1234"),
        ({"NeedDaemonReload": "yes"}, "changed on disk"),
    ],
)
def test_what_must_not_be_restarted(changed: dict[str, str], says: str) -> None:
    unfit = restart_problem("shop.service", unit(**changed))
    assert unfit is not None
    assert says in unfit.problem
    assert unfit.hint


@pytest.mark.parametrize("changed", [{}, {"Job": "0"}, {"ActiveState": "failed"}])
def test_what_may_be_restarted(changed: dict[str, str]) -> None:
    assert restart_problem("shop.service", unit(**changed)) is None


CRASHED = {"ActiveState": "failed", "SubState": "failed", "Result": "exit-code"}
LOOPING = {"ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code"}


@pytest.mark.parametrize(
    ("changed", "verdict", "says"),
    [
        ({}, "up", "active/running"),
        ({"InvocationID": "old"}, "unchanged", "nothing was restarted"),
        # rc 0, and dead a moment later: Type=simple with /bin/false, or a missing binary.
        ({**CRASHED, "ExecMainStatus": "1"}, "down", "exit status 1"),
        ({**CRASHED, "ExecMainStatus": "203"}, "down", "missing or cannot be executed"),
        # Type=notify that hangs.
        ({**CRASHED, "Result": "timeout"}, "down", "timeout"),
        # A failed Condition: rc 0, inactive.
        (
            {"ActiveState": "inactive", "SubState": "dead", "ConditionResult": "no"},
            "down",
            "Condition",
        ),
        (
            {
                "InvocationID": "old",
                "ActiveState": "inactive",
                "SubState": "dead",
                "ConditionResult": "no",
            },
            "down",
            "Condition",
        ),
        # A crash loop, seen while it waits and while it runs.
        (LOOPING, "down", "crash loop"),
        ({"NRestarts": "2"}, "down", "crash loop"),
        # On the invocation from before, the counter tells old stories.
        ({"InvocationID": "old", "NRestarts": "7"}, "unchanged", "nothing"),
        ({**CRASHED, "Result": "start-limit-hit"}, "down", "start-limit-hit"),
        ({"LoadState": "masked"}, "down", "masked"),
        ({"LoadState": "not-found"}, "down", "not-found"),
        # A job under way, our own or somebody's.
        ({"Job": "77", "InvocationID": "old"}, "pending", ""),
        ({"ActiveState": "activating", "SubState": "start"}, "pending", "activating/start"),
        ({"ActiveState": "deactivating", "SubState": "stop-sigterm"}, "pending", ""),
        # Not every active unit runs.
        ({"SubState": "exited"}, "down", "active/exited"),
        ({"SubState": "exited", "Type": "oneshot"}, "up", "exited"),
        # An absent NRestarts: the InvocationID decides.
        ({"NRestarts": ""}, "up", ""),
    ],
)
def test_what_a_look_after_a_restart_proves(
    changed: dict[str, str], verdict: str, says: str
) -> None:
    found = standing(unit(**changed), "old")
    assert found.verdict == verdict
    assert says in found.text


def test_a_unit_that_was_down_has_no_identity_to_compare_with() -> None:
    assert standing(unit(), "").verdict == "up"


def test_running_means_running() -> None:
    assert running(unit())
    assert not running(unit(**LOOPING))


def test_a_start_limit_needs_reset_failed() -> None:
    assert start_limit_hit(unit(Result="start-limit-hit"))
    assert not start_limit_hit(unit())


def test_a_start_within_the_limits_interval_is_warned_of() -> None:
    limits = {"StartLimitBurst": "5", "StartLimitIntervalUSec": "10s"}
    state = unit(**limits, ActiveEnterTimestampMonotonic="100000000")
    assert "5 starts in 10s" in (start_limit_warning("shop.service", state, 104.0) or "")
    assert start_limit_warning("shop.service", state, 120.0) is None
    assert start_limit_warning("shop.service", unit(), 104.0) is None


def test_a_starts_length_is_from_exec_to_active() -> None:
    stamps = {
        "ExecMainStartTimestampMonotonic": "1000000",
        "ActiveEnterTimestampMonotonic": "3500000",
    }
    assert start_seconds(unit(**stamps)) == 2.5
    assert start_seconds(unit()) == 0
