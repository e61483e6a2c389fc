"""Rolling restarts of real units on real hosts: what systemd calls a success, and what is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from runbook.adapters.http_get import HttpDoor
from runbook.adapters.postgres import PostgresDoor
from runbook.adapters.ssh import SshDoor
from runbook.engine.drive import World, drive
from runbook.model.effects import (
    ChangeCommand,
    HttpGet,
    ReadCommand,
    ReadSql,
    RestartUnit,
    ShowUnit,
)
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.plan import Result, Task
from runbook.model.step import StepContext
from runbook.steps.rolling import ROLLING
from runbook.steps.rolling_args import RollingArgs

from .lab import Host, Lab, merged

#: Fast and strict: watched for two seconds, two good answers, ten seconds at most.
QUICK = {
    "settle": "2s",
    "gate": {"successes": 2, "interval": "200ms", "deadline": "10s"},
    "admit_deadline": "3s",
}


class Rig:
    """Doors onto the lab, and the phases of a rolling restart driven by the engine's driver."""

    def __init__(self, lab: Lab, *, rehearsal: bool, over: dict[str, Any]) -> None:
        rolling = {"services": {"shop": {"rolling": QUICK}}}
        document = merged(merged(lab.inventory(), rolling), over)
        self.fleet = Fleet(Inventory.model_validate(document))
        self.ssh = SshDoor(self.fleet, rehearsal=rehearsal)
        by_ssh = (ReadCommand, ShowUnit, RestartUnit, ChangeCommand)
        doors: dict[Any, Any] = dict.fromkeys(by_ssh, self.ssh)
        doors[HttpGet] = HttpDoor()
        self.sql = None
        if self.fleet.service("shop").database:
            self.sql = doors[ReadSql] = PostgresDoor(self.fleet, rehearsal=rehearsal)
        self.world = World(doors=doors, rehearsal=rehearsal)
        self.notices: list[str] = []

    def phase(self, name: str, target: str, **given: Any) -> Result:
        args = RollingArgs(service="shop")
        judge: Any = None
        context = StepContext(fleet=self.fleet, judge=judge, target=target, given=given)
        prepared = given.get("prepared")
        task = Task(
            key=f"roll/{name}/{target}",
            node="roll",
            verb="rolling",
            phase=name,
            target=target,
            args={},
            timeout_s=120,
            changes=name == "restart",
            given=given,
            shown=(f"{target}: sudo systemctl restart shop.service",) if prepared else (),
        )
        steps = ROLLING.phases[name](args, context)
        return drive(steps, task, self.world, lambda kind, _data: self.notices.append(kind))

    def roll(self, host: str) -> Result:
        looked = self.phase("preflight", host)
        assert looked.status == "ok", looked.summary
        return self.phase("restart", host, prepared=looked.data)


#: For tests of systemd and SSH alone.
NO_DATABASE: dict[str, Any] = {"services": {"shop": {"database": None}}}


@contextmanager
def rig(lab: Lab, *, rehearsal: bool = False, over: dict[str, Any] = NO_DATABASE) -> Iterator[Rig]:
    made = Rig(lab, rehearsal=rehearsal, over=over)
    try:
        yield made
    finally:
        made.ssh.close()
        if made.sql is not None:
            made.sql.close()


def first(lab: Lab) -> Host:
    return lab.apps[0]


def test_a_restart_is_proved_by_the_invocation_and_both_gates(lab: Lab) -> None:
    host = first(lab)
    before = lab.invocation_id(host)
    with rig(lab, over={}) as made:
        result = made.roll(host.name)
    assert result.status == "ok", result.summary
    assert result.data["invocation_before"] == before
    assert result.data["invocation_after"] == lab.invocation_id(host) != before
    assert result.data["old_backends"] == 0


def test_a_rehearsal_looks_at_everything_and_restarts_nothing(lab: Lab) -> None:
    before = [lab.invocation_id(host) for host in lab.apps]
    with rig(lab, rehearsal=True) as made:
        results = [made.roll(host.name) for host in lab.apps]
    assert {result.status for result in results} == {"rehearsed"}
    assert [lab.invocation_id(host) for host in lab.apps] == before


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("crash_loop", {"crash loop"}),
        # It lives for a moment: on a busy host the first look may find it already dead, or not yet.
        ("dies_at_once", {"did not come back", "did not stay"}),
        ("deaf", {"health gate did not pass"}),
        ("hanging_start", {"exited with 1"}),
        ("missing_binary", {"missing or cannot be executed"}),
        ("failed_condition", {"Condition"}),
    ],
)
def test_what_systemctl_may_call_a_success(lab: Lab, way: str, says: set[str]) -> None:
    host = first(lab)
    with rig(lab) as made:
        looked = made.phase("preflight", host.name)
        assert looked.status == "ok", looked.summary
        lab.spoil(host, way)
        result = made.phase("restart", host.name, prepared=looked.data)
    assert result.status == "failed"
    assert any(each in result.summary for each in says), result.summary
    assert any("journalctl" in line for line in result.by_hand)


def test_preflight_refuses_a_masked_unit(lab: Lab) -> None:
    host = first(lab)
    lab.spoil(host, "masked")
    with rig(lab) as made:
        result = made.phase("preflight", host.name)
    assert (result.status, "masked" in result.summary) == ("refused", True), result.summary


def test_preflight_refuses_a_unit_that_is_not_there(lab: Lab) -> None:
    over = merged(NO_DATABASE, {"services": {"shop": {"unit": "shpo.service"}}})
    with rig(lab, over=over) as made:
        result = made.phase("preflight", first(lab).name)
    assert result.status == "refused"
    assert "systemd has no unit shpo.service" in result.summary


def test_preflight_wants_sudo_proved(lab: Lab) -> None:
    host = first(lab)
    rule = "/usr/bin/systemctl restart shop.service"
    # The trap: a rule that wants a password, beside any other that does not.
    lab.sudoers(host, f"oncall ALL=(root) PASSWD: {rule}", "oncall ALL=(root) NOPASSWD: /bin/true")
    with rig(lab) as made:
        result = made.phase("preflight", host.name)
    assert result.status == "refused"
    assert f"oncall ALL=(root) NOPASSWD: {rule}" in result.hint


def test_sudo_taken_away_after_preflight_is_told_as_such(lab: Lab) -> None:
    host = first(lab)
    before = lab.invocation_id(host)
    with rig(lab) as made:
        looked = made.phase("preflight", host.name)
        lab.sudoers(host)
        result = made.phase("restart", host.name, prepared=looked.data)
    assert result.status == "failed"
    assert "sudo refused" in result.summary
    assert lab.invocation_id(host) == before


def test_admission_counts_real_health(lab: Lab) -> None:
    names = [host.name for host in lab.apps]
    with rig(lab) as made:
        given = {"batch": names[:1], "hosts": names, "min_available": 2}
        assert made.phase("admit", "shop", **given).status == "ok"
        lab.break_health(lab.apps[1])
        denied = made.phase("admit", "shop", **given)
    assert denied.status == "failed"
    assert names[1] in denied.summary


def test_a_host_whose_network_is_gone(lab: Lab) -> None:
    host = first(lab)
    ssh = {"hosts": {host.name: {"ssh": {"connect_timeout": "1s"}}}}
    lab.cut_network(host)
    try:
        with rig(lab, over=merged(NO_DATABASE, ssh)) as made:
            result = made.phase("preflight", host.name)
    finally:
        lab.restore_network(host)
    assert result.status == "unreachable"
